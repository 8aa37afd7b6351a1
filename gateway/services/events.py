"""The events that the gateway tells, as CloudEvents 1.0."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from cloudevents.conversion import to_json
from cloudevents.http import CloudEvent

from astrotriton.wire.drift import DriftCheck
from astrotriton.wire.events import (
    CanaryEvent,
    Counts,
    DriftedEvent,
    EventDetection,
    PromotedEvent,
    ScoredEvent,
    ValidatedEvent,
)
from astrotriton.wire.models import Route
from astrotriton.wire.runs import InferResponse

DETECTION_SCORED = "detection.scored"
PROMOTED = "model.promoted"
VALIDATED = "model.validated"
DRIFTED = "model.drifted"
CANARY = "model.canary"


@dataclass(frozen=True, slots=True)
class EventSource:
    """Who tells the events.

    Attributes
    ----------
    uri
        The events' ``source``, a URI reference.
    schemas
        URL under which the schema of each type is served: ``<schemas>/<type>.json``.
    """

    uri: str
    schemas: str


def scored_event(run: InferResponse, event_id: UUID, source: EventSource, most: int) -> bytes:
    """``detection.scored`` in structured JSON, for a run.

    Parameters
    ----------
    run
        What was answered.
    event_id
        The event's id, which with the source is unique.
    source
        Who tells it.
    most
        How many detections to list at most, so that the event fits into a message.
    """
    data = ScoredEvent(
        run_id=run.run_id,
        model=run.model,
        exposure=run.exposure,
        limiting_magnitude=run.image.limiting_magnitude,
        planes=run.image.planes,
        threshold=run.threshold,
        extracted=run.extracted,
        counts=Counts(
            detections=len(run.detections),
            real=sum(detection.is_real for detection in run.detections),
            merged=sum(detection.outcome == "merged" for detection in run.detections),
            unscored=sum(detection.outcome == "unscored" for detection in run.detections),
        ),
        detections=msgspec.convert(
            run.detections[:most], list[EventDetection], from_attributes=True
        ),
        truncated=len(run.detections) > most,
    )
    return _event(DETECTION_SCORED, str(run.run_id), run.created_at, event_id, source, data)


def promoted_event(route: Route, event_id: UUID, source: EventSource) -> bytes:
    """``model.promoted`` in structured JSON, for a route with another champion than before."""
    data = PromotedEvent(
        name=route.name, champion=route.champion, previous_champion=route.previous_champion
    )
    return _event(PROMOTED, route.name, route.updated_at, event_id, source, data)


def validated_event(
    data: ValidatedEvent, time: datetime, event_id: UUID, source: EventSource
) -> bytes:
    """``model.validated`` in structured JSON."""
    return _event(VALIDATED, f"{data.name}:{data.version}", time, event_id, source, data)


def drifted_event(check: DriftCheck, event_id: UUID, source: EventSource) -> bytes:
    """``model.drifted`` in structured JSON, for a look that found what the one before did not."""
    data = DriftedEvent(
        check_id=check.id,
        name=check.model.name,
        version=check.model.version,
        drifted=check.drifted,
        exposures=check.exposures,
        since=check.window.since,
        until=check.window.until,
    )
    subject = f"{data.name}:{data.version}"
    return _event(DRIFTED, subject, check.created_at, event_id, source, data)


def canary_event(data: CanaryEvent, event_id: UUID, source: EventSource) -> bytes:
    """``model.canary`` in structured JSON."""
    subject = f"{data.name}:{data.challenger}"
    return _event(CANARY, subject, data.step.at, event_id, source, data)


def _event(
    kind: str,
    subject: str,
    time: datetime,
    event_id: UUID,
    source: EventSource,
    data: msgspec.Struct,
) -> bytes:
    attributes = {
        "id": str(event_id),
        "type": kind,
        "source": source.uri,
        "subject": subject,
        "time": time.isoformat(),
        "datacontenttype": "application/json",
        "dataschema": f"{source.schemas}/{kind}.json",
    }
    return to_json(CloudEvent(attributes, msgspec.to_builtins(data)))
