"""A survey's exposures, measured with the champion's help."""

import msgspec
import numpy as np
import pytest

from astrotriton.adaptation.survey import Label, UnfitError, measure_exposure
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.seeing import Seeing
from tests.unit.adaptation.conftest import FWHM, NOISE, PSF


def exposure_of(pixels, **companions):
    made = Exposure.from_array(pixels)
    made.seeing = Seeing(FWHM, "header")
    made.companions |= {one: Exposure.from_array(image) for one, image in companions.items()}
    return made


def test_what_may_be_real_is_unusable_in_every_image(pixels, card, predict):
    science = np.random.default_rng(9).normal(100.0, NOISE, pixels.shape).astype(np.float32)
    found = measure_exposure("e1", exposure_of(pixels, science=science), card, predict)
    assert found.unknown >= 2
    assert found.fwhm == FWHM
    for image in (found.image, found.companions["science"]):
        for x, y in ((60, 80), (140, 40)):
            assert np.isnan(image[y - 3 : y + 4, x - 3 : x + 4]).all()
        assert np.isfinite(image).mean() > 0.8
    assert len(found.transients) == 0


def test_a_label_says_what_is_there(pixels, card, predict):
    labels = [Label(60.4, 79.8, True), Label(139.8, 40.3, True), Label(20.0, 20.0, True)]
    found = measure_exposure("e1", exposure_of(pixels), card, predict, labels)
    assert np.isfinite(found.image[80, 60])
    np.testing.assert_allclose(found.transients.positions[:2, 0], [60.4, 139.8])
    assert found.transients.polarity[:2].tolist() == [1, -1]
    assert (found.transients.snr[:2] > 50).all()


def test_an_artefact_by_label_stays_and_is_no_transient(pixels, card, predict):
    found = measure_exposure("e1", exposure_of(pixels), card, predict, [Label(60, 80, False)])
    assert np.isfinite(found.image[80, 60])
    assert len(found.transients) == 0


def test_noise_and_flux_are_those_of_the_exposure(card, predict):
    rng = np.random.default_rng(5)
    pixels = rng.normal(0.0, NOISE, (300, 300)).astype(np.float32)
    found = measure_exposure("e1", exposure_of(pixels), card, predict)
    assert found.sigma == pytest.approx(NOISE, rel=0.1)
    assert np.median(found.noise) == pytest.approx(1.0, abs=0.05)


def test_an_exposure_without_point_sources_or_seeing_is_refused(card, predict):
    pixels = np.random.default_rng(6).normal(0.0, NOISE, (200, 200)).astype(np.float32)
    with pytest.raises(UnfitError, match="e1: nothing says how wide"):
        measure_exposure("e1", Exposure.from_array(pixels), card, predict)


def test_an_exposure_without_noise_is_refused(card, predict):
    with pytest.raises(UnfitError, match="e1: exposure"):
        measure_exposure("e1", exposure_of(np.zeros((100, 100), np.float32)), card, predict)


def test_a_science_image_is_refused(card, predict):
    rng = np.random.default_rng(7)
    pixels = rng.normal(0.0, NOISE, (500, 500))
    for x, y in rng.uniform(10, 490, (200, 2)):
        PSF.add(pixels, x, y, 3000.0, 20)
    # The stand-in has no confidence of its own to be wrong: everything bright is sure.
    sure = msgspec.structs.replace(
        card.confidence,
        weights=tuple(float(name == "peak_logit") for name in card.confidence.names),
        intercept=5.0,
    )
    trusting = msgspec.structs.replace(card, confidence=sure)
    with pytest.raises(UnfitError, match="does not look like a difference"):
        measure_exposure("e1", exposure_of(pixels.astype(np.float32)), trusting, predict)
