"""The data of the events that the gateway publishes."""

from datetime import datetime
from uuid import UUID

import msgspec

from astrotriton.wire.exposures import ExposureInfo
from astrotriton.wire.models import ModelRef


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
