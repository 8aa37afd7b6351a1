"""The event of a run."""

from uuid import UUID

import msgspec
import pytest
from cloudevents.http import from_json
from jsonschema import Draft202012Validator

from astrotriton.gateway.services.events import EventSource, scored_event
from astrotriton.wire.events import EVENTS, ScoredEvent, schema_of
from tests.unit.gateway.gateway_samples import run

ID = UUID("019ac5b0-6f0e-7c11-9d0a-2f4e8a6b1c3d")
SOURCE = EventSource("/here", "http://here:8000/schema/events")


def test_an_event_names_the_run_and_lists_its_detections():
    answered = run(3)
    event = from_json(scored_event(answered, ID, SOURCE, most=10))
    assert event["id"] == str(ID)
    assert event["source"] == "/here"
    assert event["dataschema"] == "http://here:8000/schema/events/detection.scored.json"
    assert event["type"] == "detection.scored"
    assert event["subject"] == str(answered.run_id)
    assert event["time"] == answered.created_at.isoformat()
    data = msgspec.convert(event.data, ScoredEvent)
    assert [d.id for d in data.detections] == [d.id for d in answered.detections]
    assert data.counts.detections == data.counts.real == 3
    assert not data.truncated


def test_a_crowded_field_still_fits_into_a_message():
    event = scored_event(run(5000), ID, SOURCE, most=100)
    data = msgspec.convert(from_json(event).data, ScoredEvent)
    assert len(data.detections) == 100
    assert data.detections[0].confidence == 1.0
    assert data.counts.detections == 5000
    assert data.truncated
    assert len(event) < 100_000


def test_an_event_obeys_its_schema():
    data = from_json(scored_event(run(3), ID, SOURCE, most=10)).data
    Draft202012Validator(schema_of("detection.scored")).validate(data)
    assert not Draft202012Validator(schema_of("detection.scored")).is_valid({**data, "counts": 3})


@pytest.mark.parametrize("kind", EVENTS)
def test_a_schema_is_a_schema(kind: str):
    Draft202012Validator.check_schema(schema_of(kind))
    assert schema_of(kind)["title"] == kind
