"""Runs: an exposure scored by one model version."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from astrotriton.wire.confidence import Guarantee
from astrotriton.wire.detections import Candidate, CandidateIn, ScoredDetection
from astrotriton.wire.exposures import ExposureInfo, ImageQuality, SeeingUnit, WeightType
from astrotriton.wire.fields import FieldError, Hdu, Name, Probability, Version
from astrotriton.wire.flags import FLAGS, explained
from astrotriton.wire.models import ModelRef
from astrotriton.wire.problems import Problem


class InferRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to score an exposure; every field may be left out.

    Raises
    ------
    FieldError
        If both a threshold and a false discovery rate are given: the rate chooses the threshold.
        If a unit of the seeing is given without it.
    """

    candidates: Annotated[
        list[CandidateIn] | None,
        Meta(
            description="Sources to score. Each comes back, whatever became of it. Null or left "
            "out: the gateway extracts sources itself, and says so in `extracted`."
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
    tta: Annotated[
        bool,
        Meta(
            description="Test-time augmentation: each tile is shown in eight orientations, "
            "for a better confidence at eight times the cost. Where several versions are served, "
            "`ensemble_std` says how far they disagree."
        ),
    ] = False
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
    exposure_id: Annotated[
        Name | None,
        Meta(
            description="Your name for the exposure. Left out: the file's name.",
            examples=["decam_difference"],
        ),
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

    def to_candidates(self) -> list[Candidate] | None:
        """The candidates as `detection` takes them, each with an id."""
        if self.candidates is None:
            return None
        return [
            Candidate(id=str(index if given.id is None else given.id), x=given.x, y=given.y)
            for index, given in enumerate(self.candidates)
        ]


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


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and how far it is."""

    run_id: UUID
    status: Literal["queued", "running", "complete", "failed"]
    progress: Annotated[
        Annotated[float, Meta(ge=0.0, le=1.0)], Meta(description="Share of the tiles answered.")
    ]
    created_at: datetime
    finished_at: datetime | None
    problem: Annotated[Problem | None, Meta(description="Why it failed.")] = None
    result: Annotated[InferResponse | None, Meta(description="Once it is complete.")] = None
