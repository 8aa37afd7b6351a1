"""Challengers in the shadow: when they score, and how they compare."""

from uuid import UUID

import msgspec
import pytest

from astrotriton.detection.image.exposure import Limits
from astrotriton.gateway.services.admission import Admission
from astrotriton.gateway.services.inference import InferenceService
from astrotriton.gateway.services.shadow import ShadowService, compare, disputes_of, scored_by_both
from astrotriton.settings import ModelConfig
from astrotriton.wire.detections import Detection
from tests.unit.gateway import gateway_samples
from tests.unit.gateway.services.stand_ins import ReadHere, running, submission, until


def detection(x: float, y: float, confidence: float = 0.9, **more) -> Detection:
    (example,) = gateway_samples.run(1).detections
    given = {"id": 0, "x": x, "y": y, "confidence": confidence, "is_real": confidence >= 0.5}
    return Detection(**msgspec.structs.asdict(example) | given | more)


def answered(*detections: Detection):
    run = gateway_samples.run(len(detections))
    placed = [
        msgspec.structs.replace(
            one, x=d.x, y=d.y, confidence=d.confidence, is_real=d.is_real, outcome=d.outcome
        )
        for one, d in zip(run.detections, detections, strict=True)
    ]
    return msgspec.structs.replace(run, detections=placed)


def test_the_nearest_within_reach_are_pairs():
    ours = answered(detection(10, 10), detection(14, 10, 0.4), detection(80, 80))
    theirs = [detection(13, 10, 0.7), detection(10.5, 10, 0.8), detection(200, 200)]
    found = compare(ours, theirs, radius=3.0)
    assert (found.matched, found.only_champion, found.only_challenger) == (2, 1, 1)
    assert (found.real, found.verdicts_changed) == (3, 1)
    assert found.mean_difference == pytest.approx(0.2)
    assert found.largest_difference == pytest.approx(0.3)


def test_a_source_is_in_one_pair_alone():
    ours = answered(detection(10, 10), detection(11, 10))
    found = compare(ours, [detection(10.9, 10)], radius=3.0)
    assert (found.matched, found.only_champion, found.only_challenger) == (1, 1, 0)


def test_only_what_was_kept_counts():
    ours = answered(detection(10, 10, outcome="merged"))
    found = compare(ours, [detection(10, 10, outcome="unscored")], radius=3.0)
    assert (found.matched, found.only_champion, found.only_challenger, found.real) == (0, 0, 0, 0)
    assert found.mean_difference is None
    assert found.largest_difference is None


def test_nothing_beside_something_is_no_pair():
    one = [detection(10, 10)]
    assert compare(answered(*one), [], 3.0).only_champion == 1
    assert compare(answered(), one, 3.0).only_challenger == 1


@pytest.fixture
def admission() -> Admission:
    return Admission(running=1, waiting=3, most_bytes=10_000_000)


@pytest.fixture
def shadow(admission, triton, models, memory, journal) -> ShadowService:
    inference = InferenceService(
        config=ModelConfig(), limits=Limits(), in_flight=2, triton=triton, readers=ReadHere()
    )
    return ShadowService(
        admission=admission, inference=inference, models=models, database=memory, canary=journal
    )


async def test_what_the_champion_answered_is_scored_again_and_compared(shadow, memory):
    run = answered(detection(60.0, 50.0))
    async with running(shadow.run()):
        shadow.offer(submission(), run, 4)
        await until(lambda: memory.comparisons)
    ((run_id, model_id, comparison),) = memory.comparisons
    assert run_id == run.run_id
    assert memory.models[model_id]["version"] == 4
    assert comparison.matched == 1
    assert set(memory.disputes) <= {(run.detections[0].id, model_id)}
    # Nothing of it is a run.
    assert memory.runs == {}
    assert memory.outbox == []


def test_a_verdict_that_only_one_gives_is_disputed():
    ours = answered(
        detection(10, 10), detection(50, 50, 0.3), detection(80, 80), detection(90, 9, 0.1)
    )
    theirs = [detection(10, 10, 0.2), detection(50, 50, 0.4), detection(200, 200)]
    ids = [one.id for one in ours.detections]
    found = disputes_of(scored_by_both(ours, theirs, 3.0), UUID(int=7))
    # What only the other one found has no detection to be shown with.
    assert found == [(ids[0], UUID(int=7), 0.2, False), (ids[2], UUID(int=7), None, False)]


async def test_under_load_it_is_dropped(shadow, admission, triton, memory):
    async with admission.enter(), admission.enter():
        shadow.offer(submission(), answered(), 4)
    # Two may wait.
    for _ in range(5):
        shadow.offer(submission(), answered(), 4)
    async with running(shadow.run()):
        await until(lambda: len(memory.comparisons) == 2)
    assert len(memory.comparisons) == 2


async def test_one_without_room_for_its_bytes_is_dropped(shadow, admission, memory):
    with admission.holding(9_999_999):
        shadow.offer(submission(), answered(), 4)
    shadow.offer(submission(), answered(), 3)
    async with running(shadow.run()):
        await until(lambda: memory.comparisons)
    assert [memory.models[of]["version"] for _, of, _ in memory.comparisons] == [3]


async def test_its_bytes_are_given_back_whatever_becomes_of_it(shadow, admission, triton, memory):
    shadow.offer(submission(b"no image"), answered(), 4)
    shadow.offer(submission(), msgspec.structs.replace(answered(), run_id=UUID(int=9)), 4)
    async with running(shadow.run()):
        await until(lambda: memory.comparisons)
    assert [run_id for run_id, _, _ in memory.comparisons] == [UUID(int=9)]
    with admission.holding(10_000_000):
        pass
