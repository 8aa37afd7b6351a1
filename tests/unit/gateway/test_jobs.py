"""Jobs in the background: told of while they run, drained, given up, and their faults stored."""

import asyncio
import logging
from uuid import UUID, uuid4

import pytest

from astrotriton.gateway.errors import RunGivenUpError
from astrotriton.gateway.jobs import Jobs


class Store:
    """Keeps why jobs failed, or fails itself."""

    def __init__(self) -> None:
        self.failures: dict[UUID, BaseException] = {}
        self.fault: Exception | None = None

    async def __call__(self, job_id: UUID, error: BaseException) -> None:
        if self.fault is not None:
            raise self.fault
        self.failures[job_id] = error


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return Jobs("run", store)


async def test_a_job_is_told_of_while_it_runs(jobs, store):
    go, job_id = asyncio.Event(), uuid4()

    async def work() -> None:
        jobs.tell(job_id, 1, 4)
        await go.wait()

    jobs.start(job_id, work)
    assert jobs.progress == {job_id: (0, 0)}
    await asyncio.sleep(0)
    assert jobs.progress == {job_id: (1, 4)}
    assert len(jobs) == 1
    await jobs.drain(0.0)
    assert len(jobs) == 1
    go.set()
    await jobs.drain(10.0)
    assert (len(jobs), jobs.progress, store.failures) == (0, {}, {})


async def test_why_it_failed_is_stored(jobs, store):
    job_id, fault = uuid4(), ValueError("no such exposure")

    async def work() -> None:
        raise fault

    jobs.start(job_id, work)
    await jobs.drain(10.0)
    assert store.failures == {job_id: fault}
    assert jobs.progress == {}


async def test_what_is_under_way_in_the_end_is_given_up(jobs, store):
    ids = [uuid4(), uuid4()]
    for job_id in ids:
        jobs.start(job_id, asyncio.Event().wait)
    # Some of them may not have begun yet.
    await jobs.give_up()
    assert len(store.failures) == len(ids)
    assert set(store.failures) == set(ids)
    for error in store.failures.values():
        assert isinstance(error, RunGivenUpError)
        assert "the gateway that worked on the run was stopped" in str(error)
    assert len(jobs) == 0


async def test_a_failure_that_cannot_be_stored_is_logged(jobs, store, caplog):
    caplog.set_level(logging.WARNING)
    store.fault = OSError("PostgreSQL is away")

    async def work() -> None:
        raise ValueError("no such exposure")

    jobs.start(uuid4(), work)
    await jobs.drain(10.0)
    assert "could not be stored: PostgreSQL is away" in caplog.text
