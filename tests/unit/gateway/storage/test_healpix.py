"""Cells of the sky."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from astrotriton.gateway.storage.healpix import cells, cone


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
