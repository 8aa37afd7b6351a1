"""The events that the gateway publishes: their types, and the data of each."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from astrotriton.wire.canary import CanaryStep
from astrotriton.wire.exposures import ExposureInfo, Plane
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
    x: float | None
    y: float | None
    ra: float | None
    dec: float | None
    mag: float | None
    mag_err: float | None
    confidence: float | None
    is_real: bool


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many detections a run has, and what became of them."""

    detections: int
    real: int
    merged: int
    unscored: int


class ScoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The data of ``detection.scored``; ``truncated`` if it does not list every detection.

    ``planes`` are the images that the version was shown.
    """

    run_id: UUID
    model: ModelRef
    exposure: ExposureInfo
    limiting_magnitude: float | None
    planes: tuple[Plane, ...]
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


class CanaryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The data of ``model.canary``."""

    canary_id: UUID
    name: str
    champion: int
    challenger: int
    step: CanaryStep


@dataclass(frozen=True, slots=True)
class EventType:
    """A type of event: what it carries, what it tells, and what its attribute ``subject`` is."""

    data: type[msgspec.Struct]
    tells: str
    subject: str


#: The types of events by their name, which is also the subject on NATS.
EVENTS = {
    "detection.scored": EventType(
        ScoredEvent,
        "An exposure was scored, and its detections are stored. `detections` lists the most "
        "confident ones; `truncated` says that there are more.",
        "the id of the run",
    ),
    "model.promoted": EventType(
        PromotedEvent, "Another version has become champion.", "the name of the model"
    ),
    "model.validated": EventType(
        ValidatedEvent,
        "A version was validated on labelled exposures, whatever came out.",
        "`NAME:VERSION` of the model",
    ),
    "model.drifted": EventType(
        DriftedEvent,
        "A check for drift found what the check before it had not found.",
        "`NAME:VERSION` of the model",
    ),
    "model.canary": EventType(
        CanaryEvent,
        "A canary that ends by itself has begun, has gone on to a larger share of the runs, or "
        "has ended; `step` says why, and what was seen.",
        "`NAME:VERSION` of the challenger",
    ),
}


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the data of a type of event."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind,
        **msgspec.json.schema(EVENTS[kind].data),
    }
