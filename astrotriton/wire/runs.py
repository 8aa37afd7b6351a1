"""Runs: an exposure scored by one model version."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from astrotriton.wire.confidence import AskedPrevalence, Guarantee, Prevalence
from astrotriton.wire.detections import Candidate, CandidateIn, ScoredDetection
from astrotriton.wire.exposures import (
    ExposureInfo,
    ImageQuality,
    Observation,
    SeeingUnit,
    TimeScale,
    WeightType,
)
from astrotriton.wire.fields import FieldError, Hdu, Name, Probability, Version
from astrotriton.wire.flags import FLAGS, explained
from astrotriton.wire.models import ModelRef
from astrotriton.wire.problems import Problem

_BRIGHTEST, _FAINTEST = -20.0, 60.0  # zero points
_FIRST_MJD, _LAST_MJD = 15020.0, 88069.0
_LONGEST = 1e7  # seconds
_OF_OBSERVATION = ("mjd_mid", "time_scale", "exposure_time", "filter", "flux_unit", "zero_point")


class InferRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to score an exposure; every field may be left out.

    Raises
    ------
    FieldError
        If both a threshold and a false discovery rate are given (the rate chooses the threshold),
        or a zero point, a time or an exposure time cannot be meant,
        or a unit of the seeing is given without it.
    """

    candidates: Annotated[
        list[CandidateIn] | None,
        Meta(
            description="Sources to score. Each comes back, whatever became of it. Null or left "
            "out: the gateway extracts sources itself, and says so in `extracted`. A table can be "
            "sent instead: as the part `candidates` of a form, or as `candidates_table` of an "
            "exposure by reference."
        ),
    ] = None
    hdu: Annotated[
        Hdu | None,
        Meta(description="HDU by index or EXTNAME. Left out: the first image with data."),
    ] = None
    confidence_threshold: Annotated[
        Probability | None,
        Meta(
            description="Least confidence of a real detection. Left out: the service's own, or the "
            "one that `max_false_discovery_rate` chooses; not both."
        ),
    ] = None
    max_false_discovery_rate: Annotated[
        Annotated[float, Meta(gt=0.0, lt=1.0)] | None,
        Meta(
            description="Choose the threshold so that the expected share of false detections among "
            "the real ones stays below this; `guarantee` says what is promised. Not together with "
            "`confidence_threshold`."
        ),
    ] = None
    prevalence: Annotated[
        AskedPrevalence | None,
        Meta(
            description="The share of real sources among all that are scored, of your survey: "
            "confidences, intervals and the guarantee then hold for it. `estimated`: as it is in "
            "the exposures that were scored lately. `calibrated`: as in the version's "
            "calibration, whatever the route says. Left out: what the route says, or as in the "
            "calibration. The answer's `prevalence` says which share was used.",
            examples=[0.001],
        ),
    ] = None
    tta: Annotated[
        bool,
        Meta(
            description="Test-time augmentation: each tile is shown in eight orientations, "
            "for a better confidence at eight times the cost. Where several versions are served, "
            "`ensemble_std` says how far they disagree."
        ),
    ] = False
    polarity: Annotated[
        Literal[1, -1] | None,
        Meta(
            description="Look for sources that brighten, 1, or that fade, -1, alone. Left out: for "
            "what the version's card says, which brightens unless it says more.",
            examples=[1],
        ),
    ] = None
    mask_hdu: Annotated[
        Hdu | None,
        Meta(
            description="HDU of a data-quality plane, in the part `mask` or, without one, in the "
            "exposure. Pixels are left out where it is not 0."
        ),
    ] = None
    mask_bits: Annotated[
        Annotated[int, Meta(ge=1, le=2**31 - 1)] | None,
        Meta(description="The bits of the data-quality plane that count. Left out: all."),
    ] = None
    weight_hdu: Annotated[
        Hdu | None,
        Meta(
            description="HDU of a weight map, in the part `weight` or, without one, in the "
            "exposure. It says the noise of each pixel up to a factor, which the exposure's own "
            "noise sets. Pixels are left out where it is not above 0."
        ),
    ] = None
    weight_type: Annotated[
        WeightType | None,
        Meta(
            description="What the weight map holds. Left out: what the HDU's name says (`VAR`, "
            "`VARIANCE`; `ERR`, `RMS`, `SIGMA`, `UNCERT`), or Astropy's `UTYPE`; otherwise inverse "
            "variances."
        ),
    ] = None
    seeing_fwhm: Annotated[
        Annotated[float, Meta(gt=0.0, le=1000.0)] | None,
        Meta(
            description="Full width at half maximum of point sources, in `seeing_unit`; 0.8 to 25 "
            "px. Left out: that of the PSF's image, of the header, or of the point sources that "
            "are found; the answer's `seeing_source` says which."
        ),
    ] = None
    seeing_unit: Annotated[
        SeeingUnit | None,
        Meta(description="Unit of `seeing_fwhm`. Left out: `px`. `arcsec` needs a WCS."),
    ] = None
    psf_hdu: Annotated[
        Hdu | None,
        Meta(
            description="HDU of an image of the PSF, in the part `psf` or, without one, in the "
            "exposure. Fluxes are fitted with it."
        ),
    ] = None
    science_hdu: Annotated[
        Hdu | None,
        Meta(
            description="HDU of the science image, in the part `science` or, without one, in the "
            "exposure: the new image, before the template was subtracted. Versions whose card "
            "names it look at it, others leave it alone; the answer's `planes` says which images "
            "were looked at."
        ),
    ] = None
    template_hdu: Annotated[
        Hdu | None,
        Meta(
            description="HDU of the template (reference) image, in the part `template` or, without "
            "one, in the exposure, aligned with it."
        ),
    ] = None
    exposure_id: Annotated[
        Name | None,
        Meta(
            description="Your name for the exposure. Left out: the file's name.",
            examples=["decam_difference"],
        ),
    ] = None
    zero_point: Annotated[
        float | None,
        Meta(
            description="Magnitude of a flux of 1, for `mag` and the limiting magnitude. Left out: "
            "what the header says.",
            extra_json_schema={"minimum": _BRIGHTEST, "maximum": _FAINTEST},
        ),
    ] = None
    flux_unit: Annotated[
        Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[ -~]*[!-~][ -~]*$")] | None,
        Meta(description="Unit of the pixels. Left out: BUNIT.", examples=["adu", "nJy"]),
    ] = None
    mjd_mid: Annotated[
        float | None,
        Meta(
            description="Mid-exposure, MJD. Left out: what the header says.",
            extra_json_schema={"minimum": _FIRST_MJD, "maximum": _LAST_MJD},
        ),
    ] = None
    time_scale: Annotated[
        TimeScale | None,
        Meta(description="Scale of `mjd_mid`. Left out: UTC."),
    ] = None
    exposure_time: Annotated[
        float | None,
        Meta(
            description="Seconds. Left out: what the header says.",
            extra_json_schema={"exclusiveMinimum": 0.0, "maximum": _LONGEST},
        ),
    ] = None
    filter: Annotated[
        Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] | None,
        Meta(description="Left out: what the header says.", examples=["r"]),
    ] = None
    model_version: Annotated[
        Version | Literal["champion", "challenger"] | None,
        Meta(
            description="The version that shall answer: a number, or an alias of the route. Left "
            "out: the one that the route chooses."
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.confidence_threshold is not None and self.max_false_discovery_rate is not None:
            raise FieldError(
                "confidence_threshold",
                "leave it out, or leave out max_false_discovery_rate, which chooses the threshold",
            )
        if self.seeing_unit is not None and self.seeing_fwhm is None:
            raise FieldError("seeing_unit", "leave it out, or give seeing_fwhm, whose unit it is")
        if self.zero_point is not None and not _BRIGHTEST <= self.zero_point <= _FAINTEST:
            raise FieldError(
                "zero_point",
                f"give the magnitude of a flux of 1, between {_BRIGHTEST:g} and {_FAINTEST:g}",
            )
        if self.mjd_mid is not None and not _FIRST_MJD <= self.mjd_mid <= _LAST_MJD:
            raise FieldError(
                "mjd_mid",
                "give a modified Julian date, which is the Julian date less 2400000.5, between "
                f"{_FIRST_MJD:g} (1900) and {_LAST_MJD:g} (2100)",
            )
        if self.time_scale is not None and self.mjd_mid is None:
            raise FieldError(
                "time_scale", "it is that of mjd_mid: give that too, or leave this out"
            )
        if self.exposure_time is not None and not 0.0 < self.exposure_time <= _LONGEST:
            raise FieldError("exposure_time", f"give seconds, above 0 and at most {_LONGEST:g}")

    def to_observation(self) -> Observation:
        """What it says of how the exposure was taken."""
        given = {name: getattr(self, name) for name in _OF_OBSERVATION}
        return Observation(**given)

    def to_candidates(self) -> list[Candidate] | None:
        """The candidates as `detection` takes them, each with an id."""
        if self.candidates is None:
            return None
        return [given.named(str(index)) for index, given in enumerate(self.candidates)]


class InferByReference(InferRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exposure in an object store, and how to score it."""

    exposure: Annotated[
        str,
        Meta(
            description="`s3://bucket/key` in a bucket that the service allows.",
            examples=["s3://nights/2026-11-24/decam_difference.fits"],
            max_length=1024,
        ),
    ]
    mask: Annotated[
        Annotated[str, Meta(max_length=1024)] | None,
        Meta(description="`s3://bucket/key` of a data-quality plane."),
    ] = None
    weight: Annotated[
        Annotated[str, Meta(max_length=1024)] | None,
        Meta(description="`s3://bucket/key` of a weight map."),
    ] = None
    psf: Annotated[
        Annotated[str, Meta(max_length=1024)] | None,
        Meta(description="`s3://bucket/key` of an image of the PSF."),
    ] = None
    science: Annotated[
        Annotated[str, Meta(max_length=1024)] | None,
        Meta(description="`s3://bucket/key` of the science image."),
    ] = None
    template: Annotated[
        Annotated[str, Meta(max_length=1024)] | None,
        Meta(description="`s3://bucket/key` of the template image."),
    ] = None
    candidates_table: Annotated[
        Annotated[str, Meta(max_length=1024)] | None,
        Meta(
            description="`s3://bucket/key` of a table of candidates: CSV, ECSV, VOTable, FITS or a "
            "catalogue of SExtractor. Not together with `candidates`."
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates is not None and self.candidates_table is not None:
            raise FieldError("candidates_table", "leave it out, or leave out candidates")


class InferResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A run: an exposure scored by one model version."""

    run_id: UUID
    created_at: datetime
    model: ModelRef
    exposure: ExposureInfo
    image: ImageQuality
    tiles: Annotated[int, Meta(description="Tiles that the network answered.")]
    threshold: Annotated[Probability, Meta(description="The confidence threshold applied.")]
    tta: bool = False
    guarantee: Annotated[
        Guarantee | None, Meta(description="What is promised, if a guarantee was asked for.")
    ] = None
    prevalence: Annotated[
        Prevalence | None,
        Meta(
            description="The share of real sources that confidences hold for, where the request or "
            "the route says one; null: that of the version's calibration."
        ),
    ] = None
    extracted: Annotated[
        bool, Meta(description="No candidates were given: the gateway extracted them with SEP.")
    ]
    flags: Annotated[
        tuple[str, ...],
        Meta(
            description="What a user should know about the exposure:\n\n"
            + explained(flag for flag in FLAGS if flag.raised == "exposure"),
            examples=[[], ["no_wcs"]],
        ),
    ]
    detections: Annotated[list[ScoredDetection], Meta(description="The most confident first.")]


RunState = Literal["queued", "running", "complete", "failed"]


class RunProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Which run, and how far it is."""

    run_id: UUID
    status: RunState
    progress: Annotated[
        Annotated[float, Meta(ge=0.0, le=1.0)], Meta(description="Share of the tiles answered.")
    ]
    created_at: datetime
    finished_at: datetime | None


class RunListed(RunProgress, frozen=True, kw_only=True):
    """A run of a list, without its detections."""

    exposure_name: Annotated[str | None, Meta(description="`exposure_id`, or the file's name.")]
    problem: Annotated[Problem | None, Meta(description="Why it failed.")] = None
    model: Annotated[ModelRef | None, Meta(description="Once it is complete.")] = None
    exposure: Annotated[ExposureInfo | None, Meta(description="Once it is complete.")] = None
    flags: Annotated[tuple[str, ...], Meta(description="Of the exposure.")] = ()
    detections: Annotated[int | None, Meta(description="How many, once it is complete.")] = None
    real: Annotated[int | None, Meta(description="How many of them are called real.")] = None


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the runs that match, the newest first."""

    runs: list[RunListed]
    next: Annotated[
        UUID | None, Meta(description="Pass it as `after` for the next page; null on the last.")
    ]


class RunStatus(RunProgress, frozen=True, kw_only=True):
    """A run, and how far it is."""

    problem: Annotated[Problem | None, Meta(description="Why it failed.")] = None
    result: Annotated[InferResponse | None, Meta(description="Once it is complete.")] = None
