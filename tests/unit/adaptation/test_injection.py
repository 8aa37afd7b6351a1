"""Transients of known truth in a survey's exposures."""

from dataclasses import replace

import numpy as np
import pytest

from astrotriton.adaptation.injection import Injection, hosts_of, inject, pieces
from astrotriton.detection.quality.labelled import LabelledField
from astrotriton.detection.quality.transients import Transients
from tests.unit.adaptation.conftest import NOISE, PSF

NO_HOSTS = np.empty((0, 2))


def test_they_have_the_snr_that_the_truth_says(exposure):
    how = Injection(bright=1.0, bright_snr=(20.0, 400.0), per_tile=(60, 60), apart=8.0)
    made = inject(np.random.default_rng(1), exposure, how, NO_HOSTS)
    grid = np.arange(-12, 13)
    found = []
    for (x, y), polarity in zip(made.transients.positions, made.transients.polarity, strict=True):
        row, column = round(y), round(x)
        if not (12 <= row < 288 and 12 <= column < 388):
            found.append(np.nan)
            continue
        stamp = made.image[row - 12 : row + 13, column - 12 : column + 13]
        profile = PSF(*np.meshgrid(grid - (x - column), grid - (y - row)))
        found.append(polarity * np.sum(stamp * profile) / NOISE / np.sqrt(np.sum(profile**2)))
    ratio = np.array(found) / made.transients.snr
    assert np.count_nonzero(np.isfinite(ratio)) > 10
    # A filter of another shape than the drawn one loses a few per cent.
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=0.05)


def test_what_brightens_is_in_science_and_what_fades_is_in_the_template(exposure):
    how = Injection(bright=1.0, bright_snr=(200.0, 300.0), per_tile=(40, 40), apart=8.0)
    made = inject(np.random.default_rng(2), exposure, how, NO_HOSTS)
    assert set(made.transients.polarity.tolist()) == {1, -1}
    for (x, y), polarity in zip(made.transients.positions, made.transients.polarity, strict=True):
        here = round(y), round(x)
        assert np.sign(made.image[here]) == polarity
        there, not_there = ("science", "template") if polarity > 0 else ("template", "science")
        assert made.companions[there][here] > 10 * NOISE
        assert abs(made.companions[not_there][here]) < 6 * NOISE


def test_the_exposure_is_left_as_it_is_and_the_seed_says_all(exposure):
    before = exposure.image.copy()
    one, other = (inject(np.random.default_rng(3), exposure, Injection(), NO_HOSTS) for _ in "ab")
    np.testing.assert_array_equal(exposure.image, before)
    np.testing.assert_array_equal(one.image, other.image)


def test_never_where_a_pixel_is_unusable_nor_near_another(exposure):
    image = exposure.image.copy()
    image[:, :200] = np.nan
    labelled = Transients.of(np.array([[300.0, 150.0]]), np.array([20.0]))
    given = replace(exposure, image=image, transients=labelled)
    made = inject(np.random.default_rng(4), given, Injection(per_tile=(60, 60)), NO_HOSTS)
    positions = made.transients.positions
    assert (positions[:, 0] > 199).all()
    assert len(positions) > 5
    np.testing.assert_array_equal(positions[-1], [300.0, 150.0])
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    assert distance[~np.eye(len(positions), dtype=bool)].min() >= 3.0 * exposure.fwhm


def test_some_lie_on_what_the_science_image_shows(exposure):
    science = exposure.companions["science"].astype(float)
    stars = np.array([(x, y) for x in range(40, 400, 60) for y in range(40, 300, 60)], float)
    for x, y in stars:
        PSF.add(science, x, y, 2000.0, 20)
    given = replace(exposure, companions={"science": science.astype(np.float32)})
    assert len(hosts_of(given)) == pytest.approx(len(stars), abs=2)  # noise peaks, too
    how = Injection(per_tile=(40, 40), on_source=1.0)
    made = inject(np.random.default_rng(5), given, how, stars)
    assert made.transients.hosted.all()
    distance = np.linalg.norm(made.transients.positions[:, None] - stars[None], axis=2).min(axis=1)
    assert np.median(distance) < exposure.fwhm


def test_noise_that_differs_asks_for_more_flux(exposure):
    noisier = replace(exposure, noise=np.full_like(exposure.noise, 3.0))
    how = Injection(snr=(50.0, 50.0), bright=0.0, fading=0.0)
    peaks = [
        np.nanmax(inject(np.random.default_rng(6), one, how, NO_HOSTS).image)
        for one in (exposure, noisier)
    ]
    assert peaks[1] > 2.0 * peaks[0]


def test_pieces_hold_every_transient_once_where_it_is():
    image = np.arange(700 * 1100, dtype=np.float32).reshape(700, 1100)
    positions = np.random.default_rng(7).uniform((0, 0), (1099, 699), (200, 2))
    field = LabelledField(
        image, Transients.of(positions, np.full(200, 9.0)), {"science": image + 0.5}
    )
    found = list(pieces(field))
    assert [one.image.shape for one in found] == [(700, 550), (700, 550)]
    assert sum(len(one.transients) for one in found) == 200
    for one in found:
        columns, rows = np.rint(one.transients.positions).astype(int).T
        x, y = positions[
            [np.abs(positions[:, 1] - place[1]).argmin() for place in one.transients.positions]
        ].T
        expected = np.rint(y) * 1100 + np.rint(x)
        inside = (columns < one.image.shape[1]) & (rows < one.image.shape[0])
        np.testing.assert_array_equal(one.image[rows, columns][inside], expected[inside])
        np.testing.assert_array_equal(one.companions["science"], one.image + 0.5)
