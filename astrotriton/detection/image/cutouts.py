"""Pictures of detections, as a person wants to see them."""

import io
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image as Picture

from astrotriton.detection.arrays import Image, Mask
from astrotriton.detection.compiled import compiled
from astrotriton.detection.image.exposure import Exposure
from astrotriton.wire.exposures import Plane

_HALF = 31
_SIDE = 2 * _HALF + 1
# Of the stretch, in sigma: what is black, what is white, and where it turns logarithmic.
_LOW, _HIGH, _SOFTENING = -5.0, 50.0, 5.0
_STEPS = 4096  # between black and white, each less than a level of grey


# Of an image that nobody has measured: every so many pixels of a cut-out give its background.
_SAMPLED = 3
_MAD_TO_SIGMA = 1.4826  # of normal noise (Rousseeuw & Croux 1993)
_SCALE = struct.Struct("<ff")  # background and noise

Stretch = Literal["asinh", "linear", "log"]


class Levels(NamedTuple):
    """A cut-out as it is kept.

    Attributes
    ----------
    grey
        uint8 (63, 63), as `cut_out` makes it.
    background, noise
        Counts of no significance, and of a sigma.
    """

    grey: NDArray[np.uint8]
    background: float
    noise: float

    @property
    def counts(self) -> NDArray[np.float32]:
        """The pixels, float32 (63, 63), as far as they were kept; NaN where they are unusable."""
        return np.float32(self.background) + np.float32(self.noise) * _significances()[self.grey]


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
    for picture, place in zip(found, positions, strict=True):
        data, mask, top, left = _around(exposure, place)
        shade(picture, top, left, data, mask, background, noise)
    return found


def cut_out_unmeasured(exposure: Exposure, positions: Sequence[tuple[float, float]]) -> list[bytes]:
    """The same of an image whose background and noise nobody has measured, to be kept.

    Each cut-out has its own: the median of its usable pixels, and 1.4826 times the median of their
    absolute deviations from it.

    Returns
    -------
    list of bytes
        For `kept_levels`: background and noise, counts, as little-endian float32; then the pixels.
    """
    found = []
    for place in positions:
        data, mask, top, left = _around(exposure, place)
        background, noise = _measured(data[~mask][::_SAMPLED])
        picture = np.zeros((_SIDE, _SIDE), np.uint8)
        shade(picture, top, left, data, mask, background, noise)
        found.append(_SCALE.pack(background, noise) + picture.tobytes())
    return found


def kept_levels(kept: bytes) -> Levels:
    """A cut-out of `cut_out_unmeasured`."""
    background, noise = _SCALE.unpack_from(kept)
    return measured_levels(kept[_SCALE.size :], background, noise)


def measured_levels(kept: bytes, background: float, noise: float) -> Levels:
    """A cut-out of `cut_out`, with the background and the noise that it was made with."""
    return Levels(np.frombuffer(kept, np.uint8).reshape(_SIDE, _SIDE), background, noise)


def _measured(values: NDArray[np.float32]) -> tuple[float, float]:
    """Background and noise; of too little, or of what is the same everywhere, any noise."""
    if values.size == 0:
        return 0.0, 1.0
    background = _middle(values)
    noise = _MAD_TO_SIGMA * _middle(np.abs(values - np.float32(background)))
    return background, noise or float(np.std(values)) or 1.0


def _middle(values: NDArray[np.float32]) -> float:
    """The median of many, of an even number the greater of the two; `np.median` takes longer."""
    half = values.size // 2
    return float(np.partition(values, half)[half])


def _around(exposure: Exposure, place: tuple[float, float]) -> tuple[Image, Mask, int, int]:
    """The pixels of a cut-out that lie on the image, and where in it the first of them lies."""
    column, row = round(place[0]), round(place[1])
    rows = slice(max(row - _HALF, 0), max(row + _HALF + 1, 0))
    columns = slice(max(column - _HALF, 0), max(column + _HALF + 1, 0))
    data, mask = exposure.pixels(rows, columns)
    return data, mask, rows.start - (row - _HALF), columns.start - (column - _HALF)


def shade(
    picture: NDArray[np.uint8],
    top: int,
    left: int,
    data: Image,
    mask: Mask,
    background: float,
    noise: float,
) -> None:
    """Write the greys of pixels into a picture, uint8 (H, W), where it is 0; see `cut_out`.

    ``top`` and ``left`` say where in it the first pixel lies.
    """
    black, steps = background + _LOW * noise, _STEPS / ((_HIGH - _LOW) * noise)
    # Not a part of the picture: that is another kind of array, and compiled for by itself.
    _shade(picture, top, left, data, mask, black, steps, _levels())


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


@lru_cache(maxsize=1)
def _significances() -> NDArray[np.float32]:
    """What each grey stands for, in sigma, float32 (256,); NaN for 0."""
    low, high = np.arcsinh(_LOW / _SOFTENING), np.arcsinh(_HIGH / _SOFTENING)
    levels = low + (np.arange(256) - 1.0) / 254.0 * (high - low)
    found: NDArray[np.float32] = (_SOFTENING * np.sinh(levels)).astype(np.float32)
    found[0] = np.nan
    return found


@lru_cache(maxsize=64)
def stretched(stretch: Stretch, high: float) -> NDArray[np.uint8]:
    """The grey to show for each grey that is kept, uint8 (256,); 0 stays 0.

    Parameters
    ----------
    stretch
        ``log`` is that of ds9, with an exponent of 1000.
    high
        What is white, sigma.
    """
    sigma = _significances()[1:]
    share = np.clip((sigma - _LOW) / (high - _LOW), 0.0, 1.0)
    if stretch == "asinh":
        low, top = np.arcsinh(_LOW / _SOFTENING), np.arcsinh(high / _SOFTENING)
        share = np.clip((np.arcsinh(sigma / _SOFTENING) - low) / (top - low), 0.0, 1.0)
    elif stretch == "log":
        share = np.log1p(1000.0 * share) / np.log1p(1000.0)
    return np.concatenate([[0], np.rint(1.0 + 254.0 * share)]).astype(np.uint8)


def png(
    grey: NDArray[np.uint8], stretch: Stretch = "asinh", high: float = _HIGH, zoom: int = 1
) -> bytes:
    """A PNG of greys as they are kept, uint8 (H, W), the first row at the bottom as in ds9.

    Pixels that are unusable or beyond the edge are transparent.

    Parameters
    ----------
    stretch, high
        See `stretched`.
    zoom
        Shows the middle of the picture alone, one part in so many of its side.
    """
    edges = [(length - max(length // zoom, 1)) // 2 for length in grey.shape]
    shown = grey[edges[0] : grey.shape[0] - edges[0], edges[1] : grey.shape[1] - edges[1]]
    file = io.BytesIO()
    shown = stretched(stretch, high)[shown[::-1]]
    Picture.fromarray(shown).save(file, format="PNG", transparency=0)
    return file.getvalue()


def fits_of(
    planes: Mapping[Plane, Levels], place: tuple[float, float], unit: str | None, **keywords: object
) -> bytes:
    """A FITS file of cut-outs, each a float32 extension of its plane's name.

    A pixel that is unusable or beyond the edge is NaN. ``LTV1`` and ``LTV2`` lead from pixels of
    the exposure to those of the cut-out, by IRAF's convention.

    Parameters
    ----------
    planes
        The cut-outs.
    place
        x and y of what they are around, 0-based pixels.
    unit
        Of the pixels of the difference.
    **keywords
        Of the first header; those that are None are left out.
    """
    first = fits.PrimaryHDU()
    first.header.update({name: value for name, value in keywords.items() if value is not None})
    first.header.add_comment("Kept in 254 levels from -5 to 50 sigma, an asinh apart, and cut off")
    first.header.add_comment("beyond: to look at, not to measure.")
    hdus = fits.HDUList([first])
    for name, kept in planes.items():
        hdu = fits.ImageHDU(kept.counts, name=name.upper())
        if unit is not None and name == "difference":
            hdu.header["BUNIT"] = unit
        hdu.header["LTV1"], hdu.header["LTV2"] = (_HALF - round(at) for at in place)
        hdu.header["LTM1_1"] = hdu.header["LTM2_2"] = 1
        hdu.header["SKYLEVEL"] = (kept.background, "level of no significance")
        hdu.header["SKYSIGMA"] = (kept.noise, "a sigma")
        hdus.append(hdu)
    file = io.BytesIO()
    hdus.writeto(file)
    return file.getvalue()
