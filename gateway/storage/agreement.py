"""What two versions made of the same exposures, in the tables `shadow_runs` and `runs`."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from astrotriton.gateway.storage.database import Connection
from astrotriton.gateway.storage.shadow import Comparison


class KeptSource(NamedTuple):
    """A source that a run scored: its place in pixels, its confidence and its verdict."""

    x: float
    y: float
    confidence: float | None
    is_real: bool


async def find_comparisons(
    connection: Connection, name: str, champion: int, shadow: int, since: datetime, until: datetime
) -> list[Comparison]:
    """What a version made in the shadow of another's runs."""
    rows = await connection.fetch(
        """
        SELECT s.real, s.matched, s.only_champion, s.only_challenger, s.verdicts_changed,
               s.mean_difference, s.largest_difference
        FROM shadow_runs s JOIN models c ON c.id = s.model_id
        JOIN runs r ON r.id = s.run_id JOIN models m ON m.id = r.model_id
        WHERE m.name = $1 AND m.version = $2 AND c.name = $1 AND c.version = $3
            AND r.created_at >= $4 AND r.created_at < $5
        """,
        *(name, champion, shadow, since, until),
    )
    return [Comparison(**row) for row in rows]


async def find_twins(
    connection: Connection,
    name: str,
    one: int,
    other: int,
    since: datetime,
    until: datetime,
    most: int,
) -> list[tuple[UUID, UUID]]:
    """The last runs of two versions on the same exposure, scored the same way; the newest first."""
    rows = await connection.fetch(
        """
        SELECT a_id, b_id FROM (
            SELECT DISTINCT ON (a.exposure_digest, a.exposure_hdu) a.id AS a_id, b.id AS b_id
            FROM runs a JOIN models m ON m.id = a.model_id
            JOIN runs b ON b.exposure_digest = a.exposure_digest
                AND b.exposure_hdu = a.exposure_hdu
                AND (b.extracted, b.tta) = (a.extracted, a.tta)
            JOIN models n ON n.id = b.model_id
            WHERE m.name = $1 AND m.version = $2 AND n.name = $1 AND n.version = $3
                AND a.created_at >= $4 AND a.created_at < $5
                AND b.created_at >= $4 AND b.created_at < $5
            ORDER BY a.exposure_digest, a.exposure_hdu, a.id DESC, b.id DESC
        ) twins ORDER BY a_id DESC LIMIT $6
        """,
        *(name, one, other, since, until, most),
    )
    return [(row["a_id"], row["b_id"]) for row in rows]


async def find_kept(connection: Connection, runs: Sequence[UUID]) -> dict[UUID, list[KeptSource]]:
    """The sources that runs have scored."""
    rows = await connection.fetch(
        """
        SELECT run_id, x, y, confidence, is_real FROM detections
        WHERE run_id = ANY($1) AND outcome = 'kept' ORDER BY id
        """,
        runs,
    )
    found: dict[UUID, list[KeptSource]] = {run: [] for run in runs}
    for row in rows:
        found[row["run_id"]].append(
            KeptSource(row["x"], row["y"], row["confidence"], row["is_real"])
        )
    return found
