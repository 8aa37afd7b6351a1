"""Drift: whether exposures still look like those that a version was made for."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from astrotriton.wire.fields import Window
from astrotriton.wire.models import VersionRef
from astrotriton.wire.windows import WINDOWS


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One descriptor of a window beside the baseline.

    Attributes
    ----------
    name
        Of the descriptor.
    drifted
        Whether its distribution is another one.
    p_value, distance
        Of the two-sample Kolmogorov-Smirnov test; None with too few known values.
    baseline_median, live_median
        Of the known values; None if there are none.
    exposures
        How many of the window it is known for.
    """

    name: str
    drifted: bool
    p_value: float | None
    distance: float | None
    baseline_median: float | None
    live_median: float | None
    exposures: int


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """What following the calibrated scores has shown.

    Attributes
    ----------
    alarmed_after
        The exposure, counted from 1, at which the evidence reached ``run_length``; None if not.
    evidence
        The Shiryaev-Roberts statistic after the last exposure.
    run_length
        Exposures between false alarms, on average, of a process like the baseline.
    exposures
        How many were followed.
    """

    alarmed_after: int | None
    evidence: float
    run_length: int
    exposures: int


class DriftSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The last look for drift."""

    id: UUID | None
    status: Literal["steady", "drifted", "too-little-data", "no-baseline", "never-checked"]
    checked_at: datetime | None
    window: Window | None
    exposures: int
    drifted: list[str]
    reason: str | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Evidently's report of a look for drift."""

    status: Annotated[
        Literal["off", "pending", "ready"],
        Meta(description="`off`: there is no store for reports. `pending`: it is being made."),
    ]
    url: Annotated[str | None, Meta(description="Where this service hands it out.")] = None
    detail: Annotated[str | None, Meta(description="What keeps it.")] = None


class DriftCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A look for drift: exposures of a window beside the version's baseline."""

    id: UUID
    model: VersionRef
    created_at: datetime
    window: Window
    exposures: Annotated[int, Meta(description="Exposures of the window that were compared.")]
    scored: Annotated[int, Meta(description="Exposures that the version scored in the window.")]
    status: Literal["steady", "drifted", "too-little-data", "no-baseline"]
    reason: str | None
    drifted: Annotated[
        list[str],
        Meta(description="Descriptors that drifted, most first; `trend` for the slow check."),
    ]
    features: list[Feature]
    trend: Annotated[Trend | None, Meta(description="The calibrated scores, exposure by exposure.")]
    baseline: Annotated[str | None, Meta(description="What it was compared with.")]
    false_alarms: Annotated[
        float, Meta(description="Chance that a window like the baseline is called drifted.")
    ]
    report: Report


class BaselineIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a version shall be compared with from now on."""

    window: Annotated[
        # For the OpenAPI document alone: the service says more than that it is none.
        Annotated[str, Meta(extra_json_schema={"pattern": WINDOWS})] | None,
        Meta(
            description="The exposures of this time up to now, as `24h`; null: those that came "
            "with the version.",
            examples=["24h"],
        ),
    ]


class DriftBaseline(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is compared with."""

    model: VersionRef
    description: Annotated[str | None, Meta(description="Null if there is nothing.")]
    exposures: int
