"""Looking through what was scored, exposure by exposure."""

from typing import NamedTuple
from uuid import UUID

from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.detections import (
    GivenLabel,
    beside,
    find_cutout,
    first_of_run,
    list_labels,
    pictured,
)
from astrotriton.gateway.storage.runs import RunSummary, list_runs
from astrotriton.wire.detections import StoredDetection


class Exposure(NamedTuple):
    """A run with its most confident detections.

    Attributes
    ----------
    run
        What is known of it.
    detections
        By rank.
    pictured
        Those that a cut-out is kept of.
    """

    run: RunSummary
    detections: list[StoredDetection]
    pictured: set[UUID]


class Surroundings(NamedTuple):
    """What a person wants beside a detection.

    Attributes
    ----------
    labels
        What was said of it, the latest first.
    pictured
        Whether a cut-out of it is kept.
    before, after
        The detections of the same run next to it by rank.
    """

    labels: list[GivenLabel]
    pictured: bool
    before: UUID | None
    after: UUID | None


class ExposureService:
    """Reads complete runs for people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recent(self, after: UUID | None, limit: int) -> tuple[list[RunSummary], UUID | None]:
        """The newest runs from one on, and what to pass as ``after`` for those that follow."""
        async with self._database.transaction() as connection:
            found = await list_runs(connection, None, after, limit + 1)
        page = found[:limit]
        return page, page[-1].run_id if len(found) > limit else None

    async def get(self, run_id: UUID, limit: int) -> Exposure:
        """A run, with so many of its detections.

        Raises
        ------
        NotFoundError
            If none of that id is complete.
        """
        async with self._database.transaction() as connection:
            runs = await list_runs(connection, run_id, None, 1)
            if not runs:
                raise NotFoundError(f"no run has the id {run_id}")
            return Exposure(
                run=runs[0],
                detections=await first_of_run(connection, run_id, limit),
                pictured=await pictured(connection, run_id),
            )

    async def surroundings(self, detection: StoredDetection) -> Surroundings:
        """What is beside a detection."""
        async with self._database.transaction() as connection:
            before, after = await beside(connection, detection.run_id, detection.rank)
            return Surroundings(
                labels=await list_labels(connection, detection.id),
                pictured=await find_cutout(connection, detection.id) is not None,
                before=before,
                after=after,
            )
