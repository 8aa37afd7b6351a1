"""Peaks of a probability map, and non-maximum suppression."""

import numpy as np
from numpy.typing import NDArray

from detection.background import Image, Mask
from detection.compiled import compiled

Positions = NDArray[np.float64]

# A confident network answers a plateau of ones: smoothing by a pixel gives it one summit.
_SMOOTHING_KERNEL = np.exp(-0.5 * np.arange(-4.0, 5.0) ** 2)
_SMOOTHING_KERNEL /= _SMOOTHING_KERNEL.sum()
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
    high = _where((probability >= threshold) & np.isfinite(probability) & ~mask)
    smooth, summits = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.bool_)
    _summits(probability, mask, high, smooth, summits)
    rows, columns = _where(summits)
    if rows.size == 0:
        return np.empty((0, 2)), np.empty(0)
    positions, scores = _centroids(probability, mask, rows, columns)
    # Equal plateaus are common, so the smoothed height decides between them.
    order = np.lexsort((-smooth[rows, columns], -scores))
    positions, scores = positions[order], scores[order]
    kept = suppress(positions, radius) == np.arange(len(positions))
    return positions[kept], scores[kept]


def _where(chosen: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels chosen; `numpy.nonzero` takes ten times as long for a few."""
    rows, columns = np.unravel_index(np.flatnonzero(chosen), chosen.shape)
    return rows, columns


@compiled
def _probability(probability: Image, mask: Mask, row: int, column: int) -> float:
    """That of a pixel; 0 where it is masked, unknown or outside."""
    inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
    if not inside or mask[row, column] or not abs(probability[row, column]) < np.inf:
        return 0.0
    return float(probability[row, column])


@compiled
def _summits(
    probability: Image,
    mask: Mask,
    high: tuple[NDArray[np.intp], NDArray[np.intp]],
    smooth: Image,
    summits: Mask,
) -> None:
    """Mark the usable local maxima of the smoothed map, no farther than a pixel from a high one.

    Few pixels of a map are anywhere near high: it is smoothed around those alone.

    Parameters
    ----------
    high
        Rows and columns of the high pixels.
    smooth
        float32 (H, W) of zeros, to be filled in.
    summits
        bool (H, W), False so far.
    """
    height, width = mask.shape
    reach = len(_SMOOTHING_KERNEL) // 2
    for row, column in zip(*high):  # noqa: B905, Numba knows no strict
        for y in range(max(row - 2, 0), min(row + 3, height)):
            for x in range(max(column - 2, 0), min(column + 3, width)):
                if smooth[y, x] > 0.0:
                    continue
                total = 0.0
                for i in range(-reach, reach + 1):
                    for j in range(-reach, reach + 1):
                        # The map goes on as it ends.
                        at = min(max(y + i, 0), height - 1), min(max(x + j, 0), width - 1)
                        weight = _SMOOTHING_KERNEL[i + reach] * _SMOOTHING_KERNEL[j + reach]
                        total += weight * _probability(probability, mask, at[0], at[1])
                smooth[y, x] = total
    for row, column in zip(*high):  # noqa: B905
        for y in range(max(row - 1, 0), min(row + 2, height)):
            for x in range(max(column - 1, 0), min(column + 2, width)):
                around = smooth[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                highest = smooth[y, x] >= around.max() and smooth[y, x] > 0.0
                summits[y, x] = highest and not mask[y, x]


@compiled
def _centroids(
    probability: Image, mask: Mask, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[Positions, NDArray[np.float64]]:
    """Centroids and largest values within 3 px of some pixels, as `find_peaks` answers them."""
    positions, scores = np.empty((len(rows), 2)), np.zeros(len(rows))
    for k in range(len(rows)):
        total = x = y = 0.0
        for i in range(-_CENTROID_RADIUS, _CENTROID_RADIUS + 1):
            for j in range(-_CENTROID_RADIUS, _CENTROID_RADIUS + 1):
                if i * i + j * j > _CENTROID_RADIUS**2:
                    continue
                here = _probability(probability, mask, rows[k] + i, columns[k] + j)
                total, x, y = total + here, x + j * here, y + i * here
                scores[k] = max(scores[k], here)
        positions[k, 0], positions[k, 1] = columns[k] + x / total, rows[k] + y / total
    return positions, scores


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
    order = np.argsort(positions[:, 1], kind="stable")
    return _suppress(positions, order, radius)


@compiled
def _suppress(positions: Positions, order: NDArray[np.intp], radius: float) -> NDArray[np.intp]:
    """What `suppress` answers; ``order`` is that of y."""
    rows = positions[order, 1]
    owner = np.full(len(positions), -1, np.intp)
    for i in range(len(positions)):
        if owner[i] >= 0:
            continue
        x, y = positions[i]
        for place in range(np.searchsorted(rows, y - radius), len(rows)):
            if rows[place] > y + radius:
                break
            other = order[place]
            distance = (positions[other, 0] - x) ** 2 + (rows[place] - y) ** 2
            if owner[other] < 0 and distance <= radius**2:
                owner[other] = i
    return owner
