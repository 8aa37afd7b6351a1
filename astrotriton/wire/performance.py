"""How a version does, over a window of time."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from astrotriton.wire.drift import DriftSummary
from astrotriton.wire.fields import Window
from astrotriton.wire.models import VersionRef
from astrotriton.wire.validation import ValidationSummary


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
