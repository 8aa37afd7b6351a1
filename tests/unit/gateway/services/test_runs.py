"""Runs that are waited for, runs in the background, and what is told of them later."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.errors import ForbiddenError, KeyReusedError, NotFoundError, RunEndedError
from astrotriton.gateway.services import runs as module
from astrotriton.gateway.services.admission import Admission
from astrotriton.gateway.services.runs import RunService, check_key
from tests.unit.gateway.services.stand_ins import exposure, submission, until

CALLER = "key:a"


@pytest.fixture
def admission() -> Admission:
    return Admission(running=1, waiting=5, most_bytes=10_000_000)


@pytest.fixture
def runs(scoring, memory) -> RunService:
    return RunService(scoring, memory)


@pytest.fixture
def held_up(triton):
    """Triton answers once this is set; ``asked`` says whether it has been asked."""
    come = asyncio.Event()
    come.asked = False
    real = triton.infer

    async def infer(*asked):
        come.asked = True
        await come.wait()
        return await real(*asked)

    triton.infer = infer
    return come


async def score(runs, admission, given=None, key=None):
    async with admission.enter() as place:
        return await runs.run_now(given or submission(), place, CALLER, key)


async def start(runs, admission, given=None, key=None) -> UUID:
    async with AsyncExitStack() as held:
        place = await held.enter_async_context(admission.enter())
        return await runs.start(given or submission(), place, held, CALLER, key)


async def ended(runs, run_id):
    async with asyncio.timeout(30):
        while (found := await runs.get(run_id)).finished_at is None:
            await asyncio.sleep(0.001)
    return found


@pytest.mark.parametrize("key", [None, "a", "night-1", "x" * 200])
def test_a_key_is_printable_and_not_too_long(key):
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "x" * 201, "é"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(InputError) as refused:
        check_key(key)
    assert refused.value.field == "Idempotency-Key"


async def test_a_run_in_the_background_is_cancelled_and_its_key_is_free(
    runs, admission, held_up, memory
):
    run_id = await start(runs, admission, key="a")
    await until(lambda: held_up.asked)
    with pytest.raises(ForbiddenError):
        await runs.cancel(run_id, "key:b")
    cancelled = await runs.cancel(run_id, CALLER)
    assert (cancelled.status, cancelled.problem.type.rpartition(":")[2]) == (
        "failed",
        "run-cancelled",
    )
    await runs.drain(5)
    held_up.set()
    assert (await runs.get(run_id)).problem == cancelled.problem
    assert (memory.runs, memory.idempotency) == ({}, {})
    with pytest.raises(RunEndedError):
        await runs.cancel(run_id)


async def test_a_run_is_answered_and_found_again(runs, admission):
    done = await score(runs, admission)
    assert done.result is not None
    found = await runs.get(done.run_id)
    assert (found.status, found.progress, found.result) == ("complete", 1.0, done.result)
    with pytest.raises(NotFoundError):
        await runs.get(uuid4())


async def test_who_may_see_its_own_runs_alone_sees_these(runs, admission):
    done, begun = (await score(runs, admission)).run_id, await start(runs, admission)
    await ended(runs, begun)
    for run_id in (done, begun):
        assert (await runs.get(run_id, CALLER)).run_id == run_id
    for run_id, caller in ((done, "key:b"), (begun, "key:b"), (uuid4(), CALLER)):
        with pytest.raises(ForbiddenError):
            await runs.get(run_id, caller)


async def test_the_same_key_gets_the_first_answer_again(runs, admission, memory):
    first = await score(runs, admission, key="night")
    assert await score(runs, admission, key="night") == first
    at_once = await asyncio.gather(*(score(runs, admission, key="other") for _ in range(3)))
    assert len({one.run_id for one in at_once}) == 1
    assert len(memory.runs) == 2
    with pytest.raises(KeyReusedError):
        await score(runs, admission, submission(exposure((20.0, 20.0))), "night")


async def test_only_so_many_work_at_a_time(runs, admission, triton):
    under_way = largest = 0
    real = triton.largest_batch

    async def largest_batch(*asked):
        nonlocal under_way, largest
        under_way += 1
        largest = max(largest, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return await real(*asked)

    triton.largest_batch = largest_batch
    await asyncio.gather(*(score(runs, admission) for _ in range(4)))
    assert largest == 1


async def test_a_run_in_the_background_tells_how_far_it_is_and_keeps_its_place(
    runs, admission, held_up
):
    run_id = await start(runs, admission)
    assert (await runs.get(run_id)).status in ("queued", "running")
    assert admission.inside == 1
    held_up.set()
    found = await ended(runs, run_id)
    assert (found.status, found.progress) == ("complete", 1.0)
    assert found.result.run_id == run_id
    await until(lambda: admission.inside == 0)


async def test_one_that_fails_says_why_and_its_key_is_free_again(runs, admission, memory):
    run_id = await start(runs, admission, submission(b"no image"), "night")
    found = await ended(runs, run_id)
    assert found.status == "failed"
    assert found.problem.field == "exposure"
    assert memory.idempotency == {}
    await until(lambda: admission.inside == 0)
    again = await start(runs, admission, submission(), "night")
    assert (await ended(runs, again)).status == "complete"


async def test_a_key_stands_for_one_run_in_the_background_too(runs, admission, memory, held_up):
    first = await start(runs, admission, key="night")
    assert await start(runs, admission, key="night") == first
    held_up.set()
    await ended(runs, first)
    assert await start(runs, admission, key="night") == first
    assert len(memory.runs) == 1


async def test_one_that_leaves_waits_for_its_runs(runs, admission, held_up):
    run_id = await start(runs, admission)
    await runs.drain(0.01)
    assert (await runs.get(run_id)).finished_at is None
    held_up.set()
    await runs.drain(30.0)
    assert (await runs.get(run_id)).status == "complete"


async def test_what_is_under_way_at_the_end_is_given_up(runs, admission, held_up, memory):
    async with runs.keeping_house():
        run_id = await start(runs, admission, key="night")
        await until(lambda: held_up.asked)
    found = await runs.get(run_id)
    assert found.status == "failed"
    assert found.problem.type.endswith("run-given-up")
    assert memory.idempotency == {}
    assert memory.runs == {}


async def test_runs_are_spoken_for_and_those_of_others_that_are_not_are_given_up(
    runs, admission, held_up, memory, monkeypatch
):
    monkeypatch.setattr(module, "_BEAT", 0.001)
    monkeypatch.setattr(module, "_SWEEP", 0.001)
    run_id, long_ago = await start(runs, admission), datetime.now(UTC) - timedelta(minutes=5)
    silent = uuid4()
    memory.jobs[silent] = memory.jobs[run_id] | {"id": silent, "heartbeat_at": long_ago}
    async with runs.keeping_house():
        memory.jobs[run_id] = memory.jobs[run_id] | {"heartbeat_at": long_ago}
        await until(lambda: memory.jobs[silent]["finished_at"])
        held_up.set()
        await ended(runs, run_id)
    assert (await runs.get(silent)).problem.type.endswith("run-given-up")
