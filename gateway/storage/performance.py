"""The tables `performance` and `triton_statistics`: what was measured, minute by minute."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

import msgspec

from astrotriton.gateway.observability.sketches import Sketch
from astrotriton.gateway.storage.database import Connection


class MeasuredMinute(NamedTuple):
    """What one gateway measured in one minute; a later one of the same replaces it."""

    minute: datetime
    version: int
    measure: str
    bins: list[int]
    counts: list[int]
    total: float


class Counted(NamedTuple):
    """What one Triton has counted since it started."""

    server: str
    taken_at: datetime
    counts: dict[str, int]


async def store_measured(
    connection: Connection, gateway: UUID, name: str, measured: Sequence[MeasuredMinute]
) -> None:
    """Add or replace what a gateway measured."""
    await connection.executemany(
        """
        INSERT INTO performance (
            gateway, model_name, minute, model_version, measure, bins, counts, total
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (model_name, model_version, minute, measure, gateway) DO UPDATE
            SET bins = excluded.bins, counts = excluded.counts, total = excluded.total
        """,
        [(gateway, name, *one) for one in measured],
    )


async def find_measured(
    connection: Connection, name: str, version: int, since: datetime, until: datetime
) -> dict[str, Sketch]:
    """What all gateways measured together, by measure."""
    rows = await connection.fetch(
        """
        SELECT measure, bin, sum(count)::bigint AS count
        FROM performance, unnest(bins, counts) AS counted (bin, count)
        WHERE model_name = $1 AND model_version = $2 AND minute >= $3 AND minute < $4
        GROUP BY measure, bin
        """,
        *(name, version, since, until),
    )
    totals = await connection.fetch(
        """
        SELECT measure, sum(total) AS total FROM performance
        WHERE model_name = $1 AND model_version = $2 AND minute >= $3 AND minute < $4
        GROUP BY measure
        """,
        *(name, version, since, until),
    )
    found = {row["measure"]: Sketch(total=row["total"]) for row in totals}
    for row in rows:
        if row["measure"] in found:
            found[row["measure"]].counts[row["bin"]] = row["count"]
    return found


async def find_series(
    connection: Connection,
    name: str,
    version: int,
    since: datetime,
    until: datetime,
    step: timedelta,
) -> dict[datetime, dict[str, Sketch]]:
    """The runs and errors of all gateways together, by steps of time from ``since`` on."""
    rows = await connection.fetch(
        """
        SELECT date_bin($5, minute, $3) AS step, measure, bin, sum(count)::bigint AS count
        FROM performance, unnest(bins, counts) AS counted (bin, count)
        WHERE model_name = $1 AND model_version = $2 AND minute >= $3 AND minute < $4
            AND (measure = 'request' OR measure LIKE 'error.%')
        GROUP BY 1, measure, bin
        """,
        *(name, version, since, until, step),
    )
    found: dict[datetime, dict[str, Sketch]] = {}
    for row in rows:
        sketch = found.setdefault(row["step"], {}).setdefault(row["measure"], Sketch())
        sketch.counts[row["bin"]] = row["count"]
    return found


async def store_counted(
    connection: Connection, name: str, version: int, counted: Sequence[Counted]
) -> None:
    """Add what Tritons have counted; of each minute the first and the last count are kept."""
    await connection.executemany(
        """
        INSERT INTO triton_statistics (
            model_name, model_version, server, taken_at, minute, first, last
        ) VALUES ($1, $2, $3, $4, date_trunc('minute', $4::timestamptz), $5, $5)
        ON CONFLICT (model_name, model_version, minute, server) DO UPDATE
            SET taken_at = excluded.taken_at, last = excluded.last
            WHERE excluded.taken_at > triton_statistics.taken_at
        """,
        [
            (name, version, one.server, one.taken_at, msgspec.json.encode(one.counts).decode())
            for one in counted
        ],
    )


async def find_counted(
    connection: Connection, name: str, version: int, since: datetime, until: datetime
) -> list[tuple[str, dict[str, int]]]:
    """The counts of every server in the order of time; of each the last before ``since`` too."""
    rows = await connection.fetch(
        """
        SELECT server, first, last FROM triton_statistics
        WHERE model_name = $1 AND model_version = $2 AND minute < $4
            AND minute >= coalesce(
                (SELECT max(minute) FROM triton_statistics
                 WHERE model_name = $1 AND model_version = $2 AND minute < $3), $3)
        ORDER BY server, taken_at
        """,
        *(name, version, since, until),
    )
    return [
        (row["server"], msgspec.json.decode(row[which]))
        for row in rows
        for which in ("first", "last")
    ]


async def forget_measured(connection: Connection, older: timedelta) -> None:
    """Delete what is older."""
    for table in ("performance", "triton_statistics"):
        await connection.execute(f"DELETE FROM {table} WHERE minute < now() - $1::interval", older)


async def confidences_of_labelled(
    connection: Connection, name: str, version: int, since: datetime, until: datetime
) -> list[tuple[float, bool, str]]:
    """Confidence, verdict and label of the detections that people said something definite of."""
    rows = await connection.fetch(
        """
        SELECT d.confidence, d.is_real, d.label FROM detections d
        JOIN runs r ON r.id = d.run_id JOIN models m ON m.id = r.model_id
        WHERE d.label IN ('real', 'artefact') AND d.confidence IS NOT NULL
            AND m.name = $1 AND m.version = $2 AND r.created_at >= $3 AND r.created_at < $4
        """,
        *(name, version, since, until),
    )
    return [(row["confidence"], row["is_real"], row["label"]) for row in rows]


def difference(counted: Sequence[tuple[str, dict[str, int]]]) -> dict[str, int]:
    """What servers have counted between their first and their last count, summed over them.

    A count that is lower than the one before is of a server that was started anew in between.
    """
    total: dict[str, int] = {}
    for (server, before), (same, after) in pairwise(counted):
        if server != same:
            continue
        fresh = after.get("requests", 0) < before.get("requests", 0)
        for key, value in after.items():
            total[key] = total.get(key, 0) + value - (0 if fresh else before.get(key, 0))
    return total
