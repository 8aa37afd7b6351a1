"""Runs: those that a caller waits for, those in the background, and those of the past."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from astrotriton.detection.errors import InputError
from astrotriton.gateway.deadline import deadline
from astrotriton.gateway.errors import (
    ForbiddenError,
    NotFoundError,
    RunCancelledError,
    RunEndedError,
    RunGivenUpError,
    problem_of,
)
from astrotriton.gateway.jobs import Jobs
from astrotriton.gateway.observability.metrics import OUTBOX_LAG, OUTBOX_WAITING
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.services.admission import Place
from astrotriton.gateway.services.inference import Progress, Submission
from astrotriton.gateway.services.scoring import PendingRun, ScoringService
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.jobs import (
    beat,
    fail_job,
    find_abandoned_jobs,
    find_failed,
    find_job,
    forget,
    insert_job,
    take_key,
)
from astrotriton.gateway.storage.outbox import measure_waiting
from astrotriton.gateway.storage.run_lists import RunFilter as RunFilter
from astrotriton.gateway.storage.run_lists import list_all_runs
from astrotriton.gateway.storage.runs import find_caller, find_run
from astrotriton.wire.problems import Problem
from astrotriton.wire.runs import InferResponse, RunPage, RunStatus

_BEAT = 2.0
_SILENCE = timedelta(seconds=30)
_SWEEP = 10.0
_KEYS_KEPT = timedelta(days=1)
EVENTS_KEPT = timedelta(days=7)
_PATIENCE = 3600.0

_log = logging.getLogger(__name__)


_KEY = re.compile(r"[\x21-\x7e]{1,200}")


def check_key(key: str | None) -> str | None:
    """An idempotency key, if it can be one.

    Raises
    ------
    InputError
        If it cannot.
    """
    if key is not None and not _KEY.fullmatch(key):
        raise InputError(
            "bad-header", "Idempotency-Key", "give 1 to 200 printable characters without spaces"
        )
    return key


class RunOutcome(NamedTuple):
    """A run to answer with: complete, or to be asked for again under its id."""

    run_id: UUID
    result: InferResponse | None


class RunService:
    """Starts runs and looks them up.

    A run in the background belongs to the gateway that took it, which says every 2 s that it is
    still at it. One that nobody has spoken for in 30 s is given up by whichever gateway notices.

    Parameters
    ----------
    scoring, database
        What runs need.
    """

    def __init__(self, scoring: ScoringService, database: Database) -> None:
        self._scoring = scoring
        self._database = database
        self._jobs = Jobs("run", self._fail)

    async def run_now(
        self,
        submission: Submission,
        place: Place,
        caller: str,
        key: str | None,
        progress: Progress = lambda done, of: None,
    ) -> RunOutcome:
        """Score an exposure while the caller waits, or find what the same key was answered before.

        Raises
        ------
        InputError, GatewayError
            As `ScoringService.score_and_store` does.
        KeyReusedError
            If the key was used for another request.
        """
        pending = await self._scoring.pending(submission, caller, key)
        run_id = await self._scoring.earlier(pending)
        if run_id is None:
            async with place.turn():
                run = await self._scoring.score_and_store(submission, pending, progress)
            if run is not None:
                return RunOutcome(run.run_id, run)
            run_id = await self._faster(pending)
        async with self._database.transaction() as connection:
            return RunOutcome(run_id, await find_run(connection, run_id))

    async def start(
        self,
        submission: Submission,
        place: Place,
        held: AsyncExitStack,
        caller: str,
        key: str | None,
    ) -> UUID:
        """Score an exposure in the background; `get` says how far it is.

        Parameters
        ----------
        held
            What is closed when the run has ended: its place.

        Raises
        ------
        GatewayError
            As `run_now` does.
        """
        pending = await self._scoring.pending(submission, caller, key)
        if (run_id := await self._scoring.earlier(pending)) is not None:
            return run_id
        async with self._database.transaction() as connection:
            if key is None or await take_key(
                connection, caller, key, pending.digest, pending.run_id
            ):
                name = submission.request.exposure_id or submission.filename
                await insert_job(connection, pending.run_id, caller, name)
                run_id = pending.run_id
        if run_id is None:
            return await self._faster(pending)
        pending = replace(pending, in_background=True)
        inside = held.pop_all()
        self._jobs.start(run_id, lambda: self._work(submission, pending, place, inside))
        return run_id

    async def _faster(self, pending: PendingRun) -> UUID:
        """The run that took the run's key first."""
        run_id = await self._scoring.earlier(pending)
        if run_id is None:
            raise RunGivenUpError("another run with this key has just failed; send it again")
        return run_id

    async def get(self, run_id: UUID, only_of: str | None = None) -> RunStatus:
        """A run, and how far it is.

        Parameters
        ----------
        run_id
            The run.
        only_of
            A caller who may see its own runs alone; None: one who may see every run.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        ForbiddenError
            If it is not the caller's. That tells nothing of whether there is such a run.
        """
        async with self._database.transaction() as connection:
            if only_of is not None and await find_caller(connection, run_id) != only_of:
                raise ForbiddenError("this needs the scope 'read': the run is none of yours")
            job = await find_job(connection, run_id)
            run = await find_run(connection, run_id)
        if job is not None:
            done, of = self._jobs.progress.get(run_id, (job["done"], job["of"]))
            problem = job["problem"]
            return RunStatus(
                run_id=run_id,
                status="running" if of and job["status"] == "queued" else job["status"],
                progress=1.0 if run is not None else done / max(of, 1),
                created_at=job["created_at"],
                finished_at=job["finished_at"],
                problem=problem and msgspec.json.decode(problem, type=Problem),
                result=run,
            )
        if run is None:
            raise NotFoundError(f"no run has the id {run_id}")
        return RunStatus(
            run_id=run_id,
            status="complete",
            progress=1.0,
            created_at=run.created_at,
            finished_at=run.created_at,
            result=run,
        )

    async def find(self, wanted: RunFilter, after: UUID | None, limit: int) -> RunPage:
        """The newest runs that match, a page of them from one on."""
        async with self._database.transaction() as connection:
            found = await list_all_runs(connection, wanted, after, limit + 1)
        page = found[:limit]
        return RunPage(runs=page, next=page[-1].run_id if len(found) > limit else None)

    async def cancel(self, run_id: UUID, only_of: str | None = None) -> RunStatus:
        """End a run in the background: nothing of it is stored, and its key is free again.

        The gateway that works on it notices within 2 s.

        Raises
        ------
        NotFoundError, ForbiddenError
            As `get` does.
        RunEndedError
            If it has ended before.
        """
        if (await self.get(run_id, only_of)).finished_at is not None:
            raise RunEndedError(f"the run {run_id} has ended; only one under way can be cancelled")
        error = RunCancelledError("the run was cancelled before it was complete")
        await self._fail(run_id, error)
        self._jobs.end(run_id)
        return await self.get(run_id, only_of)

    @asynccontextmanager
    async def keeping_house(self) -> AsyncIterator[None]:
        """Speak for the runs in the background, and give up those that nobody speaks for."""
        turns = [
            repeat(self._beat, _BEAT, what="runs are not spoken for", log=_log),
            repeat(self._sweep, _SWEEP, what="runs are not looked after", log=_log),
        ]
        tasks = [asyncio.create_task(turn, name="house of the runs") for turn in turns]
        try:
            yield
        finally:
            await self._jobs.give_up()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self, seconds: float) -> None:
        """Wait until no run is in the background any more, at most so long."""
        await self._jobs.drain(seconds)

    async def _work(
        self, submission: Submission, pending: PendingRun, place: Place, held: AsyncExitStack
    ) -> None:
        def progress(done: int, of: int) -> None:
            self._jobs.tell(pending.run_id, done, of)

        async with held, deadline(_PATIENCE), place.turn():
            await self._scoring.score_and_store(submission, pending, progress)

    async def _fail(self, run_id: UUID, error: BaseException) -> None:
        async with self._database.transaction() as connection:
            await fail_job(connection, run_id, msgspec.json.encode(problem_of(error)))

    async def _beat(self) -> None:
        if self._jobs.progress:
            async with self._database.transaction() as connection:
                await beat(connection, dict(self._jobs.progress))
                for run_id in await find_failed(connection, list(self._jobs.progress)):
                    self._jobs.end(run_id)

    async def _sweep(self) -> None:
        async with self._database.transaction() as connection:
            given_up = await find_abandoned_jobs(connection, _SILENCE)
            for run_id in given_up:
                error = RunGivenUpError("the gateway that worked on the run has ended")
                await fail_job(connection, run_id, msgspec.json.encode(problem_of(error)))
            await forget(connection, _KEYS_KEPT, EVENTS_KEPT)
            waiting, lag = await measure_waiting(connection)
        OUTBOX_WAITING.set(waiting)
        OUTBOX_LAG.set(lag)
        for run_id in given_up:
            _log.warning("run %s was abandoned, and is given up", run_id)
