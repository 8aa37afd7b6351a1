"""Looking through what was scored, exposure by exposure."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.detections import (
    GivenLabel,
    find_contested,
    list_labels,
    pictured,
    pictured_planes,
    places_of_run,
)
from astrotriton.gateway.storage.disputes import OtherVerdict, find_disputes
from astrotriton.gateway.storage.pictures import find_binning
from astrotriton.gateway.storage.runs import RunSummary, list_runs
from astrotriton.wire.detections import Label, StoredDetection
from astrotriton.wire.exposures import Plane


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
    binning
        Of the picture that is kept of the whole; None if none is.
    """

    run: RunSummary
    places: list[tuple[float, float]]
    pictured: set[UUID]
    binning: int | None


class Surroundings(NamedTuple):
    """What a person wants beside a detection.

    Attributes
    ----------
    labels
        What was said of it, the latest first.
    pictured
        The images that its cut-outs are kept of: science and template first.
    binning
        As `Exposure` has it.
    others
        What other versions say of it, where that is not the same.
    """

    labels: list[GivenLabel]
    pictured: tuple[Plane, ...]
    binning: int | None
    others: list[OtherVerdict]

    @property
    def opinions(self) -> dict[Label, list[str]]:
        """Who says what, by what each person said last; the label that most give is first."""
        last: dict[str, Label | None] = {}
        for one in self.labels:
            last.setdefault(one.author, one.label)
        said: dict[Label, list[str]] = {}
        for author, label in last.items():
            if label is not None:
                said.setdefault(label, []).append(author)
        return dict(sorted(said.items(), key=lambda one: -len(one[1])))


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
                binning=await find_binning(connection, run_id),
            )

    async def contested(self, detections: Sequence[StoredDetection]) -> set[UUID]:
        """Those of detections on which people disagree."""
        async with self._database.transaction() as connection:
            return await find_contested(connection, [one.id for one in detections])

    async def surroundings(self, detection: StoredDetection) -> Surroundings:
        """What is beside a detection."""
        async with self._database.transaction() as connection:
            return Surroundings(
                labels=await list_labels(connection, detection.id),
                pictured=await pictured_planes(connection, detection.id),
                binning=await find_binning(connection, detection.run_id),
                others=await find_disputes(connection, detection.id),
            )
