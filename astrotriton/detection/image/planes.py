"""Further images of an exposure that say which of its pixels are unusable."""

from collections.abc import Callable

import msgspec
import numpy as np

from astrotriton.detection.arrays import Mask
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Exposure, Limits, read_exposure


class Planes(msgspec.Struct, frozen=True, kw_only=True):
    """Where the planes are: in files of their own, or in HDUs of the exposure's file.

    Attributes
    ----------
    mask
        A data-quality plane, of integers or truth values: a pixel is unusable where it is not 0.
    mask_bits
        The bits of the data-quality plane that count; None: all.
    weight
        A weight or inverse-variance map: a pixel is unusable where it is not above 0.
    mask_hdu, weight_hdu
        Index or EXTNAME, in the plane's file or, without one, in the exposure's.
    """

    mask: bytes | None = None
    mask_bits: int | None = None
    weight: bytes | None = None
    mask_hdu: int | str | None = None
    weight_hdu: int | str | None = None


def exclude_planes(exposure: Exposure, planes: Planes, content: bytes, limits: Limits) -> None:
    """Mask the pixels of an exposure that its planes call unusable.

    Parameters
    ----------
    content
        The exposure's file, for planes that are HDUs of it.

    Raises
    ------
    InputError
        If a plane cannot be read (the field is ``mask`` or ``weight``), or has another shape than
        the exposure (``plane-shape``).
    """
    if planes.mask is not None or planes.mask_hdu is not None:
        file = content if planes.mask is None else planes.mask
        plane = _open("mask", file, planes.mask_hdu, exposure, limits)
        exposure.exclude(_nonzero(plane, planes.mask_bits))
    if planes.weight is not None or planes.weight_hdu is not None:
        file = content if planes.weight is None else planes.weight
        plane = _open("weight", file, planes.weight_hdu, exposure, limits)
        exposure.exclude(_worthless(plane))


def _open(
    field: str, content: bytes, hdu: int | str | None, exposure: Exposure, limits: Limits
) -> Exposure:
    try:
        plane = read_exposure(content, hdu=hdu, limits=limits)
    except InputError as error:
        raise InputError(error.code, field, error.detail) from error
    if plane.shape != exposure.shape:
        raise InputError(
            "plane-shape",
            field,
            f"has {plane.shape[0]} rows and {plane.shape[1]} columns, the exposure"
            f" {exposure.shape[0]} and {exposure.shape[1]}: send one of the same shape",
        )
    return plane


def _nonzero(plane: Exposure, bits: int | None) -> Callable[[slice, slice], Mask]:
    def unusable(rows: slice, columns: slice) -> Mask:
        values = plane.raw(rows, columns)
        if bits is not None and values.dtype.kind in "iu":
            values = values & bits
        return np.asarray(values != 0)

    return unusable


def _worthless(plane: Exposure) -> Callable[[slice, slice], Mask]:
    def unusable(rows: slice, columns: slice) -> Mask:
        values, missing = plane.pixels(rows, columns)
        with np.errstate(invalid="ignore"):
            return missing | ~(values > 0.0)

    return unusable
