"""Compiling ahead of the first exposure."""

import numpy as np

from astrotriton.detection.image.cutouts import cut_out
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.normalisation import Normalisation
from astrotriton.detection.image.preprocess import normalise
from astrotriton.detection.sources.centroids import DEFAULT_FWHM, centroids
from astrotriton.detection.sources.measurements import filter_responses, measure, noise_correlation
from astrotriton.detection.sources.peaks import find_peaks
from astrotriton.detection.sources.psf import Stars, psf_of_sources, recentred
from astrotriton.detection.sources.psf_fluxes import psf_fluxes
from astrotriton.detection.sources.spots import NOISE_RADIUS, Surroundings


def warm_up() -> None:
    """Have everything compiled that is: seconds the first time, and less than one after it."""
    image = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    image[32, 32] = 100.0
    mask = np.zeros(image.shape, bool)
    normalised = normalise(image, mask, Normalisation())
    everywhere = slice(0, 64)
    significance, mask, saturated = normalised.piece(everywhere, everywhere)
    probability = np.clip(normalised.view(significance), 0.0, 1.0)
    positions, _ = find_peaks(probability, mask, 0.5, 1.0)
    around = Surroundings(significance, mask, saturated)
    positions, flags = centroids(significance, mask, positions, around.polarity(positions))
    count = len(positions)
    nobody = np.full(count, -1)
    spots = around.read(
        probability[None, None],
        (1,),
        positions,
        (0, 0),
        nobody,
        nobody,
        np.zeros(count),
        flags,
    )
    stamps = around.stamps(positions).astype(np.float16)
    correlation = noise_correlation(
        filter_responses(around.stamps(positions, NOISE_RADIUS), DEFAULT_FWHM)
    )
    measure(spots, stamps, DEFAULT_FWHM, correlation)
    stars = Stars(stamps.astype(np.float32), np.zeros((count, 2)), np.zeros(count))
    psf = psf_of_sources(stars, 1.0, said=None, enough=True)
    recentred(stars, psf)
    noise, local = around.noise_stamps(positions).astype(np.float16), np.ones(count)
    psf_fluxes(stamps, noise, positions, local, psf, correlation)
    cut_out(Exposure.from_array(image), [(32.0, 32.0)], 0.0, 1.0)
