"""Where versions disagree."""

from uuid import UUID

import msgspec
import pytest

from astrotriton.gateway.services.disputes import DisputeService, disputes_of
from astrotriton.gateway.storage.disputes import Dispute, Verdict
from tests.unit.gateway.gateway_samples import run
from tests.unit.gateway.services.stand_ins import running, until

FIRST, SECOND = UUID(int=100), UUID(int=200)


def verdict(number: int, x: float, confidence: float) -> Verdict:
    return Verdict(UUID(int=number), x, 5.0, confidence, confidence >= 0.5)


def test_both_sides_of_a_pair_are_told_of_the_other():
    ours = [verdict(1, 10.0, 0.9), verdict(2, 50.0, 0.4), verdict(3, 90.0, 0.8)]
    theirs = [verdict(4, 51.0, 0.6), verdict(5, 11.0, 0.7), verdict(6, 150.0, 0.9)]
    assert disputes_of((ours, FIRST), (theirs, SECOND), 3.0) == [
        Dispute(UUID(int=2), SECOND, 0.6, True),
        Dispute(UUID(int=4), FIRST, 0.4, False),
    ]
    assert disputes_of((ours, FIRST), ([], SECOND), 3.0) == []


@pytest.fixture
def scored(memory):
    """The same exposure, scored by two versions, which disagree on the first of two sources."""
    made = []
    for number, model in ((1, FIRST), (2, SECOND)):
        answer = run(2)
        detections = [
            msgspec.structs.replace(
                one,
                id=UUID(int=10 * number + i),
                x=100.0 + 50.0 * i,
                is_real=bool(i or number == 1),
                confidence=0.9 if i or number == 1 else 0.3,
            )
            for i, one in enumerate(answer.detections)
        ]
        made.append(
            msgspec.structs.replace(
                answer,
                run_id=UUID(int=number),
                model=msgspec.structs.replace(answer.model, version=number),
                detections=detections,
            )
        )
        memory.models[model] = {"name": "unet", "version": number}
        memory.runs[made[-1].run_id] = made[-1]
    return made


async def test_runs_of_the_same_exposure_are_compared(memory, scored):
    service = DisputeService(memory)
    async with running(service.run()):
        service.offer([scored[1].run_id], 3.0)
        await until(lambda: memory.disputes)
    assert set(memory.disputes.values()) == {
        Dispute(UUID(int=10), SECOND, 0.3, False),
        Dispute(UUID(int=20), FIRST, 0.9, True),
    }


async def test_what_goes_wrong_holds_nothing_up(memory, scored):
    service = DisputeService(memory)
    for _ in range(1500):  # more than may wait
        service.offer([UUID(int=77)], 3.0)  # no such run
    async with running(service.run()):
        await until(lambda: service._jobs.empty())
        service.offer([scored[0].run_id], 3.0)
        await until(lambda: memory.disputes)
