from dataclasses import replace

import numpy as np
import pytest

from astrotriton.detection.image.preprocess import Normalisation, normalise
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.psf import DoubleGaussian, Moffat
from astrotriton.simulation.recipe import ARTEFACTS, NOISE_ONLY, Recipe
from astrotriton.training.calibrate import transients_of
from astrotriton.training.crops import POLARITIES, target

SMALL = Recipe(shape=(256, 256))
LONE = replace(
    NOISE_ONLY, transients=(40, 40), snr=(40.0, 40.0), bright=0.0, fading=0.5, separation=30.0
)


def test_the_same_seed_gives_the_same_field() -> None:
    first, second = simulate(3, SMALL), simulate(3, SMALL)
    np.testing.assert_array_equal(first.difference, second.difference)
    assert first.truth == second.truth
    assert not np.array_equal(first.science, simulate(4, SMALL).science)


def test_a_field_has_everything_in_it() -> None:
    kinds = {source.kind for seed in range(8) for source in simulate(seed, ARTEFACTS).truth}
    assert kinds == {
        "transient",
        "dipole",
        "cosmic_ray",
        "trail",
        "bad_column",
        "saturated",
    }


def test_noise_only_is_white_with_transients() -> None:
    field = simulate(1, NOISE_ONLY)
    assert {source.kind for source in field.truth} == {"transient"}
    assert np.isfinite(field.difference).all()


@pytest.mark.parametrize("seed", range(4))
def test_transients_have_the_snr_that_truth_says(seed: int) -> None:
    """The response of the PSF in white noise is the SNR that was asked for."""
    field = simulate(seed, replace(LONE, fwhm=(3.0, 6.5)))
    clear = np.zeros(field.difference.shape, bool)
    prepared = normalise(field.difference, clear, Normalisation())
    significance, _, _ = prepared.piece(slice(0, clear.shape[0]), slice(0, clear.shape[1]))
    y, x = np.mgrid[: clear.shape[0], : clear.shape[1]]
    measured = []
    for source in field.of_kind("transient"):
        psf = Moffat(field.fwhm, 3.5, 0.92)(x - source.x, y - source.y)
        response = (psf * significance).sum() / np.sqrt((psf**2).sum())
        measured.append(source.polarity * response)
    # A PSF that is only about right loses a little.
    assert 0.85 < np.median(measured) / 40.0 < 1.05


def test_the_difference_is_science_less_template_where_no_psf_is_matched() -> None:
    field = simulate(2, LONE)
    rest = field.difference - (field.science - field.template)
    # What is left is the sky's offset and slope.
    y, x = np.mgrid[: rest.shape[0], : rest.shape[1]]
    plane = np.stack([np.ones(rest.size), x.ravel(), y.ravel()], axis=1)
    sky = plane @ np.linalg.lstsq(plane, rest.ravel(), rcond=None)[0]
    noise = np.std(field.difference)
    assert np.abs(rest.ravel() - sky).max() < 1e-2 * noise


def test_all_images_lack_the_same_pixels_and_the_template_has_its_own_noise() -> None:
    field = simulate(5, replace(SMALL, gaps=(2, 2)))
    missing = np.isnan(field.difference)
    assert missing.any()
    np.testing.assert_array_equal(np.isnan(field.science), missing)
    np.testing.assert_array_equal(np.isnan(field.template), missing)
    assert 0.0 < _sigma(field.template) < _sigma(field.science)


def test_transients_come_in_every_brightness_of_both_signs_and_on_hosts() -> None:
    truth = [one for seed in range(12) for one in simulate(seed, SMALL).of_kind("transient")]
    snr = np.array([one.snr for one in truth])
    assert snr.min() < 5.0
    assert (snr > 1000.0).mean() > 0.05
    assert 0.35 < np.mean([one.polarity for one in truth] == np.array(1)) < 0.65
    assert {one.host for one in truth} == {"", "star", "galaxy"}
    assert any(one.saturated for one in truth)


def test_resampled_noise_is_correlated_and_uneven_noise_steps() -> None:
    quiet = replace(NOISE_ONLY, shape=(256, 256), transients=(0, 0))
    smooth = simulate(1, replace(quiet, resampled=1.0)).difference
    white = simulate(1, quiet).difference
    assert _neighbours(smooth) > 0.1 > 0.05 > abs(_neighbours(white))
    uneven = [simulate(seed, replace(quiet, uneven=1.0)).difference for seed in range(6)]
    ratios = [_halves(image) for image in uneven]
    assert max(ratios) > 1.3
    assert _halves(white) < 1.1


def _neighbours(image: np.ndarray) -> float:
    """Correlation of the noise of neighbours, whatever the slope of the background."""
    return float(1.0 - np.var(image[:, 1:] - image[:, :-1]) / np.var(image[:, 4:] - image[:, :-4]))


def _halves(image: np.ndarray) -> float:
    noise = np.diff(image, axis=1)
    parts = np.array([part.std() for half in (0, 1) for part in np.array_split(noise, 2, half)])
    return float(parts.max() / parts.min())


def test_target_is_a_disc_round_each_transient() -> None:
    field = simulate(2, SMALL)
    wanted = target(transients_of(field), field.difference.shape)
    for source in field.of_kind("transient"):
        assert wanted[round(source.y), round(source.x), POLARITIES.index(source.polarity)] == 1
    assert (
        8 * len(field.of_kind("transient")) < wanted.sum() <= 14 * len(field.of_kind("transient"))
    )


@pytest.mark.parametrize(
    "psf", [Moffat(4.0, 4.0), DoubleGaussian(4.0, 0.0), DoubleGaussian(4.0, 0.4, 3.0)], ids=repr
)
def test_psf_has_unit_flux_and_its_width(psf: Moffat | DoubleGaussian) -> None:
    grid = np.arange(-60.0, 61.0)
    image = psf(*np.meshgrid(grid, grid))
    assert image.sum() == pytest.approx(1.0, abs=0.01)
    half = psf(np.array([2.0]), np.array([0.0])) / psf(np.array([0.0]), np.array([0.0]))
    # Of a double Gaussian it is the core's width, which the halo adds a little to.
    assert half[0] == pytest.approx(0.5, abs=0.03)


def _sigma(image: np.ndarray) -> float:
    """Of the noise: from neighbours, which share their sky."""
    return float(np.nanmedian(np.abs(np.diff(image, axis=1))))
