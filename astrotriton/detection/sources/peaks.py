"""Peaks of a probability map, and non-maximum suppression."""

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Image, Mask, Positions
from astrotriton.detection.compiled import compiled

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
    usable, rows, columns = _high(probability, mask, threshold)
    smooth, summits = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.bool_)
    _summits(usable, mask, rows, columns, smooth, summits)
    # `numpy.nonzero` takes ten times as long for a few.
    found = np.unravel_index(np.flatnonzero(summits), mask.shape)
    # Contiguous as a lone one is, or another kind of array is compiled for while somebody waits.
    rows, columns = (np.ascontiguousarray(one) for one in found)
    if rows.size == 0:
        return np.empty((0, 2)), np.empty(0)
    positions, scores = _centroids(usable, rows, columns)
    # Equal plateaus are common, so the smoothed height decides between them.
    order = np.lexsort((-smooth[rows, columns], -scores))
    positions, scores = positions[order], scores[order]
    kept = suppress(positions, radius) == np.arange(len(positions))
    return positions[kept], scores[kept]


@compiled
def _high(
    probability: Image, mask: Mask, threshold: float
) -> tuple[Image, NDArray[np.intp], NDArray[np.intp]]:
    """The map with zeros where it is masked or no number; rows and columns of its high pixels."""
    usable, count = np.empty_like(probability), 0
    for row in range(len(mask)):
        values, masked, into = probability[row], mask[row], usable[row]
        for i in range(len(values)):
            known = (not masked[i]) & (abs(values[i]) < np.inf)
            into[i] = values[i] if known else np.float32(0.0)
            count += int(known & (values[i] >= threshold))
    rows, columns = np.empty(count, np.intp), np.empty(count, np.intp)
    place = 0
    for row in range(len(mask)):
        if place == count:
            break
        for i in range(mask.shape[1]):
            if usable[row, i] >= threshold and not mask[row, i] and place < count:
                rows[place], columns[place] = row, i
                place += 1
    return usable, rows, columns


@compiled
def _summits(
    probability: Image,
    mask: Mask,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    smooth: Image,
    summits: Mask,
) -> None:
    """Mark the usable local maxima of the smoothed map, no farther than a pixel from a high one.

    Few pixels of a map are anywhere near high: it is smoothed around those alone.

    Parameters
    ----------
    rows, columns
        The high pixels.
    smooth
        float32 (H, W) of zeros, to be filled in.
    summits
        bool (H, W), False so far.
    """
    height, width = mask.shape
    reach = len(_SMOOTHING_KERNEL) // 2
    for k in range(len(rows)):
        for y in range(max(rows[k] - 2, 0), min(rows[k] + 3, height)):
            for x in range(max(columns[k] - 2, 0), min(columns[k] + 3, width)):
                if smooth[y, x] > 0.0:
                    continue
                total = 0.0
                for i in range(-reach, reach + 1):
                    # The map goes on as it ends.
                    line = probability[min(max(y + i, 0), height - 1)]
                    across = 0.0
                    for j in range(-reach, reach + 1):
                        value = line[min(max(x + j, 0), width - 1)]
                        across += _SMOOTHING_KERNEL[j + reach] * value
                    total += _SMOOTHING_KERNEL[i + reach] * across
                smooth[y, x] = total
    for k in range(len(rows)):
        for y in range(max(rows[k] - 1, 0), min(rows[k] + 2, height)):
            for x in range(max(columns[k] - 1, 0), min(columns[k] + 2, width)):
                around = smooth[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                highest = smooth[y, x] >= around.max() and smooth[y, x] > 0.0
                summits[y, x] = highest and not mask[y, x]


@compiled
def _centroids(
    probability: Image, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[Positions, NDArray[np.float64]]:
    """Centroids and largest values within 3 px of some pixels, as `find_peaks` answers them."""
    height, width = probability.shape
    positions, scores = np.empty((len(rows), 2)), np.zeros(len(rows))
    for k in range(len(rows)):
        row, column, total, x, y = rows[k], columns[k], 0.0, 0.0, 0.0
        for i in range(max(-_CENTROID_RADIUS, -row), min(_CENTROID_RADIUS + 1, height - row)):
            for j in range(
                max(-_CENTROID_RADIUS, -column), min(_CENTROID_RADIUS + 1, width - column)
            ):
                if i * i + j * j > _CENTROID_RADIUS**2:
                    continue
                here = float(probability[row + i, column + j])
                total, x, y = total + here, x + j * here, y + i * here
                scores[k] = max(scores[k], here)
        positions[k, 0], positions[k, 1] = column + x / total, row + y / total
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
