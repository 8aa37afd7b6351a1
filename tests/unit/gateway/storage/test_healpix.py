"""Cells of the sky."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from astrotriton.gateway.storage.healpix import cells, cone, enclosing


@pytest.mark.parametrize(
    ("ra", "dec"), [(0.0, 0.0), (359.9999, 41.81), (12.0, 90.0), (77.0, -89.9999), (180.0, -30.0)]
)
@pytest.mark.parametrize("radius", [1e-5, 1 / 3600, 0.05, 2.0])
def test_a_cone_holds_every_position_within_it(ra, dec, radius):
    rng = np.random.default_rng(3)
    centre = SkyCoord(ra * u.deg, dec * u.deg)
    near = centre.directional_offset_by(
        rng.uniform(0, 360, 500) * u.deg, radius * 0.999 * np.sqrt(rng.uniform(0, 1, 500)) * u.deg
    )
    found = np.array(cells(near.ra.deg, near.dec.deg))
    first, last = (np.array(ends) for ends in cone(ra, dec, radius))
    inside = (found[:, None] >= first) & (found[:, None] <= last)
    assert inside.any(axis=1).all()
    assert len(first) < 40


def test_a_cone_holds_little_else():
    rng = np.random.default_rng(4)
    centre = SkyCoord(40 * u.deg, 60 * u.deg)
    far = centre.directional_offset_by(rng.uniform(0, 360, 500) * u.deg, 0.5 * u.deg)
    found = np.array(cells(far.ra.deg, far.dec.deg))
    first, last = (np.array(ends) for ends in cone(40.0, 60.0, 0.1))
    assert not ((found[:, None] >= first) & (found[:, None] <= last)).any()


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.99, -66.0), (120.0, 90.0), (10.0, -90.0)])
def test_a_circle_holds_all_positions_and_little_more(ra, dec):
    rng = np.random.default_rng(1)
    here = SkyCoord(ra * u.deg, dec * u.deg)
    places = here.directional_offset_by(
        rng.uniform(0, 360, 50) * u.deg, rng.uniform(0, 0.1, 50) * u.deg
    )
    circle = enclosing(places.ra.deg, places.dec.deg)
    centre = SkyCoord(circle[0] * u.deg, circle[1] * u.deg)
    assert centre.separation(places).max().deg <= circle[2] < 0.2


def test_positions_on_all_sides_are_in_the_whole_sky():
    assert enclosing([], []) is None
    assert enclosing([0.0, 180.0], [0.0, 0.0]) == (0.0, 0.0, 180.0)
    assert enclosing([5.0], [-5.0]) == pytest.approx((5.0, -5.0, 0.0), abs=1e-8)
