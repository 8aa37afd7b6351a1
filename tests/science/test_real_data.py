"""Real exposures with something known to be true of each; see ../shared/data/README.md."""

from collections.abc import Callable

import numpy as np
import pytest

from astrotriton.detection.card import UNetModel
from astrotriton.detection.image.exposure import Exposure, read_exposure
from astrotriton.detection.image.preprocess import Normalised
from astrotriton.detection.image.wcs import SkyOfWcs
from astrotriton.detection.quality.evaluation import Sample
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.scoring.score import Scored, prepare_exposure
from astrotriton.detection.sources.measurements import filter_responses, noise_correlation
from astrotriton.simulation.psf import Moffat
from astrotriton.wire.detections import Candidate, Detection
from tests.science.conftest import Predict, real

pytestmark = pytest.mark.science

DIPOLES = ((60, 181), (3.5, 125), (100, 72), (103, 233))


def near(result: Scored, x: float, y: float) -> Detection:
    kept = [d for d in result.detections if d.outcome == "kept"]
    return min(kept, key=lambda d: np.hypot(d.x - x, d.y - y))


@pytest.mark.parametrize("name", ["decam_difference", "decam_difference_decorrelated"])
def test_decam_transient_is_real_and_dipoles_are_not(
    score: Callable[..., Scored], name: str
) -> None:
    asked = [Candidate(id=f"dipole-{i}", x=x, y=y) for i, (x, y) in enumerate(DIPOLES)]
    result = score(real(f"difference/{name}.fits"), asked)
    best = result.detections[0]
    assert np.hypot(best.x - 128.9, best.y - 127.7) < 2
    assert best.ra is not None
    assert best.dec is not None
    offset = np.hypot((best.ra - 318.10823) * np.cos(np.radians(best.dec)), best.dec + 66.01572)
    assert offset * 3600 < 0.5
    assert best.confidence is not None
    assert best.confidence > 0.85
    dipoles = [d for d in result.detections if (d.candidate_id or "").startswith("dipole")]
    assert len(dipoles) == 4
    for dipole in dipoles:
        assert dipole.confidence is not None
        assert dipole.confidence < 0.5


def test_transients_injected_into_a_real_difference_are_found(
    score: Callable[..., Scored], card: UNetModel
) -> None:
    """Two frames of one field between which nothing changed: 60 point sources of SNR 10 to 1000."""
    first, second = (
        read_exposure(real(f"difference/aligned_eso085-030-00{i}.fit")).image()[0].astype(float)
        for i in (4, 5)
    )
    clean = score(first - second)
    rng = np.random.default_rng(20)
    psf = Moffat(3.6, 3.5)  # as wide as the frames' stars
    grid = np.arange(-30.0, 31.0)
    tiled = prepare_exposure(Exposure.from_array(first - second), card, [])
    nothing = np.zeros((1, *card.output.shape[1:]), np.float32)
    tiled.answer(lambda _: nothing, 1)
    correlation = noise_correlation(filter_responses(tiled.noise(), psf.fwhm))
    noise = tiled.normalised.noise * correlation.scatter
    per_flux = np.sqrt(np.sum(psf(*np.meshgrid(grid, grid)) ** 2)) / noise
    truth = rng.uniform([10, 10], [1013, 671], size=(60, 2))
    snr = np.exp(rng.uniform(np.log(10.0), np.log(1000.0), size=60))
    for (x, y), one in zip(truth, snr, strict=True):
        psf.add(first, x, y, one / per_flux, 25)
    result = score(first - second)
    kept = [d for d in result.detections if d.outcome == "kept"]
    sample = Sample.of_field(
        np.array([(d.x, d.y) for d in kept]),
        np.array([d.confidence for d in kept]),
        Transients.of(truth, snr),
    )
    tiles = first.size / 512**2
    false = sample.false_positives_per_field(0.5) / tiles
    print(f"completeness {sample.completeness(0.5):.3f}, {false:.2f} false positives a tile")
    assert sample.completeness(0.5) >= 0.95
    assert false <= 1.0
    assert sum(d.is_real for d in clean.detections) / tiles <= 1.0


def test_gaia_stars_are_where_gaia_says(score: Callable[..., Scored]) -> None:
    from astropy.io import fits

    name = "decam/testcase4__c4d_170316_062107_ooi_z_ls9.N2.fits"
    content = real(name)
    exposure = read_exposure(content)
    assert isinstance(exposure.sky_of, SkyOfWcs)
    real("decam/gaia_testcase4_03586.fits")
    from tests.science.conftest import DATA

    with fits.open(DATA / "decam/gaia_testcase4_03586.fits") as hdus:
        stars = np.stack([hdus[1].data["ra"], hdus[1].data["dec"]], axis=1).astype(float)
    x, y = exposure.sky_of.wcs.all_world2pix(stars, 0, quiet=True).T
    height, width = exposure.shape
    inside = (x > 5) & (x < width - 5) & (y > 5) & (y < height - 5)
    assert inside.sum() == 3
    # Two pixels beside: the position must come from the pixels, not from the candidate.
    asked = [
        Candidate(id=str(i), x=float(x[i]) + 1.0, y=float(y[i]) - 1.0)
        for i in np.flatnonzero(inside)
    ]
    result = score(content, asked)
    for i in np.flatnonzero(inside):
        found = min(
            (d for d in result.detections if d.ra is not None),
            key=lambda d: np.hypot(d.x - x[i], d.y - y[i]),
        )
        offset = (found.ra - stars[i, 0]) * np.cos(np.radians(stars[i, 1])), found.dec - stars[i, 1]
        assert np.hypot(*offset) * 3600 < 0.2


def test_background_and_rms_agree_with_sextractor(card: UNetModel) -> None:
    exposure = read_exposure(real("science/sep_ntt/image.fits"))
    prepared = Normalised(exposure.pixels, exposure.shape, card.normalisation)
    level, rms = prepared.maps(slice(0, 256), slice(0, 256))
    their_level = read_exposure(real("science/sep_ntt/back.fits")).image()[0]
    their_rms = read_exposure(real("science/sep_ntt/rms.fits")).image()[0]
    assert np.abs(level - their_level).max() < 0.2 * their_rms.mean()
    assert np.std(level - their_level) < 0.05 * their_rms.mean()
    np.testing.assert_allclose(rms, their_rms, rtol=0.07)


@pytest.mark.parametrize("name", ["ccd.fits", "h1413_blank.fits"])
def test_odd_but_readable_files_are_scored(score: Callable[..., Scored], name: str) -> None:
    result = score(real(f"oddities/{name}"))
    assert all(d.outcome != "kept" or d.confidence is not None for d in result.detections)


def test_predict_is_what_is_served(predict: Predict, card: UNetModel) -> None:
    answer = predict(np.zeros((2, 1, *card.tile_size), np.float32))
    assert answer.shape == (2, *card.output.shape[1:])
    assert answer.max() < 0.5
