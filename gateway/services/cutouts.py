"""Pictures of detections, as a person wants to see them."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detection.exposure import Exposure
from detection.preprocess import asinh

_HALF = 31
_SOFTENING = 5.0


def picture(exposure: Exposure, x: float, y: float, background: float, noise: float) -> bytes:
    """A PNG of 63x63 pixels around a position, the first row at the bottom as in ds9.

    Grey is the background, and the stretch is asinh, from 5 sigma below to 50 above it. Unusable
    pixels, and those beyond the edge, are black.

    Parameters
    ----------
    x, y
        0-based pixels.
    background, noise
        Counts.
    """
    column, row = round(x), round(y)
    rows = slice(max(row - _HALF, 0), max(row + _HALF + 1, 0))
    columns = slice(max(column - _HALF, 0), max(column + _HALF + 1, 0))
    data, mask = exposure.pixels(rows, columns)
    shown = np.zeros((2 * _HALF + 1, 2 * _HALF + 1), np.uint8)
    top, left = rows.start - (row - _HALF), columns.start - (column - _HALF)
    grey = _grey((data - background) / noise)
    shown[top : top + data.shape[0], left : left + data.shape[1]] = np.where(mask, 0, grey)
    file = io.BytesIO()
    Image.fromarray(shown[::-1]).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def _grey(significance: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = np.arcsinh(-5.0 / _SOFTENING), np.arcsinh(50.0 / _SOFTENING)
    with np.errstate(invalid="ignore"):
        level = (asinh(significance / np.float32(_SOFTENING)) - low) / (high - low)
        return np.asarray(1 + 254 * np.clip(np.nan_to_num(level), 0.0, 1.0)).astype(np.uint8)
