"""Exposures: what was scored, and its quality as a whole."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

#: Who says how wide point sources are: the request, an image of the PSF, the header, the point
#: sources of the exposure, or nobody.
SeeingSource = Literal["request", "psf", "header", "measured", "assumed"]
SeeingUnit = Literal["px", "arcsec"]
#: What the values of a weight map are.
WeightType = Literal["inverse_variance", "variance", "standard_deviation"]


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
        Median of the noise map, counts.
    depth
        PSF flux of a point source of SNR 5, counts.
    seeing_fwhm
        Full width at half maximum of point sources, pixels; None if nothing says it.
    seeing_source
        Who says it: the ``request``, an image of the ``psf``, the ``header``, or at least 3 point
        sources that are ``measured``. ``assumed``: nobody; 4 px are assumed, the flag
        ``seeing_assumed`` is raised, and the errors of fluxes say how far off that may be.
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
    seeing_source: SeeingSource = "assumed"
    masked_fraction: float
    saturated_fraction: float | None
