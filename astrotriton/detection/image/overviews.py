"""A whole exposure as one picture, small enough to be kept."""

import io
import math
from typing import NamedTuple

import numpy as np
from PIL import Image as Picture

from astrotriton.detection.arrays import Image, Mask
from astrotriton.detection.image.cutouts import shade
from astrotriton.detection.image.exposure import Exposure

_QUALITY = 60  # of the JPEG that is kept: 40 kB for 512x512 pixels of noise
_SHOWN_QUALITY = 85
_STRIP = 256  # rows that are read at a time


class Overview(NamedTuple):
    """A picture of an exposure.

    Attributes
    ----------
    binning
        Pixels of the exposure on a side of one of the picture's.
    jpeg
        The picture, grey, the exposure's first row at the top.
    """

    binning: int
    jpeg: bytes


class Box(NamedTuple):
    """Some rows and columns of an exposure: the first of each, and how many."""

    row: int
    column: int
    rows: int
    columns: int


def overview(exposure: Exposure, background: float, noise: float, side: int) -> Overview:
    """A picture of a whole exposure, in greys as `cut_out` gives them; unusable pixels are black.

    Pixels are averaged in squares until no side is longer than ``side``. What is grey is then in
    sigma of the average, as if neighbouring pixels had nothing to do with each other.

    Parameters
    ----------
    background, noise
        Counts.
    side
        Longest side of the picture, pixels.
    """
    height, width = exposure.shape
    binning = max(1, math.ceil(max(height, width) / side))
    picture = np.zeros((math.ceil(height / binning), math.ceil(width / binning)), np.uint8)
    strip = max(1, _STRIP // binning) * binning
    for start in range(0, height, strip):
        data, mask = exposure.pixels(slice(start, min(start + strip, height)), slice(0, width))
        if binning > 1:
            data, mask = _binned(data, mask, binning)
        shade(picture, start // binning, 0, data, mask, background, noise / binning)
    return Overview(binning, _jpeg(Picture.fromarray(picture), _QUALITY))


def _binned(data: Image, mask: Mask, binning: int) -> tuple[Image, Mask]:
    """The average of the usable pixels in each square; squares without any are unusable."""
    over = [(0, -length % binning) for length in data.shape]
    mask = np.pad(mask, over, constant_values=True)
    data = np.where(mask, np.float32(0.0), np.pad(data, over))

    def summed(values: Image) -> Image:
        # Rows first: they are added as they lie in memory.
        strips = values.reshape(-1, binning, values.shape[1]).sum(1)
        found: Image = strips.reshape(len(strips), -1, binning).sum(2)
        return found

    count = summed((~mask).astype(np.float32))
    average: Image = (summed(data) / np.maximum(count, np.float32(1.0))).astype(np.float32)
    nothing: Mask = count == 0.0
    return average, nothing


def view(kept: Overview, box: Box, most: int) -> bytes:
    """A part of a kept picture as JPEG, the first row at the bottom.

    Parameters
    ----------
    box
        Of the exposure.
    most
        Longest side, pixels; what is larger is averaged.
    """
    with Picture.open(io.BytesIO(kept.jpeg)) as picture:
        left, top = box.column // kept.binning, box.row // kept.binning
        right = min(math.ceil((box.column + box.columns) / kept.binning), picture.width)
        bottom = min(math.ceil((box.row + box.rows) / kept.binning), picture.height)
        part = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    factor = math.ceil(max(part.size) / most)
    if factor > 1:
        part = part.reduce(factor)
    return _jpeg(part.transpose(Picture.Transpose.FLIP_TOP_BOTTOM), _SHOWN_QUALITY)


def _jpeg(picture: Picture.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=quality)
    return file.getvalue()
