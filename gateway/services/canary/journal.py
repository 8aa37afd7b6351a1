"""What scoring tells of the canary that is under way."""

from typing import NamedTuple
from uuid import UUID

import numpy as np
from uuid_utils.compat import uuid7

from astrotriton.detection.quality.canary import compare
from astrotriton.gateway.observability.metrics import SAMPLES_DROPPED
from astrotriton.gateway.storage.canaries import Seen, Source, insert_seen, insert_sources
from astrotriton.gateway.storage.database import Connection, Database

_WAITING = 5000
_MOST_SOURCES = 500


class Watched(NamedTuple):
    """The canary that is under way."""

    id: UUID
    champion: int
    challenger: int


class ScoredByBoth(NamedTuple):
    """A source of an exposure that two versions scored.

    Attributes
    ----------
    detection_id
        Of the detection that was answered; None where only the other version found the source.
    answered, other
        Confidences; 0 where a version did not find it.
    answered_real, other_real
        Whether each calls it real.
    """

    detection_id: UUID | None
    answered: float
    other: float
    answered_real: bool
    other_real: bool


class CanaryJournal:
    """Notes runs and pairs of the canary that is under way, for whichever gateway decides.

    Runs are kept here until `flush`, so that none waits; what a gateway has not stored when it is
    killed is lost, which is evidence and nothing else.

    Attributes
    ----------
    watched
        The canary; None if none is under way, and then nothing is noted.

    Parameters
    ----------
    database
        Where it is noted.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unstored: list[tuple[UUID, Seen]] = []
        self.watched: Watched | None = None

    def watch(self, canary: Watched | None) -> None:
        """Note what another canary is about from now on; what was noted of the last is dropped."""
        if canary != self.watched:
            self._unstored.clear()
        self.watched = canary

    def answered(self, version: int, tiles: int, seconds: float) -> None:
        """Note a run that a version answered, and what the network took for it."""
        watched = self.watched
        if watched is not None and version in (watched.champion, watched.challenger):
            self._note(Seen(version=version, seconds=seconds / max(tiles, 1)))

    def failed(self, version: int) -> None:
        """Note a run that the challenger failed, and the champion answered."""
        if self.watched is not None and version == self.watched.challenger:
            self._note(Seen(version=version))

    async def scored_by_both(
        self, connection: Connection, answered: int, other: int, sources: list[ScoredByBoth]
    ) -> None:
        """Note an exposure that a version answered and another scored too."""
        watched = self.watched
        if watched is None or {answered, other} != {watched.champion, watched.challenger}:
            return
        confidence = np.array([(s.answered, s.other) for s in sources], np.float64).reshape(-1, 2)
        real = np.array([(s.answered_real, s.other_real) for s in sources], bool).reshape(-1, 2)
        ours = 0 if answered == watched.champion else 1
        pair = compare(
            confidence[:, ours], confidence[:, 1 - ours], real[:, ours], real[:, 1 - ours]
        )
        if pair is None:
            return
        await insert_seen(connection, watched.id, [(uuid7(), Seen(pair=pair))])
        known = [
            Source(one.detection_id, *both[:: 1 if ours == 0 else -1])
            for one, both in zip(sources, confidence.tolist(), strict=True)
            if one.detection_id is not None
        ]
        await insert_sources(connection, watched.id, known[:_MOST_SOURCES])

    async def flush(self) -> None:
        """Store what is there.

        Raises
        ------
        DependencyError
            If PostgreSQL is away; it waits then, as far as there is room.
        """
        if self.watched is None or not self._unstored:
            return
        notes, self._unstored = self._unstored, []
        try:
            async with self._database.transaction() as connection:
                await insert_seen(connection, self.watched.id, notes)
        except BaseException:
            self._unstored = (notes + self._unstored)[-_WAITING:]
            raise

    def _note(self, seen: Seen) -> None:
        if len(self._unstored) >= _WAITING:
            SAMPLES_DROPPED.labels("canary").inc()
            return
        self._unstored.append((uuid7(), seen))
