"""Peaks of a probability map, and non-maximum suppression."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from detection.background import Image, Mask

Positions = NDArray[np.float64]

# A confident network answers a plateau of ones: smoothing by a pixel gives it one summit.
_SMOOTHING = 1.0
_CENTROID_RADIUS = 3


def find_peaks(
    probability: Image, mask: Mask, threshold: float, radius: float
) -> tuple[Positions, NDArray[np.float64]]:
    """Find the sources in a probability map.

    Parameters
    ----------
    probability
        float32 (H, W).
    mask
        bool (H, W), True where no source can be.
    threshold
        Least probability at a peak.
    radius
        Two peaks closer than this are one, pixels.

    Returns
    -------
    positions
        float64 (N, 2), x and y of the probability-weighted centroid, 0-based pixels, most probable
        first.
    scores
        float64 (N,), the largest probability within the centroid's aperture.
    """
    clean = np.where(mask | ~np.isfinite(probability), np.float32(0.0), probability)
    if clean.size == 0 or float(clean.max()) < threshold:
        return np.empty((0, 2)), np.empty(0)
    smooth = ndimage.gaussian_filter(clean, _SMOOTHING, mode="nearest")
    highest = ndimage.maximum_filter(smooth, size=3, mode="nearest")
    local = ndimage.maximum_filter(clean, size=3, mode="nearest") >= threshold
    rows, columns = np.nonzero((smooth == highest) & local & (smooth > 0.0) & ~mask)
    positions = np.empty((rows.size, 2))
    scores = np.empty(rows.size)
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        low, left = max(0, row - _CENTROID_RADIUS), max(0, column - _CENTROID_RADIUS)
        window = clean[low : row + _CENTROID_RADIUS + 1, left : column + _CENTROID_RADIUS + 1]
        y, x = np.mgrid[low : low + window.shape[0], left : left + window.shape[1]]
        weight = window * (np.hypot(x - column, y - row) <= _CENTROID_RADIUS)
        positions[i] = np.sum(weight * x) / weight.sum(), np.sum(weight * y) / weight.sum()
        scores[i] = weight.max()
    # Equal plateaus are common, so the smoothed height decides between them.
    order = np.lexsort((-smooth[rows, columns], -scores))
    positions, scores = positions[order], scores[order]
    kept = suppress(positions, radius) == np.arange(len(positions))
    return positions[kept], scores[kept]


def suppress(positions: Positions, radius: float) -> NDArray[np.intp]:
    """Greedy non-maximum suppression by distance.

    Parameters
    ----------
    positions
        float64 (N, 2), pixels, best first.
    radius
        Least distance between two survivors, pixels.

    Returns
    -------
    intp (N,)
        For each position the index of the survivor it belongs to, itself if it survives.
    """
    owner = np.full(len(positions), -1, np.intp)
    if len(positions) == 0:
        return owner
    tree = KDTree(positions)
    for i in range(len(positions)):
        if owner[i] >= 0:
            continue
        near = np.asarray(tree.query_ball_point(positions[i], radius), np.intp)
        owner[near[owner[near] < 0]] = i
    return owner
