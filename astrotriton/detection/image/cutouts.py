"""Pictures of detections, as a person wants to see them."""

import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from astrotriton.detection.arrays import Image, Mask
from astrotriton.detection.compiled import compiled
from astrotriton.detection.image.exposure import Exposure

_HALF = 31
_SIDE = 2 * _HALF + 1
# Of the stretch, in sigma: what is black, what is white, and where it turns logarithmic.
_LOW, _HIGH, _SOFTENING = -5.0, 50.0, 5.0
_STEPS = 4096  # between black and white, each less than a level of grey


def cut_out(
    exposure: Exposure, positions: Sequence[tuple[float, float]], background: float, noise: float
) -> NDArray[np.uint8]:
    """The 63x63 pixels around positions, uint8 (N, 63, 63).

    Grey is the background, and the stretch is asinh, from 5 sigma below to 50 above it: 1 to 255.
    Unusable pixels, and those beyond the edge, are 0.

    Parameters
    ----------
    positions
        x and y, 0-based pixels.
    background, noise
        Counts.
    """
    found = np.zeros((len(positions), _SIDE, _SIDE), np.uint8)
    levels = _levels()
    black, steps = background + _LOW * noise, _STEPS / ((_HIGH - _LOW) * noise)
    for picture, (x, y) in zip(found, positions, strict=True):
        column, row = round(x), round(y)
        rows = slice(max(row - _HALF, 0), max(row + _HALF + 1, 0))
        columns = slice(max(column - _HALF, 0), max(column + _HALF + 1, 0))
        data, mask = exposure.pixels(rows, columns)
        top, left = rows.start - (row - _HALF), columns.start - (column - _HALF)
        # Not a part of the picture: that is another kind of array, and compiled for by itself.
        _shade(picture, top, left, data, mask, black, steps, levels)
    return found


@lru_cache(maxsize=1)
def _levels() -> NDArray[np.uint8]:
    """The grey of each step from black to white, uint8 1 to 255."""
    middle = _LOW + (np.arange(_STEPS) + 0.5) * (_HIGH - _LOW) / _STEPS
    low, level, high = (np.arcsinh(value / _SOFTENING) for value in (_LOW, middle, _HIGH))
    levels: NDArray[np.uint8] = np.rint(1.0 + 254.0 * (level - low) / (high - low)).astype(np.uint8)
    return levels


@compiled
def _shade(
    picture: NDArray[np.uint8],
    top: int,
    left: int,
    data: Image,
    mask: Mask,
    black: float,
    steps: float,
    levels: NDArray[np.uint8],
) -> None:
    """Look up the grey of usable pixels, ``steps`` a count above ``black``.

    ``top`` and ``left`` say where in the picture the first of them lies.
    """
    last = len(levels) - 1
    for row in range(len(data)):
        into, values, unusable = picture[top + row], data[row], mask[row]
        for i in range(len(values)):
            if not unusable[i]:
                into[left + i] = levels[int(min(max((values[i] - black) * steps, 0.0), last))]


def png(pixels: bytes) -> bytes:
    """A PNG of one of `cut_out`'s pictures, the first row at the bottom as in ds9.

    Pixels that are unusable or beyond the edge are transparent.
    """
    shown = np.frombuffer(pixels, np.uint8).reshape(_SIDE, _SIDE)
    file = io.BytesIO()
    Picture.fromarray(shown[::-1]).save(file, format="PNG", transparency=0)
    return file.getvalue()
