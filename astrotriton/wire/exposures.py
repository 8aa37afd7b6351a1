"""Exposures: what was scored, how it was taken, and its quality as a whole."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

#: Of a time. UTC stands for any kind of it that a header names (UT, GMT).
TimeScale = Literal["UTC", "UT1", "TAI", "TT", "TDB", "TCG", "TCB"]
#: Who says how wide point sources are: the request, an image of the PSF, the header, the point
#: sources of the exposure, or nobody.
SeeingSource = Literal["request", "psf", "header", "measured", "assumed"]
SeeingUnit = Literal["px", "arcsec"]
#: What the values of a weight map are.
WeightType = Literal["inverse_variance", "variance", "standard_deviation"]
#: Images that a request may send beside the difference image.
Companion = Literal["science", "template"]
COMPANIONS: tuple[Companion, ...] = ("science", "template")
#: What a network may be shown.
Plane = Literal["difference", "science", "template"]


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """When, through what and how an exposure was taken; null: neither header nor request say."""

    mjd_mid: Annotated[
        float | None,
        Meta(
            description="Mid-exposure, MJD in the scale `time_scale`. It is the beginning where "
            "`time_source` names nothing else.",
            examples=[58334.39324765],
            extra={"unit": "d", "ucd": "time.epoch;obs.exposure"},
        ),
    ] = None
    time_scale: Annotated[
        TimeScale | None,
        Meta(
            description="Scale of `mjd_mid`: that of the request or of TIMESYS, else UTC.",
            examples=["UTC"],
            extra={"ucd": "meta.code;time.scale"},
        ),
    ] = None
    observed_at: Annotated[
        datetime | None,
        Meta(description="Mid-exposure, UTC.", examples=["2018-08-04T09:26:16.597Z"]),
    ] = None
    time_source: Annotated[
        str | None,
        Meta(
            description="What says so: `request`, or the keywords that the time was made of.",
            examples=["MJD-OBS + EXPTIME/2"],
            extra={"ucd": "meta.note"},
        ),
    ] = None
    exposure_time: Annotated[
        float | None,
        Meta(
            description="Seconds.",
            examples=[330.0],
            extra={"unit": "s", "ucd": "time.duration;obs.exposure"},
        ),
    ] = None
    filter: Annotated[
        str | None,
        Meta(
            description="As the request or the header names it.",
            examples=["i DECam SDSS c0003 7835.0 1470.0"],
            extra={"ucd": "meta.id;instr.filter"},
        ),
    ] = None
    flux_unit: Annotated[
        str | None,
        Meta(
            description="Unit of the pixels, and so of every flux: that of the request, or BUNIT. "
            "Null: neither says.",
            examples=["adu"],
            extra={"ucd": "meta.unit"},
        ),
    ] = None
    zero_point: Annotated[
        float | None,
        Meta(
            description="Magnitude of a flux of 1 `flux_unit`, in whatever system it was given in; "
            "AB where it follows from a unit of flux density.",
            examples=[30.2],
            extra={"unit": "mag", "ucd": "phot.mag;arith.zp"},
        ),
    ] = None
    zero_point_source: Annotated[
        str | None,
        Meta(
            description="What says so: `request`, `flux_unit` (of the request), or the keywords.",
            examples=["MAGZERO"],
            extra={"ucd": "meta.note"},
        ),
    ] = None


class ExposureInfo(Observation, frozen=True, kw_only=True):
    """The exposure that was scored, and how it was taken."""

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
    limiting_magnitude
        ``depth`` as a magnitude: of a point source of SNR 5. None without a zero point.
    planes
        What the version was shown: the ``difference`` image, and those of ``science`` and
        ``template`` that were sent and that it uses.
    """

    background: float
    background_gradient: float
    noise: float
    depth: float
    seeing_fwhm: float | None
    seeing_source: SeeingSource = "assumed"
    masked_fraction: float
    saturated_fraction: float | None
    limiting_magnitude: float | None = None
    planes: tuple[Plane, ...] = ("difference",)
