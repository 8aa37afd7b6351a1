"""Reading an exposure from the bytes of a FITS or .npy file."""

import io
import math
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_skycoord
from numpy.typing import NDArray

from detection.errors import InputError, TooLargeError
from detection.preprocess import Image, Mask

# Odd headers are the normal case here; what matters of them is answered in the exposure's flags.
warnings.filterwarnings("ignore", category=AstropyWarning)

_FIELD = "exposure"
_GZIP, _NPY, _FITS = b"\x1f\x8b", b"\x93NUMPY", b"SIMPLE  ="


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one exposure and its candidates."""

    max_bytes: int = 512 * 1024**2
    max_pixels: int = 16_384**2
    max_candidates: int = 100_000


@dataclass(frozen=True, slots=True)
class Exposure:
    """One image, native and finite or masked; `from_array` makes one of an array.

    Attributes
    ----------
    data
        float32 (H, W), native byte order; masked pixels may hold anything.
    mask
        bool (H, W): True where the pixel is NaN, infinite or blank.
    wcs
        The celestial WCS, or None.
    name
        The HDU the image came from.
    flags
        What is odd about it: ``no_wcs`` (none in the header) or ``bad_wcs`` (unusable).
    """

    data: Image
    mask: Mask
    wcs: WCS | None
    name: str
    flags: frozenset[str]

    @classmethod
    def from_array(cls, values: NDArray[Any]) -> "Exposure":
        """Make an exposure without WCS of real values (H, W)."""
        return _exposure(values, None, "array", frozenset({"no_wcs"}))

    def sky(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """ICRS right ascension and declination, degrees (2, N), of 0-based pixel positions.

        NaN where there is no WCS or it has no answer. Distortions (SIP, TPV) are applied and any
        celestial frame is converted.
        """
        nowhere = np.full((2, x.size), np.nan)
        if self.wcs is None or x.size == 0:
            return nowhere
        try:
            with np.errstate(all="ignore"):
                sky = pixel_to_skycoord(x, y, self.wcs, origin=0, mode="all").icrs
            found = np.stack([sky.ra.deg, sky.dec.deg])
        except Exception:  # a WCS that was parsed can still fail in wcslib, in a dozen ways
            return nowhere
        found[:, ~np.isfinite(found).all(axis=0)] = np.nan
        return found


def read_exposure(
    content: bytes, *, hdu: int | str | None = None, limits: Limits | None = None
) -> Exposure:
    """Read a FITS file (``.fits``, ``.fz``, ``.gz``) or a NumPy ``.npy`` file.

    Parameters
    ----------
    content
        The whole file.
    hdu
        Index or EXTNAME of the HDU; without it the first image that has data. FITS only.
    limits
        Bounds on the bytes, also once decompressed, and on the pixels.

    Raises
    ------
    InputError
        ``not-fits``, ``unreadable-fits``, ``unreadable-npy``, ``no-image``, ``no-such-hdu``,
        ``wrong-dimensions``, or ``too-large`` (a `TooLargeError`).
    """
    limits = limits or Limits()
    if len(content) > limits.max_bytes:
        raise TooLargeError(_FIELD, f"{len(content)} bytes; at most {limits.max_bytes} are taken")
    if content.startswith(_GZIP):
        content = _gunzip(content, limits.max_bytes)
    if content.startswith(_NPY):
        values = _read_npy(content, limits)
        return _exposure(values, None, "npy", frozenset({"no_wcs"}))
    if not content.startswith(_FITS):
        raise InputError(
            "not-fits",
            _FIELD,
            "neither a FITS file (it does not begin with 'SIMPLE  =') nor a NumPy .npy file",
        )
    return _read_fits(content, hdu, limits)


def _exposure(values: NDArray[Any], wcs: WCS | None, name: str, flags: frozenset[str]) -> Exposure:
    if values.ndim > 2:
        values = values.reshape([n for n in values.shape if n != 1] or [1])
    if values.ndim != 2:
        raise InputError(
            "wrong-dimensions",
            _FIELD,
            f"{name} has the shape {values.shape}; send one two-dimensional image, or choose an HDU"
            " that is one",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        data = np.ascontiguousarray(values, dtype=np.float32)
    return Exposure(data, ~np.isfinite(data), wcs, name, flags)


def _gunzip(content: bytes, max_bytes: int) -> bytes:
    """Decompress, giving up as soon as the result is too large."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        result = inflate.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise InputError("unreadable-fits", _FIELD, f"broken gzip file: {error}") from error
    if len(result) > max_bytes:
        raise TooLargeError(_FIELD, f"more than {max_bytes} bytes once decompressed")
    if not inflate.eof:
        raise InputError("unreadable-fits", _FIELD, "the gzip file ends too early")
    return result


def _check_pixels(shape: tuple[int, ...], limits: Limits) -> None:
    pixels = math.prod(shape)
    if pixels > limits.max_pixels:
        raise TooLargeError(_FIELD, f"{pixels} pixels; at most {limits.max_pixels} are taken")


def _read_npy(content: bytes, limits: Limits) -> NDArray[Any]:
    """The array of a .npy file, never unpickled and never larger than the file that holds it."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(stream)
    except (ValueError, KeyError) as error:
        raise InputError("unreadable-npy", _FIELD, f"not a .npy file: {error}") from error
    if dtype.kind not in "biuf":
        raise InputError(
            "unreadable-npy", _FIELD, f"holds {dtype} values; send integers or real numbers"
        )
    _check_pixels(shape, limits)
    count = math.prod(shape)
    start = stream.tell()
    if len(content) - start < count * dtype.itemsize:
        raise InputError("unreadable-npy", _FIELD, "shorter than its header says")
    flat = np.frombuffer(content, dtype, count, start)
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_fits(content: bytes, hdu: int | str | None, limits: Limits) -> Exposure:
    try:
        with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=True) as hdus:
            chosen = _choose(hdus, hdu)
            shape = chosen.shape
            _check_pixels(shape, limits)
            if len(shape) < 2:
                raise InputError(
                    "wrong-dimensions",
                    _FIELD,
                    f"HDU {_name(chosen)} is {len(shape)}-dimensional;"
                    " send a two-dimensional image",
                )
            values = chosen.data
            header = chosen.header
    except InputError:
        raise
    except Exception as error:  # astropy raises almost anything on a broken file
        raise InputError(
            "unreadable-fits", _FIELD, f"broken FITS file: {type(error).__name__}: {error}"
        ) from error
    wcs, flags = _celestial(header)
    return _exposure(values, wcs, _name(chosen), flags)


def _name(hdu: Any) -> str:
    return hdu.name or "PRIMARY"


def _is_image(hdu: Any) -> bool:
    return bool(getattr(hdu, "is_image", False)) and bool(hdu.shape)


def _choose(hdus: fits.HDUList, wanted: int | str | None) -> Any:
    if wanted is None:
        for candidate in hdus:
            if _is_image(candidate):
                return candidate
        raise InputError("no-image", _FIELD, "no HDU of the file is an image with data")
    try:
        chosen = hdus[wanted]
    except (KeyError, IndexError):
        names = ", ".join(f"{i}: {_name(hdu)}" for i, hdu in enumerate(hdus))
        raise InputError("no-such-hdu", "hdu", f"no HDU {wanted!r}; the file has {names}") from None
    if not _is_image(chosen):
        raise InputError("no-image", "hdu", f"HDU {wanted!r} is not an image with data")
    return chosen


def _celestial(header: fits.Header) -> tuple[WCS | None, frozenset[str]]:
    try:
        wcs = WCS(header)
        if not wcs.has_celestial:
            return None, frozenset({"no_wcs"})
        wcs = wcs.celestial
        corner = wcs.all_pix2world([[0.0, 0.0]], 0)
    except (Exception, MemoryError):  # wcslib's answer to some headers is MemoryError
        return None, frozenset({"bad_wcs"})
    if not np.isfinite(corner).all():
        return None, frozenset({"bad_wcs"})
    return wcs, frozenset()
