"""Further images of an exposure: which of its pixels are unusable, how noisy each is, its PSF."""

from collections.abc import Callable

import msgspec
import numpy as np

from astrotriton.detection.arrays import Image, Mask
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Exposure, Limits, read_exposure
from astrotriton.wire.exposures import WeightType

# What HDUs are called that hold one, and what Astropy writes of its uncertainties (NDData, UTYPE).
_NAMED: dict[str, WeightType] = {
    **dict.fromkeys(("VAR", "VARIANCE", "VARIANCEUNCERTAINTY"), "variance"),
    **dict.fromkeys(
        ("ERR", "ERROR", "RMS", "SIGMA", "STDDEV", "UNCERT", "NOISE", "STDDEVUNCERTAINTY"),
        "standard_deviation",
    ),
    **dict.fromkeys(
        ("WEIGHT", "WGT", "WHT", "WTMAP", "IVAR", "INVVAR", "INVERSEVARIANCE", "OOW"),
        "inverse_variance",
    ),
}
_NAMING = ("PRODTYPE", "IMTYPE")
_MOST_PSF = 511  # rows or columns


class Planes(msgspec.Struct, frozen=True, kw_only=True):
    """Where the planes are: in files of their own, or in HDUs of the exposure's file.

    Attributes
    ----------
    mask
        A data-quality plane, of integers or truth values: a pixel is unusable where it is not 0.
    mask_bits
        The bits of the data-quality plane that count; None: all.
    weight
        The noise of each pixel, up to a factor: a pixel is unusable where it is not above 0.
    weight_type
        What its values are; None: what its HDU's name or header says, or else inverse variances.
    psf
        The PSF on the exposure's pixels, in the middle of an image of odd sides.
    mask_hdu, weight_hdu, psf_hdu
        Index or EXTNAME, in the plane's file or, without one, in the exposure's.
    """

    mask: bytes | None = None
    mask_bits: int | None = None
    weight: bytes | None = None
    weight_type: WeightType | None = None
    psf: bytes | None = None
    mask_hdu: int | str | None = None
    weight_hdu: int | str | None = None
    psf_hdu: int | str | None = None


def read_planes(exposure: Exposure, planes: Planes, content: bytes, limits: Limits) -> None:
    """Give an exposure what its planes say: unusable pixels, the noise of each, and the PSF.

    Parameters
    ----------
    content
        The exposure's file, for planes that are HDUs of it.

    Raises
    ------
    InputError
        If a plane cannot be read (the field is ``mask``, ``weight`` or ``psf``), or has another
        shape than the exposure (``plane-shape``).
    """
    if planes.mask is not None or planes.mask_hdu is not None:
        file = content if planes.mask is None else planes.mask
        plane = _open("mask", file, planes.mask_hdu, exposure, limits)
        exposure.exclude(_nonzero(plane, planes.mask_bits))
    if planes.weight is not None or planes.weight_hdu is not None:
        file = content if planes.weight is None else planes.weight
        plane = _open("weight", file, planes.weight_hdu, exposure, limits)
        kind = planes.weight_type or _kind_of(plane)
        spread = _spread(plane, kind)
        exposure.exclude(lambda rows, columns: ~(spread(rows, columns) > 0.0))
        exposure.spread = spread
    if planes.psf is not None or planes.psf_hdu is not None:
        file = content if planes.psf is None else planes.psf
        plane = _read("psf", file, planes.psf_hdu, limits)
        if max(plane.shape) > _MOST_PSF:
            raise InputError(
                "plane-shape",
                "psf",
                f"has {plane.shape[0]} rows and {plane.shape[1]} columns: send the PSF alone, of"
                f" at most {_MOST_PSF}",
            )
        exposure.psf, missing = plane.image()
        exposure.psf[missing] = 0.0


def _read(field: str, content: bytes, hdu: int | str | None, limits: Limits) -> Exposure:
    try:
        return read_exposure(content, hdu=hdu, limits=limits)
    except InputError as error:
        raise InputError(error.code, field, error.detail) from error


def _open(
    field: str, content: bytes, hdu: int | str | None, exposure: Exposure, limits: Limits
) -> Exposure:
    plane = _read(field, content, hdu, limits)
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


def _kind_of(plane: Exposure) -> WeightType:
    """What the values of a plane are, by its HDU's name or header; inverse variances by default."""
    header = plane.headers[0] if plane.headers else {}
    for name in (header.get("UTYPE"), plane.name, *map(header.get, _NAMING)):
        base = str(name or "").partition(",")[0].strip().upper()
        if base in _NAMED:
            return _NAMED[base]
    return "inverse_variance"


def _spread(plane: Exposure, kind: WeightType) -> Callable[[slice, slice], Image]:
    """The standard deviation that a plane says, float32; 0 where it says none."""

    def read(rows: slice, columns: slice) -> Image:
        values, missing = plane.pixels(rows, columns)
        values[missing | ~(values > 0.0)] = 0.0
        if kind == "variance":
            return np.sqrt(values)
        if kind == "inverse_variance":
            with np.errstate(divide="ignore"):
                values = np.reciprocal(np.sqrt(values))
        values[~np.isfinite(values)] = 0.0
        return values

    return read
