"""Stamps of one request: stored together, and each told by itself where it cannot be scored."""

import io
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import numpy as np
import pytest

from astrotriton.detection.errors import InputError, PlaneMissingError
from astrotriton.detection.image.exposure import Limits
from astrotriton.gateway.errors import DependencyError, KeyReusedError
from astrotriton.gateway.services import stamps
from astrotriton.gateway.services.stamps import StampService, StampSubmission
from astrotriton.wire.models import Challenger, Route
from astrotriton.wire.stamps import InferStamps, StampIn
from tests.unit.gateway.services.stand_ins import NAME, SOURCE, routing_service

CALLER = "key:a"


class Place:
    """Always has a turn."""

    @asynccontextmanager
    async def turn(self):
        yield


@pytest.fixture
def service(memory, models, inference, outbox, told, journal, disputes, prevalence) -> StampService:
    return StampService(
        event_source=SOURCE,
        event_detections=2,
        cutouts=1,
        limits=Limits(),
        inference=inference,
        models=models,
        routing=routing_service(memory, models, outbox),
        prevalence=prevalence,
        database=memory,
        outbox=outbox,
        recorder=told,
        sampler=told,
        canary=journal,
        disputes=disputes,
    )


def cube(*peaks: float) -> bytes:
    """Stamps with a source in the middle, so many counts high."""
    rng = np.random.default_rng(4)
    rows, columns = np.indices((41, 41)) - 20
    source = np.exp(-(rows**2 + columns**2) / 6.0)
    made = np.array([rng.normal(0.0, 1.0, source.shape) + peak * source for peak in peaks])
    file = io.BytesIO()
    np.save(file, made.astype(np.float32))
    return file.getvalue()


async def score(service, content=None, key=None, **asked):
    submission = StampSubmission(content=content or cube(60.0, 0.0), request=InferStamps(**asked))
    return await service.score(submission, Place(), CALLER, key)


async def test_each_has_a_run_and_an_event(service, memory, outbox, told):
    answer = await score(service, stamps=[StampIn(id="a"), StampIn(ra=10.0, dec=-5.0)])
    assert [one.id for one in answer.stamps] == ["a", "1"]
    assert answer.model.version == 4
    first, second = (one.run for one in answer.stamps)
    assert first.detections[0].is_real
    assert not any(one.is_real for one in second.detections)
    assert (second.detections[0].ra, second.detections[0].dec) == (10.0, -5.0)
    assert set(memory.runs) == {first.run_id, second.run_id}
    assert [event["run_id"] for event in memory.events("detection.scored")] == [
        str(first.run_id),
        str(second.run_id),
    ]
    assert outbox.woken == 1
    assert [run for run, _ in told.stored] == [first, second]


async def test_one_that_cannot_be_scored_is_told_and_the_others_are_stored(service, memory):
    nothing = np.load(io.BytesIO(cube(60.0, 0.0)))
    nothing[1] = np.nan
    file = io.BytesIO()
    np.save(file, nothing)
    answer = await score(service, file.getvalue(), key="night")
    good, bad = answer.stamps
    assert (bad.run, bad.problem.status) == (None, 422)
    assert bad.problem.field == "stamps[1]"
    assert list(memory.runs) == [good.run.run_id]

    again = await score(service, file.getvalue(), key="night")
    assert again == answer
    assert list(memory.runs) == [good.run.run_id]
    with pytest.raises(KeyReusedError):
        await score(service, key="night")


async def test_what_fails_leaves_nothing(service, memory, triton, outbox, told):
    async def infer(*_):
        raise DependencyError("triton", "it is gone")

    triton.infer = infer
    with pytest.raises(DependencyError):
        await score(service)
    assert (memory.runs, memory.outbox, outbox.woken, told.stored) == ({}, [], 0, [])
    assert told.failed == [(4, "dependency-unavailable")]


async def test_as_many_are_described_as_there_are(service):
    with pytest.raises(InputError, match="1 are described, and the cube has 2"):
        await score(service, stamps=[StampIn()])


async def test_a_version_that_needs_more_than_stamps_show_answers_none(
    service, memory, told, monkeypatch
):
    prepare = stamps.prepare_exposure

    def needing(exposure, card, *given, **how):
        if card.version == 4:
            raise PlaneMissingError("plane-missing", "science", "send it as the part `science`")
        return prepare(exposure, card, *given, **how)

    monkeypatch.setattr(stamps, "prepare_exposure", needing)
    with pytest.raises(PlaneMissingError, match="version 4 needs the science image too") as refused:
        await score(service)
    assert refused.value.field == "request.model_version"
    assert memory.runs == {}

    # As the challenger of a canary it is answered for.
    memory.routes[NAME] = Route(
        name=NAME,
        champion=3,
        challenger=Challenger(version=4, mode="canary", fraction=1.0),
        previous_champion=None,
        updated_at=datetime.now(UTC),
    )
    answer = await score(service)
    assert answer.model.version == 3
    assert told.failed == [(4, "plane-missing")]
