"""The mode and the noise of pixels among which there are sources, as SExtractor estimates them.

Bertin & Arnouts 1996 (A&AS 117, 393), section 3: values are clipped at 3 sigma around their median
until sigma settles. The mode is 2.5 median - 1.5 mean, or the median in a crowded field, where that
would go astray.
"""

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.compiled import compiled

# The first cut, and how far the histogram reaches on either side, in sigma; and its bins. In a
# crowded field that sigma is many times the noise, which still has to be some bins wide.
_FIRST_CUT = 2.0
_REACH = 5.0
_BINS = 4096
_CUT = 3.0
# Beyond this difference between mean and median, in sigma, a field is crowded.
_CROWDED = 0.3
_SETTLED, _MOST_ROUNDS = 1e-4, 100
_LEAST_BINS = 0.1


@compiled
def modes(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    edges: NDArray[np.intp],
    least_usable: float,
) -> NDArray[np.float64]:
    """Mode and noise of the cells of a strip.

    Parameters
    ----------
    image
        float32 (H, W), finite everywhere.
    mask
        bool (H, W), True for pixels to leave out.
    edges
        intp (C + 1,), columns between which the cells lie.
    least_usable
        Share of a cell's pixels that must be usable.

    Returns
    -------
    float64 (2, C), the mode and the standard deviation; NaN for cells with too few usable pixels.
    """
    found = np.full((2, len(edges) - 1), np.nan)
    for k in range(len(edges) - 1):
        left, right = edges[k], edges[k + 1]
        size = len(image) * (right - left)
        number, mean, sigma = _moments(image, mask, left, right, -np.inf, np.inf)
        if number == 0 or number < least_usable * size:
            continue
        cut = _FIRST_CUT * sigma
        _, mean, sigma = _moments(image, mask, left, right, mean - cut, mean + cut)
        found[0, k], found[1, k] = mean, 0.0
        if sigma > 0.0:
            low, width = mean - _REACH * sigma, 2.0 * _REACH * sigma / _BINS
            counts = _histogram(image, mask, left, right, low, width)
            middle, spread = _clipped(counts)
            found[0, k] = low + width * middle
            found[1, k] = width * spread
    return found


@compiled
def _moments(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    left: int,
    right: int,
    low: float,
    high: float,
) -> tuple[int, float, float]:
    """How many usable pixels lie in a range, their mean and their standard deviation."""
    number, total, squares = 0, 0.0, 0.0
    for row in range(len(image)):
        values, unusable = image[row, left:right], mask[row, left:right]
        for i in range(len(values)):
            value = np.float64(values[i])
            taken = (not unusable[i]) & (value >= low) & (value <= high)
            kept = value if taken else 0.0
            number += int(taken)
            total += kept
            squares += kept * kept
    if number == 0:
        return 0, 0.0, 0.0
    mean = total / number
    return number, mean, np.sqrt(max(squares / number - mean * mean, 0.0))


@compiled
def _histogram(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    left: int,
    right: int,
    low: float,
    width: float,
) -> NDArray[np.int64]:
    """How many usable pixels fall into each bin."""
    counts = np.zeros(_BINS, np.int64)
    scale = 1.0 / width
    for row in range(len(image)):
        values, unusable = image[row, left:right], mask[row, left:right]
        for i in range(len(values)):
            place = (values[i] - low) * scale
            if not unusable[i] and 0.0 <= place < _BINS:
                counts[int(place)] += 1
    return counts


@compiled
def _clipped(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Mode and standard deviation of a histogram, in bins from its lower end."""
    # Sums over all bins below one, so that those of any range take two looks.
    numbers = np.zeros(len(counts) + 1, np.int64)
    totals, squares = np.zeros_like(numbers), np.zeros_like(numbers)
    for i in range(len(counts)):
        numbers[i + 1] = numbers[i] + counts[i]
        totals[i + 1] = totals[i] + counts[i] * i
        squares[i + 1] = squares[i] + counts[i] * i * i
    first, last = 0, len(counts)
    mean, median, sigma = 0.0, 0.0, np.inf
    for _ in range(_MOST_ROUNDS):
        number = numbers[last] - numbers[first]
        if number == 0:
            break
        before = sigma
        mean = (totals[last] - totals[first]) / number
        sigma = np.sqrt(max((squares[last] - squares[first]) / number - mean * mean, 0.0))
        mean += 0.5  # a bin's middle
        half = numbers[first] + 0.5 * number
        place = np.searchsorted(numbers, half) - 1
        median = place + (half - numbers[place]) / max(counts[place], 1)
        first = max(0, int(np.rint(median - _CUT * sigma)))
        last = min(len(counts), int(np.rint(median + _CUT * sigma)) + 1)
        if sigma < _LEAST_BINS or abs(sigma / before - 1.0) <= _SETTLED:
            break
    if sigma > 0.0 and abs(mean - median) < _CROWDED * sigma:
        return 2.5 * median - 1.5 * mean, sigma
    return median, sigma
