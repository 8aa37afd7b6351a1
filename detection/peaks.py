"""Peaks of a probability map, and non-maximum suppression."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.spatial import KDTree

from detection.background import Image, Mask

Positions = NDArray[np.float64]

# A confident network answers a plateau of ones: smoothing by a pixel gives it one summit.
_SMOOTHING_KERNEL = np.exp(-0.5 * np.arange(-4.0, 5.0) ** 2).astype(np.float32)
_SMOOTHING_KERNEL /= _SMOOTHING_KERNEL.sum()
_CHUNK = 4096
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
    rows, columns, heights = _summits(clean, clean >= threshold)
    usable = ~mask[rows, columns]
    rows, columns, heights = rows[usable], columns[usable], heights[usable]
    if rows.size == 0:
        return np.empty((0, 2)), np.empty(0)
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
    order = np.lexsort((-heights, -scores))
    positions, scores = positions[order], scores[order]
    kept = suppress(positions, radius) == np.arange(len(positions))
    return positions[kept], scores[kept]


def _summits(
    image: Image, high: Mask
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Local maxima of the smoothed image, no farther than a pixel from a high one.

    Few pixels of a probability map are anywhere near high: it is smoothed around those alone.

    Returns
    -------
    rows, columns
        intp (N,).
    heights
        float32 (N,), the smoothed image there.
    """
    near = high.copy()
    near[1:] |= high[:-1]
    near[:-1] |= high[1:]
    beside = near.copy()
    near[:, 1:] |= beside[:, :-1]
    near[:, :-1] |= beside[:, 1:]
    rows, columns = np.nonzero(near)
    kernel = _SMOOTHING_KERNEL
    # A smoothed value and its neighbours', from the pixels that they are made of.
    reach = len(kernel) // 2 + 1
    across = np.zeros((3, 2 * reach + 1), np.float32)
    for i in range(3):
        across[i, i : i + len(kernel)] = kernel
    windows = sliding_window_view(np.pad(image, reach, mode="edge"), (2 * reach + 1,) * 2)
    smooth = np.empty((len(rows), 3, 3), np.float32)
    for start in range(0, len(rows), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        smooth[chunk] = across @ windows[rows[chunk], columns[chunk]] @ across.T
    # Nothing lies beyond the border, whatever the padding would make of it.
    smooth[rows == 0, 0], smooth[rows == image.shape[0] - 1, 2] = 0.0, 0.0
    smooth[columns == 0, :, 0], smooth[columns == image.shape[1] - 1, :, 2] = 0.0, 0.0
    heights = smooth[:, 1, 1]
    # A pixel's value is summed up in another order where it is a neighbour.
    highest = (heights > 0.0) & (heights >= smooth.max(axis=(1, 2)) * np.float32(1.0 - 1e-5))
    return rows[highest], columns[highest], heights[highest]


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
