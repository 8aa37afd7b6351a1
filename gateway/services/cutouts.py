"""Pictures of detections, as a person wants to see them."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detection.exposure import Exposure
from detection.preprocess import asinh

_HALF = 31
_SIDE = 2 * _HALF + 1
_SOFTENING = 5.0


def cut_out(
    exposure: Exposure, positions: Sequence[tuple[float, float]], background: float, noise: float
) -> NDArray[np.uint8]:
    """The 63x63 pixels around positions, uint8 (N, 63, 63).

    Grey is the background, and the stretch is asinh, from 5 sigma below to 50 above it. Unusable
    pixels, and those beyond the edge, are black.

    Parameters
    ----------
    positions
        x and y, 0-based pixels.
    background, noise
        Counts.
    """
    found = np.full((len(positions), _SIDE, _SIDE), np.nan, np.float32)
    for pixels, (x, y) in zip(found, positions, strict=True):
        column, row = round(x), round(y)
        rows = slice(max(row - _HALF, 0), max(row + _HALF + 1, 0))
        columns = slice(max(column - _HALF, 0), max(column + _HALF + 1, 0))
        data, mask = exposure.pixels(rows, columns)
        top, left = rows.start - (row - _HALF), columns.start - (column - _HALF)
        shown = pixels[top : top + data.shape[0], left : left + data.shape[1]]
        np.copyto(shown, data, where=~mask)
    low, high = np.arcsinh(-5.0 / _SOFTENING), np.arcsinh(50.0 / _SOFTENING)
    found -= np.float32(background)
    level = asinh(found, noise * _SOFTENING)
    level -= np.float32(low)
    level *= np.float32(254.0 / (high - low))
    np.clip(level, 0.0, 254.0, out=level)
    level += np.float32(1.0)
    level[np.isnan(level)] = 0.0
    return level.astype(np.uint8)


def png(pixels: bytes) -> bytes:
    """A PNG of one of `cut_out`'s pictures, the first row at the bottom as in ds9."""
    shown = np.frombuffer(pixels, np.uint8).reshape(_SIDE, _SIDE)
    file = io.BytesIO()
    Image.fromarray(shown[::-1]).save(file, format="PNG")
    return file.getvalue()
