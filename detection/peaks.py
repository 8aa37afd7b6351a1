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
_TOGETHER = 32


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
    positions, scores = _centroids(clean, rows, columns)
    # Equal plateaus are common, so the smoothed height decides between them.
    order = np.lexsort((-heights, -scores))
    positions, scores = positions[order], scores[order]
    kept = suppress(positions, radius) == np.arange(len(positions))
    return positions[kept], scores[kept]


def _centroids(
    image: Image, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[Positions, NDArray[np.float64]]:
    """Centroids and largest values within 3 px of some pixels, as `find_peaks` answers them."""
    side = 2 * _CENTROID_RADIUS + 1
    offset = np.arange(-_CENTROID_RADIUS, _CENTROID_RADIUS + 1.0)
    windows = sliding_window_view(np.pad(image, _CENTROID_RADIUS), (side, side))
    weight = windows[rows, columns] * (np.hypot(offset, offset[:, None]) <= _CENTROID_RADIUS)
    total = weight.sum(axis=(1, 2))
    x = columns + weight.sum(axis=1) @ offset / total
    y = rows + weight.sum(axis=2) @ offset / total
    return np.stack([x, y], axis=1), weight.max(axis=(1, 2))


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
    # A few at a time: asked one by one they take longer, and asked all together, a hundred thousand
    # at one place would be answered with the square of that.
    for start in range(0, len(positions), _TOGETHER):
        free = start + np.flatnonzero(owner[start : start + _TOGETHER] < 0)
        for i, near in zip(free, tree.query_ball_point(positions[free], radius), strict=True):
            if owner[i] < 0:
                close = np.array(near, np.intp)
                owner[close[owner[close] < 0]] = i
    return owner
