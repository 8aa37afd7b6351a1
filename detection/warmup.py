"""Compiling ahead of the first exposure."""

import numpy as np

from detection.centroids import DEFAULT_FWHM, centroids
from detection.peaks import find_peaks
from detection.quality import Correlation, measure
from detection.spots import Surroundings


def warm_up() -> None:
    """Have everything compiled that is: seconds the first time, and less than one after it."""
    image, mask = np.zeros((64, 64), np.float32), np.zeros((64, 64), bool)
    image[32, 32] = 1.0
    positions, _ = find_peaks(image, mask, 0.5, 1.0)
    positions, flags = centroids(image, mask, positions)
    around = Surroundings(image, mask, mask, image[None])
    spots = around.read(positions, (0, 0), np.zeros(1, np.intp), np.zeros(1), flags)
    stamps = around.stamps(positions).astype(np.float16)
    measure(spots, stamps, DEFAULT_FWHM, Correlation(1.0, 0.0))
