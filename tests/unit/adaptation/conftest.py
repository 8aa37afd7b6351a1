"""Exposures of a survey whose noise and point sources are known."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import expit

from astrotriton.adaptation.survey import SurveyExposure
from astrotriton.detection.quality.transients import Transients
from astrotriton.simulation.psf import Moffat
from astrotriton.training.weights import load_card

FWHM, NOISE = 3.0, 5.0
PSF = Moffat(FWHM, 3.5)


@pytest.fixture(scope="session")
def card():
    return load_card()


@pytest.fixture(scope="session")
def predict():
    """Stands in for the network: what a smoothed image has above 2 sigma, of either sign."""

    def answer(tiles):
        smooth = ndimage.gaussian_filter(3.0 * np.sinh(tiles[:, 0]), (0, 1.0, 1.0))
        return np.stack([expit(4.0 * (sign * smooth - 2.0)) for sign in (1, -1)], 1).astype("f4")

    return answer


@pytest.fixture
def pixels():
    """White noise with a bright source that brightens, at (60, 80), and one that fades."""
    image = np.random.default_rng(3).normal(10.0, NOISE, (160, 200))
    PSF.add(image, 60.0, 80.0, 4000.0, 20)
    PSF.add(image, 140.0, 40.0, -4000.0, 20)
    return image.astype(np.float32)


@pytest.fixture
def exposure():
    """One in which nothing is, measured."""
    rng = np.random.default_rng(4)
    shape = (300, 400)
    images = [rng.normal(0.0, NOISE, shape).astype(np.float32) for _ in range(3)]
    return SurveyExposure(
        name="e1",
        image=images[0],
        companions={"science": images[1], "template": images[2]},
        fwhm=FWHM,
        companions_fwhm={"science": FWHM, "template": FWHM},
        sigma=NOISE,
        noise=np.ones(shape, np.float32),
        transients=Transients.of(np.empty((0, 2)), np.empty(0)),
        unknown=0,
    )
