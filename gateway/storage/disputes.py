"""The table `disputes`: detections that another version judged otherwise."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from astrotriton.gateway.storage.database import Connection

# Of one exposure; it may have been scored any number of times.
_MOST_TWINS = 5


class Dispute(NamedTuple):
    """What another version made of a detection.

    Attributes
    ----------
    detection_id
        The detection.
    model_id
        The version's card.
    confidence
        What it gave the source; None if it found none there.
    is_real
        Its verdict, which is not the detection's.
    """

    detection_id: UUID
    model_id: UUID
    confidence: float | None
    is_real: bool


class Verdict(NamedTuple):
    """A source that a run scored: its id, its place in pixels, its confidence and its verdict."""

    id: UUID
    x: float
    y: float
    confidence: float | None
    is_real: bool


class OtherVerdict(NamedTuple):
    """A dispute as people read it."""

    name: str
    version: int
    confidence: float | None
    is_real: bool


async def find_scored_otherwise(
    connection: Connection, runs: Sequence[UUID]
) -> list[tuple[UUID, UUID, UUID, UUID]]:
    """Runs of other versions on the exposures of runs, scored the same way; the newest few of each.

    Returns
    -------
    list of tuple
        A run that was asked for and its model, and another run and its model.
    """
    rows = await connection.fetch(
        """
        SELECT a.id, a.model_id, b.id AS other, b.model_id AS other_model
        FROM runs a CROSS JOIN LATERAL (
            SELECT DISTINCT ON (t.model_id) t.id, t.model_id FROM (
                SELECT id, model_id, extracted, tta, threshold FROM runs
                WHERE exposure_digest = a.exposure_digest AND exposure_hdu = a.exposure_hdu
                    AND id <> a.id
                ORDER BY id DESC LIMIT $2
            ) t
            WHERE t.model_id <> a.model_id
                AND (t.extracted, t.tta, t.threshold) = (a.extracted, a.tta, a.threshold)
            ORDER BY t.model_id, t.id DESC
        ) b
        WHERE a.id = ANY($1)
        """,
        *(runs, _MOST_TWINS),
    )
    return [tuple(row) for row in rows]


async def find_verdicts(connection: Connection, run_id: UUID) -> list[Verdict]:
    """The sources that a run has scored."""
    rows = await connection.fetch(
        """
        SELECT id, x, y, confidence, is_real FROM detections
        WHERE run_id = $1 AND outcome = 'kept' AND x IS NOT NULL AND y IS NOT NULL ORDER BY rank
        """,
        run_id,
    )
    return [Verdict(**row) for row in rows]


async def insert_disputes(connection: Connection, disputes: Sequence[Dispute]) -> None:
    """Keep what other versions made of detections; of each version what it said last."""
    await connection.executemany(
        """
        INSERT INTO disputes (detection_id, model_id, confidence, is_real) VALUES ($1, $2, $3, $4)
        ON CONFLICT (detection_id, model_id)
        DO UPDATE SET confidence = excluded.confidence, is_real = excluded.is_real
        """,
        disputes,
    )


async def find_disputes(connection: Connection, detection_id: UUID) -> list[OtherVerdict]:
    """What other versions made of a detection, if not the same; the newest version first."""
    rows = await connection.fetch(
        """
        SELECT m.name, m.version, p.confidence, p.is_real
        FROM disputes p JOIN models m ON m.id = p.model_id
        WHERE p.detection_id = $1 ORDER BY m.name, m.version DESC
        """,
        detection_id,
    )
    return [OtherVerdict(**row) for row in rows]
