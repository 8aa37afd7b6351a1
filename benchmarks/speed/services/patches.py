"""What the services that take a FITS file do with it, apart from inference.

As little as can be, and numpy and astropy alone: it runs in environments without the project.
"""

import io

import numpy as np
from astropy.io import fits


def read(content: bytes) -> np.ndarray:
    """The first image of a FITS file, in units of its noise, float32 (1, H, W, 1)."""
    with fits.open(io.BytesIO(content)) as file:
        image = np.asarray(file[0].data, dtype=np.float32)
    level = np.nanmedian(image)
    noise = 1.4826 * np.nanmedian(np.abs(image - level))
    seen = np.arcsinh(np.nan_to_num((image - level) / noise) / np.float32(3.0))
    return np.ascontiguousarray(seen[None, :, :, None], dtype=np.float32)


def maxima(answer: np.ndarray, positions: list[list[float]]) -> list[float]:
    """The largest probability of the 3x3 pixels around each position (x, y)."""
    padded = np.pad(answer[0, :, :, 0], 1)
    found = []
    for x, y in positions:
        column, row = round(x), round(y)
        found.append(float(padded[row : row + 3, column : column + 3].max()))
    return found
