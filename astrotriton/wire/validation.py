"""Validations: a version scored against truth."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from astrotriton.wire.fields import Name
from astrotriton.wire.models import VersionRef
from astrotriton.wire.problems import Problem

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


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One question that a version had to answer.

    Attributes
    ----------
    name
        ``onnx``, ``parity``, ``batch``, ``answers``, ``detections``, ``accuracy``,
        ``accuracy_change``, ``calibration``, ``optional_planes``, ``sandbox``, ``latency`` or
        ``memory``.
    passed
        Whether it did.
    detail
        What was found and what is allowed, in words.
    figures
        What was measured, by name; None for what is not a number.
    """

    name: str
    passed: bool
    detail: str
    figures: dict[str, float | None] = {}

    @classmethod
    def of(cls, name: str, problems: Sequence[str], good: str, **figures: float) -> "Gate":
        """A gate that passed if there are no problems, and then says what is good."""
        return cls(
            name=name,
            passed=not problems,
            detail="; ".join(problems) or good,
            figures={
                key: float(value) if math.isfinite(value) else None
                for key, value in figures.items()
            },
        )


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Points of a diagram; ``count`` is how many sources a point stands for."""

    x: list[float]
    y: list[float]
    count: list[int] | None = None


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures leave out.

    Attributes
    ----------
    completeness
        Share found with confidence 0.5 against the true SNR, in bins named by their middle.
    precision_recall
        Purity against completeness.
    reliability
        Share that is real against confidence, in bins of equal population.
    """

    completeness: Curve
    precision_recall: Curve
    reliability: Curve


class ValidationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A validation, without its diagrams."""

    id: UUID
    finished_at: datetime
    dataset: str
    passed: bool
    figures: dict[str, float | None]


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
