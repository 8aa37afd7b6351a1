"""Further images of an exposure: what is unusable, how noisy each pixel is, its PSF, its epochs."""

from collections.abc import Callable

import msgspec
import numpy as np

from astrotriton.detection.arrays import Buffer, Image, Mask
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.alignment import check_aligned, check_shape
from astrotriton.detection.image.exposure import Exposure, Limits, read_exposure
from astrotriton.wire.exposures import COMPANIONS, WeightType

#: What may come with an exposure, by the field of a request that brings it.
PLANE_FIELDS = ("mask", "weight", "psf", *COMPANIONS)

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
    science, template
        The images that the exposure is the difference of, on its pixels.
    mask_hdu, weight_hdu, psf_hdu, science_hdu, template_hdu
        Index or EXTNAME, in the plane's file or, without one, in the exposure's.
    """

    mask: Buffer | None = None
    mask_bits: int | None = None
    weight: Buffer | None = None
    weight_type: WeightType | None = None
    psf: Buffer | None = None
    science: Buffer | None = None
    template: Buffer | None = None
    mask_hdu: int | str | None = None
    weight_hdu: int | str | None = None
    psf_hdu: int | str | None = None
    science_hdu: int | str | None = None
    template_hdu: int | str | None = None


class OpenPlanes(msgspec.Struct, frozen=True, kw_only=True):
    """The planes that there are, as images of their own."""

    mask: Exposure | None = None
    weight: Exposure | None = None
    psf: Exposure | None = None
    science: Exposure | None = None
    template: Exposure | None = None


def open_planes(
    planes: Planes,
    content: Buffer,
    exposure: Exposure,
    limits: Limits,
    begin: Callable[[str], None] = lambda field: None,
) -> OpenPlanes:
    """Find the planes, each in its file.

    Parameters
    ----------
    content
        The exposure's file, for planes that are HDUs of it.
    exposure
        Read from it: science and template must lie on its pixels.
    begin
        Told of the field of the plane that is read next.

    Raises
    ------
    InputError
        If one cannot be read, or is not aligned (see `check_aligned`); the field is one of
        `PLANE_FIELDS`.
    """
    found: dict[str, Exposure] = {}
    for field in PLANE_FIELDS:
        file, hdu = getattr(planes, field), getattr(planes, f"{field}_hdu")
        if file is None and hdu is None:
            continue
        begin(field)
        try:
            found[field] = read_exposure(content if file is None else file, hdu=hdu, limits=limits)
        except InputError as error:
            error.field = field
            raise
    for companion in COMPANIONS:
        if companion in found:
            check_aligned(companion, found[companion], exposure)
    return OpenPlanes(**found)


def apply_planes(exposure: Exposure, opened: OpenPlanes, planes: Planes) -> None:
    """Give an exposure its planes: unusable pixels, the noise of each, PSF, science and template.

    Raises
    ------
    InputError
        ``plane-shape`` if a plane has another shape than the exposure; the field is the plane.
    """
    if opened.mask is not None:
        check_shape("mask", opened.mask, exposure)
        exposure.exclude(_nonzero(opened.mask, planes.mask_bits))
    if opened.weight is not None:
        check_shape("weight", opened.weight, exposure)
        kind = planes.weight_type or opened.weight.weight_type
        spread = _spread(opened.weight, kind)
        exposure.exclude(lambda rows, columns: ~(spread(rows, columns) > 0.0))
        exposure.spread = spread
    if opened.psf is not None:
        height, width = opened.psf.shape
        if max(height, width) > _MOST_PSF:
            raise InputError(
                "plane-shape",
                "psf",
                f"has {height} rows and {width} columns: send the PSF alone, of at most"
                f" {_MOST_PSF}",
            )
        exposure.psf, missing = opened.psf.image()
        exposure.psf[missing] = 0.0
    for field in COMPANIONS:
        if (plane := getattr(opened, field)) is not None:
            # What read it may have said anything of it.
            check_shape(field, plane, exposure)
            exposure.companions[field] = plane


def _nonzero(plane: Exposure, bits: int | None) -> Callable[[slice, slice], Mask]:
    def unusable(rows: slice, columns: slice) -> Mask:
        values = plane.raw(rows, columns)
        if bits is not None and values.dtype.kind in "iu":
            values = values & bits
        return np.asarray(values != 0)

    return unusable


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
