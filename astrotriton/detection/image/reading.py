"""An exposure with its planes, read in one process and scored in another.

`read_image` does what needs the libraries that read FITS. What it finds can be told (`described`)
without the file, and made an exposure again (`rebuilt`) by who has the file but must not parse it.
"""

import re
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Buffer
from astrotriton.detection.image.exposure import Exposure, Limits, read_exposure
from astrotriton.detection.image.observation import observation_of
from astrotriton.detection.image.planes import OpenPlanes, Planes, open_planes
from astrotriton.detection.image.seeing import Seeing
from astrotriton.detection.image.stored import StoredPixels
from astrotriton.detection.image.wcs import Sky
from astrotriton.wire.exposures import Observation, WeightType
from astrotriton.wire.flags import Flag

_DTYPE = re.compile(r"[<>|]?(b1|[iu][1248]|f(2|4|8|16))")


class Place(msgspec.Struct, frozen=True):
    """Where pixels lie in a piece of memory.

    Attributes
    ----------
    file
        Which of the files that were sent holds them (``exposure``, ``mask``, ...); None: they are
        none of a file as it came, and lie where `described` put them.
    offset
        Bytes from its start to the first pixel.
    dtype
        NumPy's name of their type.
    shape, strides
        Rows and columns; bytes from one to the next.
    """

    file: str | None
    offset: int
    dtype: str
    shape: tuple[int, int]
    strides: tuple[int, int]


class Description(msgspec.Struct, frozen=True):
    """An image, as `Exposure` has it, without its pixels."""

    place: Place
    scale: float
    zero: float
    blank: int | None
    name: str
    flags: frozenset[Flag]
    saturation: float | None
    seeing: Seeing | None
    observation: Observation
    weight_type: WeightType
    has_sky: bool
    pixel_scale: float | None
    images: int = 1


def read_image(
    content: Buffer,
    *,
    hdu: int | str | None = None,
    planes: Planes | None = None,
    observation: Observation | None = None,
    limits: Limits | None = None,
    cube: bool = False,
    begin: Callable[[str], None] = lambda field: None,
) -> tuple[Exposure, OpenPlanes]:
    """Read an exposure and its planes, which are not applied yet.

    Parameters
    ----------
    content
        A FITS or .npy file.
    hdu
        Index or EXTNAME of the image, FITS only.
    planes
        Further images of it.
    observation
        What the sender says of how it was taken; the headers say the rest.
    limits
        Bounds on each file.
    cube
        Whether the exposure is a cube of images; see `read_exposure`.
    begin
        Told of what is read next: ``exposure``, or one of `PLANE_FIELDS`.

    Raises
    ------
    InputError
        If the exposure or a plane cannot be read, or science or template is not on the exposure's
        pixels; the field says which.
    """
    limits = limits or Limits()
    begin("exposure")
    exposure = read_exposure(content, hdu=hdu, limits=limits, cube=cube)
    if observation is not None:
        exposure.observation = observation_of(exposure.headers, observation)
    return exposure, open_planes(planes or Planes(), content, exposure, limits, begin)


def described(
    exposure: Exposure, files: dict[str, Buffer], put: Callable[[NDArray[np.generic]], int]
) -> Description:
    """An exposure, told without its pixels.

    Parameters
    ----------
    files
        Those that it may have been read from, by their names.
    put
        Keeps pixels that lie in none of them, C-contiguous, and says at which offset.
    """
    array, place = exposure.stored.array, None
    for name, file in files.items():
        start = _offset(array, np.frombuffer(file, np.uint8))
        if start is not None:
            place = Place(name, start, array.dtype.str, exposure.shape, _two(array.strides))
    if place is None:
        array = np.ascontiguousarray(array)
        place = Place(None, put(array), array.dtype.str, exposure.shape, _two(array.strides))
    return Description(
        place=place,
        scale=exposure.stored.scale,
        zero=exposure.stored.zero,
        blank=exposure.stored.blank,
        name=exposure.name,
        flags=exposure.flags,
        saturation=exposure.saturation,
        seeing=exposure.seeing,
        observation=exposure.observation,
        weight_type=exposure.weight_type,
        has_sky=exposure.sky_of is not None,
        pixel_scale=exposure.pixel_scale,
        images=exposure.images,
    )


def rebuilt(
    description: Description, files: dict[str, Buffer], kept: Buffer, sky: Sky, limits: Limits
) -> Exposure:
    """The exposure that was described, by who need not believe what the description says.

    Parameters
    ----------
    files
        As `described` was given them.
    kept
        What was put, as one piece of memory.
    sky
        Answers for its WCS, if it has one.

    Raises
    ------
    ValueError
        If pixels would lie outside their memory, or there are more than the limit.
    """
    place = description.place
    if not _DTYPE.fullmatch(place.dtype):
        raise ValueError(f"pixels of the type {place.dtype}")
    if min(place.shape) < 1 or place.shape[0] * place.shape[1] > limits.max_pixels:
        raise ValueError(f"an image of {place.shape} pixels")
    if description.images < 1 or place.shape[0] % description.images:
        raise ValueError(f"{description.images} images in {place.shape} pixels")
    memory = kept if place.file is None else files[place.file]
    # NumPy checks that every pixel lies within.
    array: NDArray[np.generic] = np.ndarray(
        place.shape, place.dtype, memory, place.offset, place.strides
    )
    array.flags.writeable = False
    return Exposure(
        StoredPixels(array, description.scale, description.zero, description.blank),
        sky_of=sky if description.has_sky else None,
        name=description.name,
        flags=description.flags,
        saturation=description.saturation,
        seeing=description.seeing,
        observation=description.observation,
        weight_type=description.weight_type,
        images=description.images,
    )


def _offset(array: NDArray[np.generic], file: NDArray[np.uint8]) -> int | None:
    """Bytes from the start of a file to an array that lies in it; None if it does not."""
    low, high = np.lib.array_utils.byte_bounds(array)
    first = file.__array_interface__["data"][0]
    if file.size == 0 or low < first or high > first + file.size:
        return None
    return int(array.__array_interface__["data"][0]) - int(first)


def _two(strides: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = strides
    return rows, columns
