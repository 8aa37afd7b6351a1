"""Where versions disagree: what one calls real and another does not, on the same exposure."""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from astrotriton.gateway.compute import compute
from astrotriton.gateway.periodic import work_off
from astrotriton.gateway.services.shadow import pairs
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.disputes import (
    Dispute,
    Verdict,
    find_scored_otherwise,
    find_verdicts,
    insert_disputes,
)

_WAITING = 1000

_log = logging.getLogger(__name__)


class _Job(NamedTuple):
    runs: Sequence[UUID]
    radius: float


class DisputeService:
    """Looks, after a run was stored, whether other versions scored its exposure otherwise.

    It is told of runs that are committed: of two that are stored at the same time, the one that is
    looked at later sees the other. Nobody waits for it. What waits when the gateway ends is
    forgotten, and so is what comes when too much is waiting.

    Parameters
    ----------
    database
        Where runs are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(_WAITING)

    def offer(self, runs: Sequence[UUID], radius: float) -> None:
        """Have runs looked at that were stored; pairs lie within ``radius`` pixels."""
        if not self._jobs.full():
            self._jobs.put_nowait(_Job(runs, radius))

    async def run(self) -> None:
        """Work until cancelled."""
        await work_off(self._jobs, self._look, self._failed)

    async def _look(self, job: _Job) -> None:
        async with self._database.transaction() as connection:
            twins = await find_scored_otherwise(connection, job.runs)
            found: list[Dispute] = []
            for run, model, other, other_model in twins:
                ours = await find_verdicts(connection, run)
                theirs = await find_verdicts(connection, other)
                found += await compute(
                    disputes_of, (ours, model), (theirs, other_model), job.radius
                )
            if found:
                await insert_disputes(connection, found)

    def _failed(self, job: _Job, error: Exception) -> None:
        _log.warning(
            "where versions disagree on run %s was not seen: %s: %s",
            *(job.runs[0], type(error).__name__, error),
        )


def disputes_of(
    one: tuple[Sequence[Verdict], UUID], other: tuple[Sequence[Verdict], UUID], radius: float
) -> list[Dispute]:
    """The pairs of sources on which two versions disagree, each as both have it.

    Parameters
    ----------
    one, other
        The sources of a run, and its model.
    radius
        Pixels within which two are the same source.
    """
    (ours, our_model), (theirs, their_model) = one, other
    found = []
    for i, j in pairs(ours, theirs, radius):
        a, b = ours[i], theirs[j]
        if a.is_real != b.is_real:
            found.append(Dispute(a.id, their_model, b.confidence, b.is_real))
            found.append(Dispute(b.id, our_model, a.confidence, a.is_real))
    return found
