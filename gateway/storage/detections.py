"""The tables `detections`, `cutouts` and `labels`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from asyncpg import Record

from astrotriton.gateway.storage.database import Connection
from astrotriton.gateway.storage.healpix import cells, cone
from astrotriton.gateway.storage.runs import EXPOSURE, exposure_of, model_of
from astrotriton.wire.detections import Label, ScoredDetection, StoredDetection

# The columns are the answer's fields, by the same names.
_COLUMNS = ScoredDetection.__struct_fields__

_SELECT = f"""
    SELECT d.*, r.created_at, r.threshold, r.tta, r.guarantee,
           {", ".join(f"r.{name}" for name in EXPOSURE)},
           m.name AS model_name, m.version AS model_version, m.digest AS model_digest, r.model_id
"""
_JOINS = "JOIN runs r ON r.id = d.run_id JOIN models m ON m.id = r.model_id"


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which detections are looked for; None: any.

    ``cone`` is a position and a radius in ICRS degrees; ``first_id`` and ``last_id`` bound the ids,
    which begin with the time that they were made; ``observed_since`` and ``observed_until`` bound
    mid-exposure.
    """

    run_id: UUID | None = None
    exposure: str | None = None
    model_version: int | None = None
    is_real: bool | None = None
    outcome: str | None = None
    min_confidence: float | None = None
    label: Label | None = None
    since: datetime | None = None
    until: datetime | None = None
    observed_since: datetime | None = None
    observed_until: datetime | None = None
    filter: str | None = None
    cone: tuple[float, float, float] | None = None


async def insert_detections(
    connection: Connection,
    run_id: UUID,
    detections: Sequence[ScoredDetection],
    features: Sequence[list[float] | None],
) -> None:
    """Add the detections of a run and what their confidence was made of, by COPY."""
    await insert_detections_of(connection, [(run_id, detections, features)])


async def insert_detections_of(
    connection: Connection,
    runs: Iterable[tuple[UUID, Sequence[ScoredDetection], Sequence[list[float] | None]]],
) -> None:
    """Add the detections of several runs, with their features, by one COPY."""
    rows = [
        (run_id, detection, values)
        for run_id, detections, features in runs
        for detection, values in zip(detections, features, strict=True)
    ]
    placed = [d for _, d, _ in rows if d.ra is not None]
    found = cells([d.ra or 0.0 for d in placed], [d.dec or 0.0 for d in placed])
    cell = {d.id: c for d, c in zip(placed, found, strict=True)}
    await connection.copy_records_to_table(
        "detections",
        columns=["run_id", "cell", "features", *_COLUMNS],
        records=(
            (run_id, cell.get(detection.id), values, *msgspec.structs.astuple(detection))
            for run_id, detection, values in rows
        ),
    )


async def insert_cutouts(connection: Connection, cutouts: Mapping[UUID, bytes]) -> None:
    """Add the pixels of detections' cut-outs, by COPY."""
    await connection.copy_records_to_table(
        "cutouts", columns=["detection_id", "pixels"], records=cutouts.items()
    )


async def find_cutout(connection: Connection, detection_id: UUID) -> Record | None:
    """The cut-out of a detection: its ``pixels``, or the ``png`` of an earlier version's."""
    return await connection.fetchrow(
        "SELECT pixels, png FROM cutouts WHERE detection_id = $1", detection_id
    )


async def find_detection(connection: Connection, detection_id: UUID) -> Record | None:
    """A detection with what is known of its run; None if there is none of that id."""
    return await connection.fetchrow(
        f"{_SELECT} FROM detections d {_JOINS} WHERE d.id = $1", detection_id
    )


def stored_detection(row: Record) -> StoredDetection:
    """A detection as it is answered."""
    return msgspec.convert(
        {**row, "model": model_of(row), "exposure": exposure_of(row)}, StoredDetection
    )


async def list_detections(
    connection: Connection, wanted: Filter, after: UUID | None, limit: int
) -> list[StoredDetection]:
    """The newest detections that match, from one on.

    Parameters
    ----------
    after
        The last detection of the page before.
    """
    statement, values = listing(wanted, after, limit)
    return [stored_detection(row) for row in await connection.fetch(statement, *values)]


def listing(wanted: Filter, after: UUID | None, limit: int) -> tuple[str, list[Any]]:
    """The statement of `list_detections` and its values."""
    values: list[Any] = []

    def place(value: Any) -> str:
        values.append(value)
        return f"${len(values)}"

    source, conditions = "detections d", []
    if wanted.cone is not None:
        ra, dec, radius = wanted.cone
        first, last = cone(ra, dec, radius)
        # Each range by itself (OFFSET sees to it), and before the page is cut. Joined with all of
        # them, the planner takes them to hold most of the table, and reads all of it.
        source = f"""
            (WITH near AS MATERIALIZED (
                SELECT n.* FROM unnest({place(first)}::bigint[], {place(last)}::bigint[])
                    AS range (first, last)
                CROSS JOIN LATERAL (
                    SELECT * FROM detections WHERE cell BETWEEN range.first AND range.last OFFSET 0
                ) n
            ) SELECT * FROM near) d
        """
        at_ra, at_dec = place(ra), place(dec)
        conditions.append(
            f"power(sind((d.dec - {at_dec}::float8) / 2), 2) + cosd(d.dec) * cosd({at_dec}::float8)"
            f" * power(sind((d.ra - {at_ra}::float8) / 2), 2)"
            f" <= power(sind({place(radius)}::float8 / 2), 2)"
        )
    for condition, value in (
        ("d.id < {}", after),
        ("d.run_id = {}", wanted.run_id),
        ("r.exposure_name = {}", wanted.exposure),
        ("m.version = {}", wanted.model_version),
        ("d.is_real = {}", wanted.is_real),
        ("d.outcome = {}", wanted.outcome),
        ("d.confidence >= {}", wanted.min_confidence),
        ("d.label = {}", wanted.label),
        ("r.observed_at >= to_timestamp({}::float8)", _seconds(wanted.observed_since)),
        ("r.observed_at < to_timestamp({}::float8)", _seconds(wanted.observed_until)),
        ("r.filter = {}", wanted.filter),
        ("d.id >= {}", wanted.since and _earliest(wanted.since)),
        ("d.id < {}", wanted.until and _earliest(wanted.until)),
    ):
        if value is not None:
            conditions.append(condition.format(place(value)))
    where = " AND ".join(conditions) or "true"
    order = f"ORDER BY d.id DESC LIMIT {place(limit)}"
    return f"{_SELECT} FROM {source} {_JOINS} WHERE {where} {order}", values


def _seconds(time: datetime | None) -> float | None:
    """Since 1970: the first and the last year overflow in other zones than their own."""
    return None if time is None else time.timestamp()


def _earliest(time: datetime) -> UUID:
    """The least id that can have been made at a time: version 7 begins with milliseconds."""
    return UUID(int=max(int(time.timestamp() * 1000), 0) << 80)


async def set_label(
    connection: Connection,
    label_id: UUID,
    detection_id: UUID,
    label: Label | None,
    comment: str | None,
    author: str,
) -> bool:
    """Label a detection, and keep who said so; False if there is none of that id."""
    known = await connection.fetchval(
        "UPDATE detections SET label = $2 WHERE id = $1 RETURNING true", detection_id, label
    )
    if not known:
        return False
    await connection.execute(
        """
        INSERT INTO labels (id, detection_id, label, comment, author)
        VALUES ($1, $2, $3, $4, $5)
        """,
        label_id,
        detection_id,
        label,
        comment,
        author,
    )
    return True


class GivenLabel(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said of a detection; no label: they withdrew it."""

    label: Label | None
    comment: str | None
    author: str
    created_at: datetime


async def list_labels(connection: Connection, detection_id: UUID) -> list[GivenLabel]:
    """What was said of a detection, the latest first."""
    rows = await connection.fetch(
        """
        SELECT label, comment, author, created_at FROM labels
        WHERE detection_id = $1 ORDER BY id DESC
        """,
        detection_id,
    )
    return [GivenLabel(**row) for row in rows]


async def first_of_run(connection: Connection, run_id: UUID, limit: int) -> list[StoredDetection]:
    """The most confident detections of a run."""
    rows = await connection.fetch(
        f"{_SELECT} FROM detections d {_JOINS} WHERE d.run_id = $1 ORDER BY d.rank LIMIT $2",
        *(run_id, limit),
    )
    return [stored_detection(row) for row in rows]


async def pictured(connection: Connection, run_id: UUID) -> set[UUID]:
    """The detections of a run that a cut-out is kept of."""
    rows = await connection.fetch(
        "SELECT c.detection_id FROM cutouts c JOIN detections d ON d.id = c.detection_id"
        " WHERE d.run_id = $1",
        run_id,
    )
    return {row["detection_id"] for row in rows}


async def beside(
    connection: Connection, run_id: UUID, rank: int
) -> tuple[UUID | None, UUID | None]:
    """The detections of a run before and after a rank."""
    rows = await connection.fetch(
        "SELECT rank, id FROM detections WHERE run_id = $1 AND rank IN ($2 - 1, $2 + 1)",
        *(run_id, rank),
    )
    found = {row["rank"]: row["id"] for row in rows}
    return found.get(rank - 1), found.get(rank + 1)
