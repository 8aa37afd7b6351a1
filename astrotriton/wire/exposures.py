"""Exposures: what was scored, and its quality as a whole."""

from typing import Annotated

import msgspec
from msgspec import Meta


class ExposureInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The exposure that was scored."""

    name: Annotated[str | None, Meta(description="`exposure_id`, or the file's name.")]
    hdu: Annotated[str, Meta(description="The HDU that was scored, or `npy`.")]
    height: Annotated[int, Meta(description="Rows, pixels.")]
    width: Annotated[int, Meta(description="Columns, pixels.")]
    digest: Annotated[str, Meta(description="SHA-256 of the file as it came.")]


class ImageQuality(msgspec.Struct, frozen=True, kw_only=True):
    """The exposure as a whole.

    Attributes
    ----------
    background
        Median of the background map, counts.
    background_gradient
        Largest minus smallest of the background map, in units of ``noise``.
    noise
        Median of the background's rms map, counts.
    depth
        Flux of a point source of SNR 5, counts.
    seeing_fwhm
        Median full width at half maximum of point-like sources, pixels; None with fewer than 3.
    masked_fraction
        Share of pixels that are NaN, infinite, blank or excluded by a plane.
    saturated_fraction
        Share of pixels from the header's ``SATURATE`` on; None without it.
    """

    background: float
    background_gradient: float
    noise: float
    depth: float
    seeing_fwhm: float | None
    masked_fraction: float
    saturated_fraction: float | None
