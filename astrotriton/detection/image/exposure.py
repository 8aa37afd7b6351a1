"""Reading an exposure from the bytes of a FITS or .npy file."""

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from astropy import log
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from astrotriton.detection.arrays import Buffer, Image, Mask
from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image import hdus
from astrotriton.detection.image.compression import decompressed
from astrotriton.detection.image.observation import observation_of
from astrotriton.detection.image.seeing import Seeing, seeing_of_header
from astrotriton.detection.image.stored import StoredPixels
from astrotriton.detection.image.wcs import Sky, SkyOfWcs, read_wcs
from astrotriton.detection.image.weights import weight_type_of
from astrotriton.wire.exposures import Companion, Observation, WeightType
from astrotriton.wire.flags import Flag

_FIELD = "exposure"
# Types of pixels by BITPIX (FITS Standard 4.0, table 8).
_STORED = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_NPY_HEADER = 12 + (1 << 16)  # bytes: of a longer one, NumPy refuses to believe that it is one
_NPY, _FITS = b"\x93NUMPY", b"SIMPLE  ="


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one exposure and its candidates."""

    max_bytes: int = 512 * 1024**2
    max_pixels: int = 16_384**2
    max_candidates: int = 100_000


class Exposure:
    """One image, read piece by piece; `read_exposure` and `from_array` make one.

    Attributes
    ----------
    shape
        Rows and columns, pixels.
    sky_of
        What its celestial WCS says; None without one.
    name
        The HDU the image came from.
    flags
        What is odd about it, of those that are raised for an exposure.
    saturation
        Level from which a pixel is saturated, counts, if the header says (``SATURATE``).
    stored
        Its pixels, where they are.
    headers
        What describes it, the nearest first: its own header, and the file's first one; none where
        they were read elsewhere.
    pixel_scale
        Side of a pixel, arcsec; None without a WCS.
    seeing
        What the header or the caller says of it; None if neither does.
    spread
        Reads the noise of each pixel, up to a factor, where a weight plane says it; see
        `Normalised`.
    psf
        An image of the PSF, float32, if there is one.
    images
        Of a cube, how many images of the same rows lie one below the other; otherwise 1.
    companions
        The science and the template image that it is the difference of, as far as they were sent.
    """

    def __init__(
        self,
        stored: StoredPixels,
        *,
        sky_of: Sky | None,
        name: str,
        flags: frozenset[Flag],
        saturation: float | None = None,
        headers: Sequence[fits.Header] = (),
        seeing: Seeing | None = None,
        observation: Observation | None = None,
        weight_type: WeightType | None = None,
        images: int = 1,
    ) -> None:
        self._planes: list[Callable[[slice, slice], Mask]] = []
        self.stored = stored
        self.shape: tuple[int, int] = stored.shape
        self.sky_of = sky_of
        self.name = name
        self.flags = flags
        self.saturation = saturation
        self.headers = headers
        self.pixel_scale = None if sky_of is None else sky_of.pixel_scale
        self.seeing = seeing
        if observation is not None:
            self.observation = observation
        if weight_type is not None:
            self.weight_type = weight_type
        self.spread: Callable[[slice, slice], Image] | None = None
        self.psf: Image | None = None
        self.images = images
        self.companions: dict[Companion, Exposure] = {}

    @classmethod
    def from_array(cls, values: NDArray[Any]) -> "Exposure":
        """Make an exposure without WCS of real values (H, W)."""
        return _of_array(values, "array")

    @cached_property
    def observation(self) -> Observation:
        """How it was taken, as far as the headers say."""
        return observation_of(self.headers)

    @cached_property
    def weight_type(self) -> WeightType:
        """What its values are if it is a weight plane, as far as its name and headers say."""
        return weight_type_of(self.name, self.headers)

    def exclude(self, plane: Callable[[slice, slice], Mask]) -> None:
        """Mask further pixels: ``plane`` gives bool for some rows and columns, True to ignore."""
        self._planes.append(plane)

    def raw(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Some rows and columns as they are stored, once scaled, in whatever type that is."""
        return np.asarray(self.stored(rows, columns))

    def pixels(self, rows: slice, columns: slice) -> tuple[Image, Mask]:
        """Some rows and columns: float32, contiguous, writable; and bool, True where unusable.

        A pixel is unusable if it is NaN, infinite or blank, or a plane excludes it. What its value
        is then means nothing.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            # One kind of array, or others are compiled for while somebody waits.
            data = np.require(self.raw(rows, columns), np.float32, ["C", "W"])
        mask = ~np.isfinite(data)
        for plane in self._planes:
            mask |= plane(rows, columns)
        return data, mask

    def image(self) -> tuple[Image, Mask]:
        """All pixels at once, for exposures that fit in memory."""
        return self.pixels(slice(0, self.shape[0]), slice(0, self.shape[1]))

    def nan_image(self) -> Image:
        """All pixels at once, float32 (H, W), NaN where they are unusable."""
        data, mask = self.image()
        return np.where(mask, np.float32(np.nan), data)

    def sky(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """ICRS right ascension and declination, degrees (2, N), of 0-based pixel positions.

        NaN where there is no WCS or it has no answer. Distortions (SIP, TPV) are applied and any
        celestial frame is converted.
        """
        nowhere = np.full((2, x.size), np.nan)
        return nowhere if self.sky_of is None or x.size == 0 else self.sky_of.to_icrs(x, y)

    def pixels_of(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
        """The 0-based x and y, pixels (2, N), of ICRS positions in degrees.

        NaN where there is no WCS, or it has no pixel for the position.
        """
        nowhere = np.full((2, ra.size), np.nan)
        return nowhere if self.sky_of is None or ra.size == 0 else self.sky_of.from_icrs(ra, dec)


def mute_astropy() -> None:
    """Silence Astropy's warnings and log in this process; for a program's start, not a library's.

    Odd headers are the normal case here; what matters of them is answered in the exposure's flags.
    """
    warnings.filterwarnings("ignore", category=AstropyWarning)
    log.setLevel("ERROR")


def read_exposure(
    content: Buffer,
    *,
    hdu: int | str | None = None,
    limits: Limits | None = None,
    cube: bool = False,
) -> Exposure:
    """Read a FITS file or a NumPy ``.npy`` file, also as ``.gz`` or ``.bz2``.

    FITS images may be tile-compressed (``.fz``). The libraries that read FITS are written in C, and
    a file that is made for it can end or take over the process that reads it.

    Parameters
    ----------
    content
        The whole file.
    hdu
        Index or EXTNAME of the HDU, ``SCI,2`` for the one of EXTVER 2; without it the first image
        that has data. FITS only.
    limits
        Bounds on the bytes, also once decompressed, and on the pixels.
    cube
        Whether the image has three axes, of which the first (the last in a FITS header) counts
        images; ``cube_images`` takes the exposure apart.

    Raises
    ------
    InputError
        ``not-fits``, ``unreadable-fits``, ``unreadable-npy``, ``no-image``, ``no-such-hdu``,
        ``wrong-dimensions``, or ``too-large`` (a `TooLargeError`).
    """
    limits = limits or Limits()
    if len(content) > limits.max_bytes:
        raise TooLargeError(_FIELD, f"{len(content)} bytes; at most {limits.max_bytes} are taken")
    content = decompressed(content, limits.max_bytes)
    if content[: len(_NPY)] == _NPY:
        return _of_array(_read_npy(content, limits), "npy", cube)
    if content[: len(_FITS)] != _FITS:
        raise InputError(
            "not-fits",
            _FIELD,
            "neither a FITS file (it does not begin with 'SIMPLE  =') nor a NumPy .npy file, plain"
            " or compressed by gzip or bzip2",
        )
    return _read_fits(content, hdu, limits, cube)


def _unreadable(error: Exception) -> InputError:
    detail = f"broken FITS file: {type(error).__name__}: {error}"
    return InputError("unreadable-fits", _FIELD, detail)


def _two_dimensional(shape: tuple[int, ...], name: str) -> tuple[int, int]:
    """The shape without axes of length 1 that an image may be wrapped in."""
    kept = [n for n in shape[:-2] if n != 1]
    if len(shape) < 2 or kept or min(shape) < 1:
        raise InputError(
            "wrong-dimensions",
            _FIELD,
            f"{name} has the shape {shape}; send one two-dimensional image, or choose an HDU that"
            " is one",
        )
    return shape[-2], shape[-1]


def _stacked(shape: tuple[int, ...], name: str) -> tuple[tuple[int, int], int]:
    """Rows of all images of a cube and columns, and how many images there are."""
    *kept, images, rows, columns = shape if len(shape) > 2 else (0, 0, 0)
    if any(n != 1 for n in kept) or min(images, rows, columns) < 1:
        raise InputError(
            "wrong-dimensions",
            _FIELD,
            f"{name} has the shape {shape}; send a cube of three axes: stamps, rows, columns",
        )
    return (images * rows, columns), images


def _of_array(values: NDArray[Any], name: str, cube: bool = False) -> Exposure:
    shape, images = (
        _stacked(values.shape, name) if cube else (_two_dimensional(values.shape, name), 1)
    )
    return Exposure(
        StoredPixels(values.reshape(shape)),
        sky_of=None,
        name=name,
        flags=frozenset({Flag.NO_WCS}),
        images=images,
    )


def _check_pixels(shape: tuple[int, ...], limits: Limits) -> None:
    pixels = math.prod(shape)
    if pixels > limits.max_pixels:
        raise TooLargeError(_FIELD, f"{pixels} pixels; at most {limits.max_pixels} are taken")


def _read_npy(content: Buffer, limits: Limits) -> NDArray[Any]:
    """The array of a .npy file, never unpickled and never larger than the file that holds it."""
    stream = io.BytesIO(content[:_NPY_HEADER])
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(stream)
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"its shape is {shape}")
    except Exception as error:  # the header is parsed as Python, which can fail in many ways
        raise InputError("unreadable-npy", _FIELD, f"not a .npy file: {error}") from error
    if dtype.kind not in "biuf" or dtype.itemsize == 0:
        raise InputError(
            "unreadable-npy", _FIELD, f"holds {dtype} values; send integers or real numbers"
        )
    _check_pixels(shape, limits)
    count = math.prod(shape)
    start = stream.tell()
    if len(content) - start < count * dtype.itemsize:
        raise InputError("unreadable-npy", _FIELD, "shorter than its header says")
    flat = np.frombuffer(content, dtype, count, start) if count else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_fits(content: Buffer, hdu: int | str | None, limits: Limits, cube: bool) -> Exposure:
    try:
        chosen, headers = hdus.find_image(content, hdu, limits.max_pixels)
        name, header = hdus.name(chosen), chosen.header
        _check_pixels(chosen.shape, limits)
        shape, images = (
            _stacked(chosen.shape, name) if cube else (_two_dimensional(chosen.shape, name), 1)
        )
        place = chosen.fileinfo()
        plain = hdus.is_plain(chosen)
        cards = bytes(content[place["hdrLoc"] : place["datLoc"]]) if plain else None
        stored = _stored(chosen, content, shape)
    except InputError:
        raise
    except Exception as error:  # astropy raises almost anything on a broken file
        raise _unreadable(error) from error
    if cube:  # one WCS is not that of every image
        wcs, flags = None, frozenset({Flag.NO_WCS})
    else:
        wcs, flags = read_wcs(header, cards)
    sky_of = None if wcs is None else SkyOfWcs(wcs)
    return Exposure(
        stored,
        sky_of=sky_of,
        name=name,
        flags=flags,
        saturation=_saturation(header),
        headers=headers,
        seeing=seeing_of_header(header, None if sky_of is None else sky_of.pixel_scale),
        images=images,
    )


def _stored(hdu: Any, content: Buffer, shape: tuple[int, int]) -> StoredPixels:
    """The pixels of an image, without axes of length 1."""
    if not hdus.is_plain(hdu):
        # Pieces of a compressed one overlap in what must be decompressed for them: that is done
        # once, into the type it has, which is what the file would hold uncompressed.
        compressed = isinstance(hdu, fits.CompImageHDU)
        whole = np.asarray(hdu.data if compressed else hdu.section[...])
        if whole.shape != hdu.shape:
            raise ValueError(f"its tiles make an image of {whole.shape} pixels, not {hdu.shape}")
        return StoredPixels(whole.reshape(shape))
    # The file is in memory already: its pixels are read where they lie.
    header = hdu.header
    array = np.frombuffer(
        content, _STORED[header["BITPIX"]], math.prod(hdu.shape), hdu.fileinfo()["datLoc"]
    ).reshape(shape)
    return StoredPixels(
        array,
        scale=float(header.get("BSCALE", 1.0)),
        zero=float(header.get("BZERO", 0.0)),
        blank=_blank(header.get("BLANK"), array.dtype),
    )


def _blank(stated: object, dtype: np.dtype[Any]) -> int | None:
    """``BLANK``, if it is a value that pixels of the type can have."""
    if dtype.kind not in "iu" or isinstance(stated, bool) or not isinstance(stated, int | float):
        return None
    bounds = np.iinfo(dtype)
    if not bounds.min <= stated <= bounds.max or stated != int(stated):
        return None
    return int(stated)


def _saturation(header: fits.Header) -> float | None:
    try:
        level = float(header["SATURATE"])
    except Exception:  # a card that cannot be parsed says so only when it is read
        return None
    return level if math.isfinite(level) and level > 0.0 else None
