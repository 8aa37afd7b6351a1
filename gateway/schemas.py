"""What goes over the wire: requests, answers and the event's data."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from detection.types import Candidate, ImageQuality, Outcome

# PostgreSQL cannot hold NUL in a text, and no other control character belongs in a name.
Name = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
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
        int | str | None,
        Meta(description="HDU by index or EXTNAME. Left out: the first image with data."),
    ] = None
    confidence_threshold: Annotated[
        Probability | None,
        Meta(description="Least confidence of a real detection. Left out: the service's own."),
    ] = None
    exposure_id: Annotated[
        Name | None,
        Meta(
            description="Your name for the exposure. Left out: the file's name.",
            examples=["decam_difference"],
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
    is_real: Annotated[bool, Meta(description="Whether the confidence reaches the threshold.")]
    snr: Annotated[float | None, Meta(description="Matched-filter signal-to-noise ratio.")]
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
