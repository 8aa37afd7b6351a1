"""The tables `canaries`, `canary_steps`, `canary_seen` and `canary_sources`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec
from asyncpg import Record

from astrotriton.detection.quality.canary import Compared, Evidence, Plan, Tolerances
from astrotriton.gateway.storage.database import Connection
from astrotriton.wire.canary import CanaryStep

Status = Literal["running", "promoted", "sent-back", "ended"]

_MOST_SEEN = 2000
_MOST_LABELS = 1000


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a canary goes by, and what it has seen.

    Attributes
    ----------
    plan, tolerances
        As the settings were when it began.
    evidence, before
        Until now, and until its step began.
    champions
        Seconds a tile of runs of the champion that no run of the challenger was compared with yet.
    """

    plan: Plan
    tolerances: Tolerances
    evidence: Evidence
    before: Evidence
    champions: list[float] = []


class StoredCanary(NamedTuple):
    """A canary; ``step`` is counted from 0."""

    id: UUID
    name: str
    champion: int
    challenger: int
    status: Status
    step: int
    step_began_at: datetime
    kept: Kept
    reason: str
    began_at: datetime
    finished_at: datetime | None

    @property
    def fraction(self) -> float:
        """Share of the runs of its step."""
        return self.kept.plan.fractions[self.step]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Something that speaks for or against a challenger.

    Attributes
    ----------
    version
        Whose run it was; None for an exposure that both scored.
    seconds
        That the network took for a tile; None for a run that failed and the champion answered.
    pair
        What an exposure says that both scored.
    """

    version: int | None = None
    seconds: float | None = None
    pair: Compared | None = None


class Source(NamedTuple):
    """A source that both versions scored, and their confidences."""

    detection_id: UUID
    champion: float
    challenger: float


class Unlogged(NamedTuple):
    """A step that MLflow has not got."""

    id: int
    number: int
    canary_id: UUID
    name: str
    champion: int
    challenger: int
    step: CanaryStep


_COLUMNS = """
    id, model_name, champion, challenger, status, step, step_began_at, kept, reason, began_at,
    finished_at
"""


async def find_running(connection: Connection, name: str) -> StoredCanary | None:
    """The canary of a model that is under way; None if none is."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM canaries WHERE model_name = $1 AND status = 'running'", name
    )
    return _canary(row)


async def hold_running(
    connection: Connection, name: str, *, wait: bool = True
) -> StoredCanary | None:
    """The canary that is under way, which nobody else changes until the transaction ends.

    Who changes both a canary and a route holds the canary first, so that two never wait for each
    other.

    Parameters
    ----------
    wait
        Whether to wait for who holds it; otherwise it is None then.
    """
    row = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM canaries WHERE model_name = $1 AND status = 'running'
        FOR NO KEY UPDATE {"" if wait else "SKIP LOCKED"}
        """,
        name,
    )
    return _canary(row)


async def find_newest(connection: Connection, name: str) -> StoredCanary | None:
    """The last canary of a model, whatever became of it; None if there was none."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM canaries WHERE model_name = $1 ORDER BY id DESC LIMIT 1", name
    )
    return _canary(row)


async def insert_canary(
    connection: Connection, canary_id: UUID, name: str, champion: int, challenger: int, kept: Kept
) -> None:
    """Begin a canary."""
    await connection.execute(
        """
        INSERT INTO canaries (id, model_name, champion, challenger, status, kept, reason)
        VALUES ($1, $2, $3, $4, 'running', $5, 'it has begun')
        """,
        *(canary_id, name, champion, challenger, msgspec.json.encode(kept).decode()),
    )


async def set_seen(connection: Connection, canary_id: UUID, kept: Kept, reason: str) -> None:
    """Note what was seen, and what it waits for."""
    await connection.execute(
        "UPDATE canaries SET kept = $2, reason = $3 WHERE id = $1",
        *(canary_id, msgspec.json.encode(kept).decode(), reason),
    )


async def set_step(connection: Connection, canary_id: UUID, step: int, kept: Kept) -> None:
    """Note that another step begins."""
    await connection.execute(
        """
        UPDATE canaries SET step = $2, step_began_at = clock_timestamp(), kept = $3,
            reason = 'the step has begun'
        WHERE id = $1
        """,
        *(canary_id, step, msgspec.json.encode(kept).decode()),
    )


async def finish_canary(
    connection: Connection, canary_id: UUID, status: Status, reason: str
) -> None:
    """Note that a canary is over; what was seen and not counted yet is forgotten."""
    await connection.execute(
        """
        UPDATE canaries SET status = $2, reason = $3, finished_at = clock_timestamp()
        WHERE id = $1
        """,
        *(canary_id, status, reason),
    )
    for table in ("canary_seen", "canary_sources"):
        await connection.execute(f"DELETE FROM {table} WHERE canary_id = $1", canary_id)


async def insert_step(connection: Connection, canary_id: UUID, step: CanaryStep) -> None:
    """Note what happened."""
    await connection.execute(
        "INSERT INTO canary_steps (canary_id, step) VALUES ($1, $2)",
        *(canary_id, msgspec.json.encode(step).decode()),
    )


async def list_steps(connection: Connection, canary_id: UUID) -> list[CanaryStep]:
    """What happened to a canary, oldest first."""
    rows = await connection.fetch(
        "SELECT step FROM canary_steps WHERE canary_id = $1 ORDER BY id", canary_id
    )
    return [msgspec.json.decode(row["step"], type=CanaryStep) for row in rows]


async def find_unlogged_step(connection: Connection, name: str, since: datetime) -> Unlogged | None:
    """The oldest step that MLflow has not got; None if there is none."""
    row = await connection.fetchrow(
        """
        SELECT s.id, s.canary_id, s.step, c.model_name, c.champion, c.challenger,
            (SELECT count(*) FROM canary_steps b WHERE b.canary_id = c.id AND b.id < s.id) AS number
        FROM canary_steps s JOIN canaries c ON c.id = s.canary_id
        WHERE s.mlflow_run_id IS NULL AND c.model_name = $1 AND s.created_at >= $2
        ORDER BY s.id LIMIT 1
        """,
        *(name, since),
    )
    if row is None:
        return None
    return Unlogged(
        id=row["id"],
        number=row["number"],
        canary_id=row["canary_id"],
        name=row["model_name"],
        champion=row["champion"],
        challenger=row["challenger"],
        step=msgspec.json.decode(row["step"], type=CanaryStep),
    )


async def set_step_logged(connection: Connection, step_id: int, mlflow_run_id: str) -> None:
    """Note that MLflow has a step."""
    await connection.execute(
        "UPDATE canary_steps SET mlflow_run_id = $2 WHERE id = $1", step_id, mlflow_run_id
    )


async def insert_seen(
    connection: Connection, canary_id: UUID, seen: Sequence[tuple[UUID, Seen]]
) -> None:
    """Add what was seen of a canary, unless that is over."""
    await connection.executemany(
        """
        INSERT INTO canary_seen (id, canary_id, seen)
        SELECT $1, id, $3 FROM canaries WHERE id = $2 AND status = 'running'
        ON CONFLICT DO NOTHING
        """,
        [(one, canary_id, msgspec.json.encode(what).decode()) for one, what in seen],
    )


async def take_seen(connection: Connection, canary_id: UUID) -> list[Seen]:
    """The oldest of what was seen and is not counted yet, which is forgotten with this."""
    rows = await connection.fetch(
        """
        DELETE FROM canary_seen WHERE id IN (
            SELECT id FROM canary_seen WHERE canary_id = $1 ORDER BY id LIMIT $2
        ) RETURNING id, seen
        """,
        *(canary_id, _MOST_SEEN),
    )
    rows.sort(key=lambda row: row["id"].int)
    return [msgspec.json.decode(row["seen"], type=Seen) for row in rows]


async def insert_sources(
    connection: Connection, canary_id: UUID, sources: Sequence[Source]
) -> None:
    """Add sources that both versions scored, in case people label them, unless it is over."""
    await connection.executemany(
        """
        INSERT INTO canary_sources (detection_id, canary_id, champion, challenger)
        SELECT $1, id, $3, $4 FROM canaries WHERE id = $2 AND status = 'running'
        ON CONFLICT DO NOTHING
        """,
        [(one.detection_id, canary_id, one.champion, one.challenger) for one in sources],
    )


async def take_labelled(connection: Connection, canary_id: UUID) -> list[tuple[float, float, bool]]:
    """The sources that people have labelled, each once: both confidences, and whether it is real.

    In the order of the sources. A label that is changed later counts as it was.
    """
    rows = await connection.fetch(
        """
        DELETE FROM canary_sources s USING detections d
        WHERE d.id = s.detection_id AND d.label IN ('real', 'artefact') AND s.detection_id IN (
            SELECT s.detection_id FROM canary_sources s JOIN detections d ON d.id = s.detection_id
            WHERE s.canary_id = $1 AND d.label IN ('real', 'artefact')
            ORDER BY s.detection_id LIMIT $2
        ) RETURNING s.detection_id, s.champion, s.challenger, d.label = 'real' AS real
        """,
        *(canary_id, _MOST_LABELS),
    )
    rows.sort(key=lambda row: row["detection_id"].int)
    return [(row["champion"], row["challenger"], row["real"]) for row in rows]


def _canary(row: Record | None) -> StoredCanary | None:
    if row is None:
        return None
    return StoredCanary(
        id=row["id"],
        name=row["model_name"],
        champion=row["champion"],
        challenger=row["challenger"],
        status=row["status"],
        step=row["step"],
        step_began_at=row["step_began_at"],
        kept=msgspec.json.decode(row["kept"], type=Kept),
        reason=row["reason"],
        began_at=row["began_at"],
        finished_at=row["finished_at"],
    )
