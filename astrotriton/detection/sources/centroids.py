"""Windowed centroids."""

import math

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Image, Mask, Polarities, Positions
from astrotriton.detection.compiled import compiled

DEFAULT_FWHM = 4.0
PER_FWHM = 2.3548200450309493  # FWHM of a Gaussian in units of its sigma

_LARGEST_STEP = 2.0  # that a centroid may take, pixels
# SExtractor's, and SEP's flags.
_MOST_STEPS, _LEAST_STEP = 16, 1e-4
_CUT_OFF, _SOME_MASKED, _ALL_MASKED = 16, 32, 64


def centroids(
    significance: Image, mask: Mask, positions: Positions, polarity: Polarities
) -> tuple[Positions, NDArray[np.int32]]:
    """Windowed centroids (SExtractor's XWIN, YWIN), and what SEP says of their windows.

    A position on a masked pixel, or one that the iteration would move by more than 2 px, is left as
    it was. ``polarity``, int8 (N,), is -1 for sources that lie below the background.

    Returns
    -------
    positions
        float64 (N, 2), 0-based pixels.
    flags
        int32 (N,), SEP's flags of the window: 16 cut off by the edge, 32 some and 64 all of its
        pixels masked.
    """
    column, row = np.rint(positions).astype(int).T
    masked = mask[row.clip(0, mask.shape[0] - 1), column.clip(0, mask.shape[1] - 1)]
    moved, flags = _windowed(significance, mask, positions, polarity, DEFAULT_FWHM / PER_FWHM)
    trusted = ~masked & (np.linalg.norm(moved - positions, axis=1) <= _LARGEST_STEP)
    return np.where(trusted[:, None], moved, positions), flags


@compiled
def _windowed(
    significance: Image, mask: Mask, positions: Positions, polarity: Polarities, sigma: float
) -> tuple[Positions, NDArray[np.int32]]:
    """What `sep.winpos` answers, to a hundredth of a pixel, in a tenth of its time.

    The mean position under a Gaussian window, moved twice as far as it moved each time until it
    stays (Bertin & Arnouts, SExtractor's XWIN_IMAGE); a masked pixel counts as the mean of the
    others. A pixel on the border of the window, four sigma away, counts by its distance from it.
    """
    height, width = mask.shape
    radius = 4.0 * sigma
    side = 2 * math.ceil(radius) + 3
    weights_x, weights_y = np.empty(side), np.empty(side)
    moved, flags = positions.copy(), np.zeros(len(positions), np.int32)
    for k in range(len(positions)):
        x, y = positions[k]
        for _ in range(_MOST_STEPS):
            # Towards zero, as SEP rounds.
            left, right = int(x - radius + 0.5), int(x + radius + 0.5)
            low, high = int(y - radius + 0.5), int(y + radius + 0.5)
            if left < 0 or low < 0 or right >= width or high >= height:
                flags[k] |= _CUT_OFF
            left, right = max(left, 0), min(right, width - 1)
            low, high = max(low, 0), min(high, height - 1)
            for j in range(left, right + 1):
                weights_x[j - left] = math.exp(-0.5 * ((j - x) / sigma) ** 2)
            for i in range(low, high + 1):
                weights_y[i - low] = math.exp(-0.5 * ((i - y) / sigma) ** 2)
            area = light = norm = step_x = step_y = 0.0
            masked_area = masked_norm = masked_x = masked_y = 0.0
            for i in range(low, high + 1):
                for j in range(left, right + 1):
                    distance = (j - x) ** 2 + (i - y) ** 2
                    if distance >= (radius + 0.5) ** 2:
                        continue
                    inside = 1.0
                    if distance > (radius - 0.5) ** 2:
                        inside = radius + 0.5 - math.sqrt(distance)
                    weight = inside * weights_x[j - left] * weights_y[i - low]
                    if mask[i, j]:
                        masked_area += inside
                        masked_norm += weight
                        masked_x += weight * (j - x)
                        masked_y += weight * (i - y)
                    else:
                        value = polarity[k] * significance[i, j]
                        area += inside
                        light += inside * value
                        norm += weight * value
                        step_x += weight * value * (j - x)
                        step_y += weight * value * (i - y)
            if masked_area > 0.0:
                flags[k] |= _SOME_MASKED
                if area == 0.0:
                    flags[k] |= _ALL_MASKED
                    break
                norm += masked_norm * light / area
                step_x += masked_x * light / area
                step_y += masked_y * light / area
            if not norm > 0.0:
                break
            step_x, step_y = step_x / norm, step_y / norm
            x, y = x + 2.0 * step_x, y + 2.0 * step_y
            if math.hypot(step_x, step_y) < _LEAST_STEP:
                break
        moved[k] = x, y
    return moved, flags
