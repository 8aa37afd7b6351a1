"""A run: scored, stored with its event, counted; and what a change of the route does to it."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.errors import (
    DependencyError,
    KeyReusedError,
    RunGivenUpError,
)
from astrotriton.gateway.services.scoring import ScoringService
from astrotriton.wire.detections import CandidateIn
from astrotriton.wire.models import Challenger, Route
from tests.unit.gateway.services.stand_ins import NAME, exposure, submission

CALLER = "key:a"


def routed(memory, champion: int, previous: int | None = None, **trial: Any) -> None:
    memory.routes[NAME] = Route(
        name=NAME,
        champion=champion,
        challenger=Challenger(**trial) if trial else None,
        previous_champion=previous,
        updated_at=datetime.now(UTC),
    )


async def score(service: ScoringService, given, key: str | None = None, **changes: Any):
    pending = await service.pending(given, CALLER, key)
    return await service.score_and_store(given, replace(pending, **changes))


async def test_what_is_answered_is_stored_with_its_event(scoring, memory, outbox, told, disputes):
    run = await score(scoring, submission(exposure_id="night 1"))
    assert memory.runs == {run.run_id: run}
    assert run.model.version == 4
    assert run.exposure.name == "night 1"
    assert [one.rank for one in run.detections] == list(range(1, len(run.detections) + 1))
    assert len(memory.features) == len(run.detections)
    assert set(memory.cutouts) == {run.detections[0].id}
    (event,) = memory.events("detection.scored")
    assert event["run_id"] == str(run.run_id)
    assert event["counts"]["detections"] == len(run.detections)
    assert outbox.woken == 1
    ((counted, seconds),) = told.stored
    assert counted is run
    assert seconds["request"] >= seconds["infer"] > 0.0
    assert [offered[0] for offered in told.offered] == [run]
    assert [offered[0] for offered in disputes.offered] == [[run.run_id]]
    assert memory.pictures[run.run_id].binning == 2


async def test_merged_detections_name_the_one_that_they_are_in(scoring):
    given = [CandidateIn(id="a", x=60.0, y=50.0), CandidateIn(id="b", x=60.5, y=50.0)]
    run = await score(scoring, submission(candidates=given))
    found = {one.candidate_id: one for one in run.detections}
    assert {found["a"].outcome, found["b"].outcome} == {"kept", "merged"}
    merged = next(one for one in found.values() if one.outcome == "merged")
    kept = next(one for one in found.values() if one.outcome == "kept")
    assert merged.merged_into == kept.id


@pytest.mark.parametrize("fault", ["input", "triton", "database"])
async def test_what_fails_leaves_nothing(scoring, memory, triton, outbox, told, fault):
    given = submission(b"no image") if fault == "input" else submission()
    if fault == "triton":

        async def infer(*_: object) -> None:
            raise DependencyError("triton", "it is gone")

        triton.infer = infer
    if fault == "database":
        insert = memory.outbox

        class Full(list):
            def append(self, one: object) -> None:
                raise DependencyError("postgresql", "it is full")

        memory.outbox = Full(insert)
    with pytest.raises((InputError, DependencyError)):
        await score(scoring, given)
    assert memory.runs == {}
    assert memory.models == {}
    assert memory.features == {}
    assert list(memory.outbox) == []
    assert outbox.woken == 0
    assert told.stored == told.offered == []
    # A file that is no exposure is no fault of the version's.
    assert told.failed == ([] if fault == "input" else [(4, "dependency-unavailable")])


@pytest.mark.parametrize(
    "champions",
    [[4], [4, 3, 4], [4, 3, 4, 3]],
    ids=["once", "as often as it is scored", "and back to the first"],
)
async def test_a_run_of_a_version_that_was_replaced_begins_again(
    scoring, memory, triton, told, champions
):
    routed(memory, champion=3)
    real, changes = triton.infer, iter(champions)

    async def infer(card, version, tiles):
        if (champion := next(changes, None)) is not None:
            routed(memory, champion=champion)
        return await real(card, version, tiles)

    triton.infer = infer
    run = await score(scoring, submission())
    assert run.model.version == champions[-1]
    assert [one.model.version for one in memory.runs.values()] == [champions[-1]]
    assert len(memory.outbox) == 1
    assert told.failed == []


async def test_one_that_asks_for_a_version_by_name_is_told_that_it_was_replaced(
    scoring, memory, triton
):
    routed(memory, champion=3, previous=2)
    real = triton.infer

    async def infer(card, version, tiles):
        routed(memory, champion=4, previous=4)
        return await real(card, version, tiles)

    triton.infer = infer
    with pytest.raises(InputError):
        await score(scoring, submission(model_version=3))
    assert memory.runs == {}


async def test_a_shadow_is_offered_what_was_answered(scoring, memory, shadow):
    routed(memory, champion=3, version=4, mode="shadow", fraction=1.0)
    given = submission()
    run = await score(scoring, given)
    assert run.model.version == 3
    assert shadow.offered == [(given, run, 4)]
    await score(scoring, submission(model_version="champion"))
    assert len(shadow.offered) == 1


async def test_augmentation_asks_the_other_versions_too(scoring, memory, triton):
    routed(memory, champion=3)
    await score(scoring, submission(tta=True))
    assert {version for version, _ in triton.asked} == {3, 4}


async def test_a_key_is_the_caller_s_own_and_stands_for_one_request(scoring, memory):
    given = submission()
    pending = await scoring.pending(given, CALLER, "night")
    assert await scoring.earlier(pending) is None
    run = await scoring.score_and_store(given, pending)
    again = await scoring.pending(given, CALLER, "night")
    assert await scoring.earlier(again) == run.run_id
    assert await scoring.earlier(await scoring.pending(given, "key:b", "night")) is None
    for other in (
        submission(exposure((20.0, 20.0))),
        submission(confidence_threshold=0.1),
        submission(exposure_id="another"),
    ):
        with pytest.raises(KeyReusedError, match="'night'"):
            await scoring.earlier(await scoring.pending(other, CALLER, "night"))


async def test_of_two_at_once_under_a_key_one_is_stored(scoring, memory, told):
    given = submission()
    found = await asyncio.gather(*(score(scoring, given, "night") for _ in range(2)))
    (stored,) = [run for run in found if run is not None]
    assert list(memory.runs) == [stored.run_id]
    assert len(memory.outbox) == 1
    assert len(told.stored) == 1


async def test_a_job_that_was_given_up_stores_nothing(scoring, memory):
    given = submission()
    pending = replace(await scoring.pending(given, CALLER, None), in_background=True)
    memory.jobs[pending.run_id] = {"finished_at": datetime.now(UTC)}
    with pytest.raises(RunGivenUpError):
        await scoring.score_and_store(given, pending)
    assert memory.runs == {}
    assert memory.outbox == []


async def test_a_job_is_complete_when_its_run_is_stored(scoring, memory):
    given = submission()
    pending = replace(await scoring.pending(given, CALLER, None), in_background=True)
    memory.jobs[pending.run_id] = {"finished_at": None, "status": "queued"}
    run = await scoring.score_and_store(given, pending)
    assert run.run_id == pending.run_id
    assert memory.jobs[run.run_id]["status"] == "complete"


async def test_the_digest_of_the_exposure_is_that_of_its_file(scoring):
    given = submission()
    run = await score(scoring, given)
    assert run.exposure.digest == hashlib.sha256(given.content).hexdigest()
