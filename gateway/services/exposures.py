"""Looking through what was scored, exposure by exposure."""

from typing import NamedTuple
from uuid import UUID

from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.detections import (
    GivenLabel,
    find_cutout,
    list_labels,
    pictured,
    places_of_run,
)
from astrotriton.gateway.storage.runs import RunSummary, list_runs
from astrotriton.wire.detections import StoredDetection


class Exposure(NamedTuple):
    """A run, and where its detections lie.

    Attributes
    ----------
    run
        What is known of it.
    places
        x and y of its detections, pixels, by rank.
    pictured
        Those that a cut-out is kept of.
    """

    run: RunSummary
    places: list[tuple[float, float]]
    pictured: set[UUID]


class Surroundings(NamedTuple):
    """What a person wants beside a detection.

    Attributes
    ----------
    labels
        What was said of it, the latest first.
    pictured
        Whether a cut-out of it is kept.
    """

    labels: list[GivenLabel]
    pictured: bool


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
        """A run, with the places of so many of its detections.

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
                places=await places_of_run(connection, run_id, limit),
                pictured=await pictured(connection, run_id),
            )

    async def surroundings(self, detection: StoredDetection) -> Surroundings:
        """What is beside a detection."""
        async with self._database.transaction() as connection:
            return Surroundings(
                labels=await list_labels(connection, detection.id),
                pictured=await find_cutout(connection, detection.id) is not None,
            )
