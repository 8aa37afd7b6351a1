"""What goes over the wire of how well a version does: performance, validations and drift."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from detection.drift import Feature, Trend
from detection.gates import Gate
from detection.validation import Curves
from gateway.schemas import Name, Problem

Dataset = Annotated[
    str,
    Meta(
        max_length=1024,
        description="`s3://bucket/prefix` in an allowed bucket, with exposures and a `truth.json`; "
        "or `runs:/RUN_ID/NAME`, a data set that an MLflow run has as an input and that lies at "
        "such a prefix. Left out: the one that travels with the version.",
        examples=["s3://nights/labelled/2026-11"],
    ),
]


#: What a window may be, for the OpenAPI document alone: the service says more than that it is not.
WINDOWS = "^([1-9][0-9]{0,3}m|([1-9][0-9]?|[1-6][0-9]{2}|7[01][0-9]|720)h|([1-9]|[12][0-9]|30)d)$"


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The time that a figure is of."""

    since: datetime
    until: datetime
    seconds: float


class VersionRef(msgspec.Struct, frozen=True, kw_only=True):
    """A model version."""

    name: str
    version: int


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number, with what it is a number of."""

    value: Annotated[float | None, Meta(description="Null if there is too little to tell it.")]
    unit: str
    count: Annotated[int, Meta(description="Observations that it is made of.")]
    window: Window
    source: Annotated[str, Meta(description="Where it was measured.")]
    reason: Annotated[str | None, Meta(description="Why there is no value.")] = None


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """How a quantity is distributed; a percentile is null without enough beyond it."""

    unit: str
    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    window: Window
    source: str
    reason: Annotated[str | None, Meta(description="Why something is null.")] = None


class Bins(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram."""

    edges: list[float]
    counts: list[int]
    count: int
    window: Window
    source: str
    reason: str | None = None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the window."""

    time: Annotated[datetime, Meta(description="Where the part begins.")]
    seconds: Annotated[float, Meta(description="How long it is.")]
    runs: int
    errors: int
    p50: Annotated[float | None, Meta(description="Of the whole request, seconds.")]
    p95: float | None
    p99: float | None


class ValidationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A validation, without its diagrams."""

    id: UUID
    finished_at: datetime
    dataset: str
    passed: bool
    figures: dict[str, float | None]


class LabelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The version's detections against what people said of them."""

    agreement: Annotated[
        Figure, Meta(description="Share of the labelled detections whose verdict people share.")
    ]
    ece: Annotated[Figure, Meta(description="Calibration error on the labelled detections.")]
    miscalibration: Annotated[
        Figure,
        Meta(description="Spiegelhalter's statistic; beyond 3 the confidence does not hold."),
    ]
    recalibrate: Annotated[bool, Meta(description="Whether to fit the confidence anew.")]
    reason: str


class DriftSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The last look for drift."""

    id: UUID | None
    status: Literal["steady", "drifted", "too-little-data", "no-reference", "never-checked"]
    checked_at: datetime | None
    window: Window | None
    exposures: int
    drifted: list[str]
    reason: str | None


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """How a version does: each figure with its window, its count and its source."""

    model: VersionRef
    window: Window
    latency: Annotated[
        dict[str, Distribution],
        Meta(
            description="Seconds. `request`: from the exposure's arrival to the answer, stored; "
            "`wait`, `prepare`, `infer`, `finish` (postprocessing) and `store` (database) are its "
            "parts."
        ),
    ]
    triton: Annotated[
        dict[str, Figure],
        Meta(
            description="Mean seconds of a request in Triton: `queue`, `compute_input`, "
            "`compute_infer`, `compute_output`. Triton publishes sums, so there are no "
            "percentiles."
        ),
    ]
    throughput: Annotated[dict[str, Figure], Meta(description="`runs` and `tiles` a second.")]
    batches: Annotated[
        dict[str, Figure],
        Meta(description="`mean`, and how many executions there were of each size."),
    ]
    errors: Annotated[dict[str, Figure], Meta(description="`share` of the runs, and each code.")]
    memory: Annotated[dict[str, Figure], Meta(description="Bytes, of Triton's machine and GPU.")]
    confidence: Bins
    validation: ValidationSummary | None
    trend: Annotated[
        list[ValidationSummary], Meta(description="Earlier validations, the newest first.")
    ]
    labels: LabelFigures
    drift: DriftSummary
    series: list[Point]


class ValidateIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to validate a version on; every field may be left out."""

    dataset: Dataset | None = None
    compare_with: Annotated[
        Name | None,
        Meta(
            description="Another version, as UUID, `NAME:VERSION` or `NAME@alias`: it scores the "
            "same fields, and the gate `accuracy_change` is asked too."
        ),
    ] = None


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """A validation of a version, and how far it is."""

    id: UUID
    model: VersionRef
    compare_with: VersionRef | None
    dataset: Annotated[str, Meta(description="As asked for, or `default`.")]
    status: Literal["queued", "running", "complete", "failed"]
    progress: Annotated[float, Meta(ge=0.0, le=1.0, description="Share of the fields scored.")]
    fields: Annotated[int, Meta(description="Exposures of the data set; 0 until it is read.")]
    created_at: datetime
    finished_at: datetime | None = None
    requested_by: str
    description: Annotated[str | None, Meta(description="What the data set is.")] = None
    dataset_digest: str | None = None
    passed: Annotated[bool | None, Meta(description="Whether every gate was.")] = None
    gates: list[Gate] = []
    figures: dict[str, float | None] = {}
    compared: Annotated[
        dict[str, float | None], Meta(description="The other version's figures, same fields.")
    ] = {}
    curves: Curves | None = None
    compared_curves: Curves | None = None
    mlflow_run_id: str | None = None
    problem: Annotated[Problem | None, Meta(description="Why it failed.")] = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Evidently's report of a look for drift."""

    status: Annotated[
        Literal["off", "pending", "ready"],
        Meta(description="`off`: there is no store for reports. `pending`: it is being made."),
    ]
    url: Annotated[str | None, Meta(description="Where this service hands it out.")] = None
    detail: Annotated[str | None, Meta(description="What keeps it.")] = None


class DriftCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A look for drift: exposures of a window beside the version's reference."""

    id: UUID
    model: VersionRef
    created_at: datetime
    window: Window
    exposures: Annotated[int, Meta(description="Exposures of the window that were compared.")]
    scored: Annotated[int, Meta(description="Exposures that the version scored in the window.")]
    status: Literal["steady", "drifted", "too-little-data", "no-reference"]
    reason: str | None
    drifted: Annotated[
        list[str],
        Meta(description="Descriptors that drifted, most first; `trend` for the slow check."),
    ]
    features: list[Feature]
    trend: Annotated[Trend | None, Meta(description="The calibrated scores, exposure by exposure.")]
    reference: Annotated[str | None, Meta(description="What it was compared with.")]
    false_alarms: Annotated[
        float, Meta(description="Chance that a window like the reference is called drifted.")
    ]
    report: Report


class ReferenceIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a version shall be compared with from now on."""

    window: Annotated[
        Annotated[str, Meta(extra_json_schema={"pattern": WINDOWS})] | None,
        Meta(
            description="The exposures of this time up to now, as `24h`; null: those that came "
            "with the version.",
            examples=["24h"],
        ),
    ]


class DriftReference(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is compared with."""

    model: VersionRef
    description: Annotated[str | None, Meta(description="Null if there is nothing.")]
    exposures: int


class ValidatedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The data of ``model.validated``."""

    validation_id: UUID
    name: str
    version: int
    dataset: str
    passed: bool
    failed_gates: list[str]
    figures: dict[str, float | None]


class DriftedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The data of ``model.drifted``."""

    check_id: UUID
    name: str
    version: int
    drifted: list[str]
    exposures: int
    since: datetime
    until: datetime
