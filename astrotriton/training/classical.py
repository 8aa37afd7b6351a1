"""What the network is measured against: SEP with a PSF kernel, and the matched filter."""

import numpy as np
import sep
from scipy import ndimage

from astrotriton.detection.arrays import Image, Mask, Positions, Values
from astrotriton.detection.quality.evaluation import Sample
from astrotriton.detection.sources.centroids import PER_FWHM
from astrotriton.detection.sources.peaks import suppress

SEP_THRESHOLDS = (2.5, 3.0, 3.5, 4.0, 5.0)  # sigma
_MATCHED_FILTER_THRESHOLD = 4.0


def sep_sources(
    significance: Image, mask: Mask, fwhm: float, threshold: float
) -> tuple[Positions, Values]:
    """Sources of SEP's matched filter with a Gaussian kernel as wide as the field's own PSF.

    They are ranked by the peak of the filtered image, which ranks them better than their flux.

    Returns
    -------
    positions, score
        float64 (N, 2), pixels, and float64 (N,).
    """
    half = int(np.ceil(1.5 * fwhm))
    grid = np.arange(-half, half + 1.0)
    kernel = np.exp(-0.5 * (grid[:, None] ** 2 + grid**2) * (PER_FWHM / fwhm) ** 2)
    found = sep.extract(
        significance,
        threshold,
        err=np.ones_like(significance),
        mask=mask,
        minarea=3,
        filter_kernel=kernel,
        filter_type="matched",
    )
    return np.stack([found["x"], found["y"]], axis=1), found["cpeak"].astype(np.float64)


def matched_filter_peaks(significance: Image, fwhm: float) -> tuple[Positions, Values]:
    """Local maxima of the response of a Gaussian of the PSF's width, from 4 sigma on.

    In white noise nothing linear does better; the score is the response in sigma.
    """
    sigma = fwhm / PER_FWHM
    # Reflected at the edges, the noise there would count twice.
    smooth = ndimage.gaussian_filter(significance, sigma, mode="constant")
    response = smooth * 2.0 * np.sqrt(np.pi) * sigma
    peaks = (response == ndimage.maximum_filter(response, 3)) & (
        response > _MATCHED_FILTER_THRESHOLD
    )
    rows, columns = np.nonzero(peaks)
    score = response[rows, columns].astype(np.float64)
    best = np.argsort(-score)
    positions = np.stack([columns, rows], axis=1).astype(np.float64)[best]
    # Bumps of the noise on the wings of a source are that source.
    alone = suppress(positions, 2.0 * fwhm) == np.arange(len(positions))
    return positions[alone], score[best][alone]


def best_threshold(samples: dict[float, Sample]) -> float:
    """The SEP threshold of the highest average precision."""
    return max(samples, key=lambda threshold: samples[threshold].average_precision())
