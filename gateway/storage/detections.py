"""The tables `detections`, `cutouts` and `labels`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
from asyncpg import Record

from astrotriton.gateway.storage.database import Connection
from astrotriton.gateway.storage.healpix import cells
from astrotriton.gateway.storage.listing import JOINS, SELECT, Filter, listing, pick
from astrotriton.gateway.storage.runs import exposure_of, model_of
from astrotriton.wire.detections import Label, ScoredDetection, Sort, StoredDetection
from astrotriton.wire.exposures import COMPANIONS, Plane

# The columns are the answer's fields, by the same names.
_COLUMNS = ScoredDetection.__struct_fields__


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


class KeptCutout(NamedTuple):
    """The pixels of a cut-out, as `astrotriton.detection.image.cutouts` has them.

    Attributes
    ----------
    difference
        Of `cut_out`.
    science, template
        Of `cut_out_unmeasured`, if there are such images.
    """

    difference: bytes
    science: bytes | None = None
    template: bytes | None = None


async def insert_cutouts(connection: Connection, cutouts: Mapping[UUID, KeptCutout]) -> None:
    """Add the pixels of detections' cut-outs, by COPY."""
    await connection.copy_records_to_table(
        "cutouts",
        columns=["detection_id", "pixels", "science", "template"],
        records=((detection_id, *kept) for detection_id, kept in cutouts.items()),
    )


async def find_cutout(connection: Connection, detection_id: UUID) -> Record | None:
    """The cut-out of a detection: its ``pixels``, or the ``png`` of an earlier version's.

    Besides it has the ``background`` and ``noise`` that it was made with, the images ``science``
    and ``template`` where they are kept, and what a file says of it.
    """
    return await connection.fetchrow(
        """
        SELECT c.pixels, c.png, c.science, c.template, r.background, r.noise,
               d.x, d.y, d.ra, d.dec, d.run_id, r.flux_unit, r.exposure_name
        FROM cutouts c JOIN detections d ON d.id = c.detection_id JOIN runs r ON r.id = d.run_id
        WHERE c.detection_id = $1
        """,
        detection_id,
    )


async def pictured_planes(connection: Connection, detection_id: UUID) -> tuple[Plane, ...]:
    """Which images of a detection are kept; none: no cut-out of it is."""
    row = await connection.fetchrow(
        """
        SELECT true AS difference, science IS NOT NULL AS science, template IS NOT NULL AS template
        FROM cutouts WHERE detection_id = $1
        """,
        detection_id,
    )
    planes: tuple[Plane, ...] = (*COMPANIONS, "difference")
    return () if row is None else tuple(plane for plane in planes if row[plane])


async def find_detection(connection: Connection, detection_id: UUID) -> Record | None:
    """A detection with what is known of its run; None if there is none of that id."""
    return await connection.fetchrow(
        f"{SELECT} FROM detections d {JOINS} WHERE d.id = $1", detection_id
    )


def stored_detection(row: Record) -> StoredDetection:
    """A detection as it is answered."""
    return msgspec.convert(
        {**row, "model": model_of(row), "exposure": exposure_of(row)}, StoredDetection
    )


async def list_detections(
    connection: Connection,
    wanted: Filter,
    after: Record | None,
    limit: int,
    sort: Sort = "newest",
    until: Record | None = None,
    *,
    backwards: bool = False,
) -> list[StoredDetection]:
    """The detections that match, in their order, from one on.

    Parameters
    ----------
    after
        The place of the last detection of the page before.
    until
        The place of the last one that may be on a page, in the order of commits.
    backwards
        Whether to go the other way: from the detection before ``after`` on.
    """
    picked = await pick(connection, wanted, sort)
    statement, values = listing(
        wanted, after, limit, sort, picked=picked, until=until, backwards=backwards
    )
    return [stored_detection(row) for row in await connection.fetch(statement, *values)]


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


async def find_contested(connection: Connection, detections: Sequence[UUID]) -> set[UUID]:
    """Those of detections on which people disagree: each person's last label counts."""
    rows = await connection.fetch(
        """
        SELECT detection_id FROM (
            SELECT DISTINCT ON (detection_id, author) detection_id, label FROM labels
            WHERE detection_id = ANY($1) ORDER BY detection_id, author, id DESC
        ) said
        WHERE label IS NOT NULL GROUP BY detection_id HAVING count(DISTINCT label) > 1
        """,
        detections,
    )
    return {row["detection_id"] for row in rows}


async def places_of_run(
    connection: Connection, run_id: UUID, limit: int
) -> list[tuple[float, float]]:
    """Where the most confident detections of a run lie: x and y in pixels."""
    rows = await connection.fetch(
        "SELECT x, y FROM detections WHERE run_id = $1 AND x IS NOT NULL AND y IS NOT NULL"
        " ORDER BY rank LIMIT $2",
        *(run_id, limit),
    )
    return [(row["x"], row["y"]) for row in rows]


async def pictured(connection: Connection, run_id: UUID) -> set[UUID]:
    """The detections of a run that a cut-out is kept of."""
    rows = await connection.fetch(
        "SELECT c.detection_id FROM cutouts c JOIN detections d ON d.id = c.detection_id"
        " WHERE d.run_id = $1",
        run_id,
    )
    return {row["detection_id"] for row in rows}
