"""What goes over the wire: requests, answers and the event's data."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from detection.confidence import Derivation
from detection.guarantee import Guarantee
from detection.types import Candidate, ImageQuality, Outcome

# PostgreSQL cannot hold NUL in a text, and no other control character belongs in a name.
Name = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Uncertainty = Literal["cheap", "full"]
Label = Literal["real", "artefact", "unsure"]
Hdu = Annotated[int, Meta(ge=0, le=2**31 - 1)] | Annotated[str, Meta(max_length=68)]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]
PixelX = Annotated[
    float,
    Meta(
        description="Column in pixels, 0-based: the centre of the first pixel is (0, 0), as in "
        "numpy and SEP. ds9, SExtractor and FITS count from 1: subtract 1.",
        examples=[128.9],
    ),
]
PixelY = Annotated[
    float,
    Meta(description="Row in pixels, 0-based, by the same convention as `x`.", examples=[127.7]),
]


def printable(name: str | None) -> str | None:
    """A name that comes with a file, as far as it may be stored and shown."""
    return "".join(filter(str.isprintable, name or ""))[:200] or None


class CandidateIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source that the caller found in the exposure."""

    x: PixelX
    y: PixelY
    id: Annotated[
        Name | int | None,
        Meta(description="Your own id, answered as text. Without one: its place in the list."),
    ] = None


class InferRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to score an exposure; every field may be left out."""

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
        Meta(description="Least confidence of a real detection. Left out: the service's own."),
    ] = None
    max_false_discovery_rate: Annotated[
        Annotated[float, Meta(gt=0.0, lt=1.0)] | None,
        Meta(
            description="Choose the threshold so that the expected share of false detections among "
            "the real ones stays below this; `guarantee` says what is promised."
        ),
    ] = None
    uncertainty: Annotated[
        Uncertainty,
        Meta(
            description="`full`: the network sees every tile in eight orientations, for a better "
            "confidence at eight times the cost."
        ),
    ] = "cheap"
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
            "exposure. Pixels are left out where it is not above 0."
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


class ModelRef(msgspec.Struct, frozen=True, kw_only=True):
    """The model version that answered."""

    name: Annotated[str, Meta(examples=["unet_astronomical"])]
    version: Annotated[int, Meta(description="The version in MLflow and in Triton alike.")]
    digest: Annotated[str, Meta(description="SHA-256 of the weights (`model.onnx`).")]


class ExposureInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The exposure that was scored."""

    name: Annotated[str | None, Meta(description="`exposure_id`, or the file's name.")]
    hdu: Annotated[str, Meta(description="The HDU that was scored, or `npy`.")]
    height: Annotated[int, Meta(description="Rows, pixels.")]
    width: Annotated[int, Meta(description="Columns, pixels.")]
    digest: Annotated[str, Meta(description="SHA-256 of the file as it came.")]


class ScoredDetection(msgspec.Struct, frozen=True, kw_only=True):
    """A scored source; a candidate always comes back as one."""

    id: UUID
    rank: Annotated[int, Meta(ge=1, description="Place by confidence; 1 is the most confident.")]
    candidate_id: Annotated[
        str | None,
        Meta(description="The caller's id; null for a source that no candidate names."),
    ]
    x: PixelX
    y: PixelY
    ra: Annotated[float | None, Meta(description="ICRS degrees; null without a usable WCS.")]
    dec: Annotated[float | None, Meta(description="ICRS degrees; null without a usable WCS.")]
    probability: Annotated[
        Probability | None,
        Meta(description="The network's largest probability within the match radius."),
    ]
    probability_mean: Annotated[
        Probability | None, Meta(description="Mean probability over the source's footprint.")
    ]
    confidence: Annotated[
        Probability | None,
        Meta(description="Probability that the source is real; null unless `outcome` is `kept`."),
    ]
    confidence_low: Annotated[
        Probability | None,
        Meta(description="From here to `confidence_high`: its central 90 % over exposures."),
    ] = None
    confidence_high: Probability | None = None
    entropy: Annotated[
        float | None, Meta(description="Of the confidence, bits: 0 is certain, 1 a coin toss.")
    ] = None
    augmentation: Annotated[
        float | None,
        Meta(
            description="Scatter of the logit of the probability over eight orientations; only "
            "with full uncertainty."
        ),
    ] = None
    disagreement: Annotated[
        float | None, Meta(description="Between the model versions that are loaded.")
    ] = None
    is_real: Annotated[bool, Meta(description="Whether the confidence reaches the threshold.")]
    snr: Annotated[float | None, Meta(description="Matched-filter signal-to-noise ratio.")]
    snr_err: Annotated[float | None, Meta(description="Its 1-sigma error.")] = None
    flux: Annotated[float | None, Meta(description="Counts.")]
    flux_err: Annotated[float | None, Meta(description="1-sigma error of the flux, counts.")]
    fwhm: Annotated[float | None, Meta(description="Full width at half maximum, pixels.")]
    elongation: Annotated[float | None, Meta(description="Major over minor axis.")]
    negative_ratio: Annotated[
        float | None,
        Meta(
            description="Depth of the negative lobe over the height of the peak: near 0 for a "
            "point source, near 1 for a dipole."
        ),
    ]
    psf_match: Annotated[float | None, Meta(description="Likeness to the PSF.")] = None
    sharpness: Annotated[
        float | None, Meta(description="Large for a cosmic ray, near 1 for a point source.")
    ] = None
    trail: Annotated[float | None, Meta(description="Large for a trail.")] = None
    edge_distance: Annotated[
        float | None, Meta(description="To the nearest edge of the exposure, pixels.")
    ] = None
    sep_flags: Annotated[
        int | None,
        Meta(
            description="SEP's flags, or-ed: 1 deblended from a neighbour, 2 or 16 cut off by the "
            "edge, 4 too complex to deblend, 8 all in one line, 32 some and 64 all pixels masked."
        ),
    ] = None
    polarity: Annotated[
        Literal[1, -1], Meta(description="1 for a brightening, -1 for a fading source.")
    ]
    outcome: Annotated[
        Outcome,
        Meta(description="`kept`, `merged` into a better detection, or `unscored` (see `flags`)."),
    ]
    merged_into: Annotated[
        UUID | None, Meta(description="Id of the detection that this one was merged into.")
    ]
    flags: Annotated[
        tuple[str, ...],
        Meta(description="What a user should know about it.", examples=[["edge", "dipole"]]),
    ]


class InferResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A run: an exposure scored by one model version."""

    run_id: UUID
    created_at: datetime
    model: ModelRef
    exposure: ExposureInfo
    image: ImageQuality
    tiles: Annotated[int, Meta(description="Tiles that the network answered.")]
    threshold: Annotated[Probability, Meta(description="The confidence threshold applied.")]
    uncertainty: Uncertainty = "cheap"
    guarantee: Annotated[
        Guarantee | None, Meta(description="What is promised, if a guarantee was asked for.")
    ] = None
    extracted: Annotated[
        bool, Meta(description="No candidates were given: the gateway extracted them with SEP.")
    ]
    flags: Annotated[tuple[str, ...], Meta(description="What a user should know about the run.")]
    detections: Annotated[list[ScoredDetection], Meta(description="The most confident first.")]


class StoredDetection(ScoredDetection, frozen=True, kw_only=True):
    """A detection as it was answered, with the run that it belongs to."""

    run_id: UUID
    created_at: datetime
    threshold: Probability
    model: ModelRef
    exposure: ExposureInfo
    label: Annotated[Label | None, Meta(description="What a person said of it last.")] = None


class DetectionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the detections that match, the newest first."""

    detections: list[StoredDetection]
    next: Annotated[
        UUID | None, Meta(description="Pass it as `after` for the next page; null on the last.")
    ]


class LabelIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's verdict on a detection; null withdraws it."""

    label: Label | None
    comment: Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00]*$")] | None = None


class ConfidenceDerivation(msgspec.Struct, frozen=True, kw_only=True):
    """How a confidence came about."""

    detection_id: UUID
    model: ModelRef
    probability: Probability | None
    probability_mean: Probability | None
    confidence: Probability | None
    confidence_low: Probability | None
    confidence_high: Probability | None
    derivation: Annotated[
        Derivation | None,
        Meta(
            description="Each quality term and its weight, their sum, and its calibration. Null if "
            "the model was never calibrated (the confidence is then the probability), the "
            "detection was not scored, or an earlier release scored it."
        ),
    ]
    uncertainty: Uncertainty
    entropy: float | None
    augmentation: float | None
    disagreement: float | None
    threshold: float
    is_real: bool
    guarantee: Guarantee | None
    flags: tuple[str, ...]


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457). Programs go by ``type``; the texts may change."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    dependency: str | None = None


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


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A version that has answered, or that is served."""

    id: UUID
    name: str
    version: int
    digest: str
    card_digest: str
    roles: Annotated[
        list[str],
        Meta(description="`champion`, `challenger` or `previous_champion` of the route."),
    ]
    served: Annotated[bool | None, Meta(description="By Triton, now; null if it does not say.")]
    first_used_at: datetime | None
    card: Annotated[dict[str, Any] | None, Meta(description="The model card; not in lists.")] = None


class Challenger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version on trial beside the champion."""

    version: Version
    mode: Annotated[
        Literal["shadow", "canary"],
        Meta(
            description="`shadow`: it scores in the background and is never answered. `canary`: it "
            "answers a share of the runs, always the same exposures."
        ),
    ]
    fraction: Annotated[float, Meta(gt=0.0, le=1.0, description="Share of the runs.")]


class RouteIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions of a model shall answer."""

    champion: Annotated[Version, Meta(description="Answers every run that names no version.")]
    challenger: Challenger | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions of a model answer."""

    name: str
    champion: int
    challenger: Challenger | None
    previous_champion: Annotated[
        int | None, Meta(description="The version to roll back to; it may still be asked for.")
    ]
    updated_at: datetime


class PromotedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The data of ``model.promoted``: another version has become champion."""

    name: str
    champion: int
    previous_champion: int | None


class EventDetection(msgspec.Struct, frozen=True, kw_only=True):
    """A detection as the event lists it."""

    id: UUID
    candidate_id: str | None
    x: float
    y: float
    ra: float | None
    dec: float | None
    confidence: float | None
    is_real: bool


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many detections a run has, and what became of them."""

    detections: int
    real: int
    merged: int
    unscored: int


class ScoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The data of ``detection.scored``; ``truncated`` if it does not list every detection."""

    run_id: UUID
    model: ModelRef
    exposure: ExposureInfo
    threshold: float
    extracted: bool
    counts: Counts
    detections: list[EventDetection]
    truncated: bool


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that the service needs."""

    ready: bool
    detail: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the service can do its work, and if not, which part keeps it."""

    status: Literal["live", "ready", "not ready"]
    parts: dict[str, Part] = {}
