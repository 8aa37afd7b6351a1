"""The table `runs`: one row for each exposure scored."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec
from asyncpg import Record

from astrotriton.gateway.storage.database import Connection
from astrotriton.gateway.storage.healpix import enclosing
from astrotriton.wire.confidence import Guarantee, Prevalence
from astrotriton.wire.detections import ScoredDetection
from astrotriton.wire.exposures import ExposureInfo, ImageQuality, Observation
from astrotriton.wire.models import ModelRef
from astrotriton.wire.runs import InferResponse

_QUALITY = ImageQuality.__struct_fields__
_OBSERVATION = Observation.__struct_fields__
#: The columns that `exposure_of` reads.
EXPOSURE = ("exposure_name", "exposure_hdu", "exposure_digest", "height", "width", *_OBSERVATION)
_COLUMNS = (
    "id",
    "model_id",
    *EXPOSURE,
    *_QUALITY,
    "tiles",
    "threshold",
    "tta",
    "guarantee",
    "prevalence",
    "extracted",
    "flags",
    "detections",
    "created_at",
    "caller",
    "sky_ra",
    "sky_dec",
    "sky_radius",
)
_INSERT = (
    f"INSERT INTO runs ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join(f'${i}' for i in range(1, len(_COLUMNS) + 1))})"
)


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A complete run, with counts in place of its detections."""

    run_id: UUID
    created_at: datetime
    model: ModelRef
    exposure: ExposureInfo
    image: ImageQuality
    tiles: int
    threshold: float
    tta: bool
    guarantee: Guarantee | None
    prevalence: Prevalence | None
    extracted: bool
    flags: tuple[str, ...]
    detections: int
    real: int
    labelled: int


async def insert_run(
    connection: Connection, model_id: UUID, run: InferResponse, caller: str
) -> None:
    """Add a run of a caller's, without its detections."""
    await insert_runs(connection, model_id, [run], caller)


async def insert_runs(
    connection: Connection, model_id: UUID, runs: Iterable[InferResponse], caller: str
) -> None:
    """Add runs of a caller's by one version, without their detections."""
    await connection.executemany(_INSERT, [_values(model_id, run, caller) for run in runs])


def _values(model_id: UUID, run: InferResponse, caller: str) -> tuple[object, ...]:
    placed = [(d.ra, d.dec) for d in run.detections if d.ra is not None and d.dec is not None]
    circle = enclosing([ra for ra, _ in placed], [dec for _, dec in placed])
    return (
        run.run_id,
        model_id,
        run.exposure.name,
        run.exposure.hdu,
        run.exposure.digest,
        run.exposure.height,
        run.exposure.width,
        *(getattr(run.exposure, name) for name in _OBSERVATION),
        *(getattr(run.image, name) for name in _QUALITY),
        run.tiles,
        run.threshold,
        run.tta,
        *(
            None if one is None else msgspec.json.encode(one).decode()
            for one in (run.guarantee, run.prevalence)
        ),
        run.extracted,
        run.flags,
        len(run.detections),
        run.created_at,
        caller,
        *(circle or (None, None, None)),
    )


async def find_caller(connection: Connection, run_id: UUID) -> str | None:
    """Whose a run is, complete or in the background; None if nobody's is known under that id."""
    found: str | None = await connection.fetchval(
        """
        SELECT coalesce((SELECT caller FROM jobs WHERE id = $1),
                        (SELECT caller FROM runs WHERE id = $1))
        """,
        run_id,
    )
    return found


async def find_run(connection: Connection, run_id: UUID) -> InferResponse | None:
    """A run as it was answered; None if none of that id is complete."""
    row = await connection.fetchrow(
        """
        SELECT r.*, m.name AS model_name, m.version AS model_version, m.digest AS model_digest
        FROM runs r JOIN models m ON m.id = r.model_id
        WHERE r.id = $1
        """,
        run_id,
    )
    if row is None:
        return None
    columns = ", ".join(ScoredDetection.__struct_fields__)
    detections = await connection.fetch(
        f"SELECT {columns} FROM detections WHERE run_id = $1 ORDER BY rank", run_id
    )
    return msgspec.convert(
        {
            **row,
            "run_id": row["id"],
            "model": model_of(row),
            "exposure": exposure_of(row),
            "image": {name: row[name] for name in _QUALITY},
            "guarantee": guarantee_of(row),
            "prevalence": prevalence_of(row),
            "detections": [dict(detection) for detection in detections],
        },
        InferResponse,
    )


def model_of(row: Record) -> dict[str, object]:
    """The model version of a joined row."""
    return {field: row[f"model_{field}"] for field in ("name", "version", "digest")}


def exposure_of(row: Record) -> dict[str, object]:
    """The exposure of a joined row."""
    return {
        "name": row["exposure_name"],
        "hdu": row["exposure_hdu"],
        "height": row["height"],
        "width": row["width"],
        "digest": row["exposure_digest"],
    } | {name: row[name] for name in _OBSERVATION}


def guarantee_of(row: Record) -> object:
    """What was promised of a run's detections."""
    return None if row["guarantee"] is None else msgspec.json.decode(row["guarantee"])


def prevalence_of(row: Record) -> object:
    """The share of real sources that a run's confidences hold for, if not the calibration's."""
    return None if row["prevalence"] is None else msgspec.json.decode(row["prevalence"])


async def list_runs(
    connection: Connection, run_id: UUID | None, after: UUID | None, limit: int
) -> list[RunSummary]:
    """The newest complete runs, from one on.

    Parameters
    ----------
    run_id
        The only one that is wanted; None: any.
    after
        The last run of the page before.
    """
    rows = await connection.fetch(
        """
        SELECT r.*, m.name AS model_name, m.version AS model_version, m.digest AS model_digest,
            found.real, found.labelled
        FROM (
            SELECT * FROM runs
            WHERE ($1::uuid IS NULL OR id = $1) AND ($2::uuid IS NULL OR id < $2)
            ORDER BY id DESC LIMIT $3
        ) r
        JOIN models m ON m.id = r.model_id
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE is_real) AS real, count(label) AS labelled
            FROM detections WHERE run_id = r.id
        ) found
        ORDER BY r.id DESC
        """,
        *(run_id, after, limit),
    )
    return [
        msgspec.convert(
            {
                **row,
                "run_id": row["id"],
                "model": model_of(row),
                "exposure": exposure_of(row),
                "image": {name: row[name] for name in _QUALITY},
                "guarantee": guarantee_of(row),
                "prevalence": prevalence_of(row),
            },
            RunSummary,
        )
        for row in rows
    ]
