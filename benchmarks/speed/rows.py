"""How fast detections are stored: the project's own insert, beside a bare COPY of the same rows."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from astrotriton.gateway.storage.detections import insert_detections
from astrotriton.wire.detections import ScoredDetection
from astrotriton.wire.runs import InferResponse
from benchmarks.speed.figures import Spread, turned

ROWS = 10_000
# No run has this many sources, so that no rank is taken.
_FIRST_RANK = 1_000_000


def copy_vs_bare(database_url: str, answer: bytes, rounds: int) -> Spread:
    """Rows a second of the insert, over those of COPY given the rows as they are stored.

    Both go into the table as it is, with its indexes, and are rolled back.

    Parameters
    ----------
    answer
        Of the gateway to an exposure, as JSON; its detections are repeated under new ids.
    """
    return asyncio.run(_measure(database_url, answer, rounds))


async def _measure(database_url: str, answer: bytes, rounds: int) -> Spread:
    run = msgspec.json.decode(answer, type=InferResponse)
    connection = await asyncpg.connect(database_url)
    try:
        known = {
            row["id"]: row["features"]
            for row in await connection.fetch(
                "SELECT id, features FROM detections WHERE run_id = $1", run.run_id
            )
        }
        # One that was merged would need the row that it was merged into.
        own = [one for one in run.detections if one.merged_into is None]
        found = []
        for number in range(rounds):
            chosen = [own[row % len(own)] for row in range(ROWS)]
            detections = [
                msgspec.structs.replace(
                    one, id=uuid7(), rank=_FIRST_RANK + row, candidate_id=f"candidate {row}"
                )
                for row, one in enumerate(chosen)
            ]
            features = [known[one.id] for one in chosen]
            ways = [
                _ours(connection, run.run_id, detections, features),
                await _bare(connection, run.run_id, detections, features),
            ]
            took = [await _seconds(connection, way) for way in turned(ways, number)]
            ours, bare = turned(took, number)
            found.append(bare / ours)
    finally:
        await connection.close()
    return Spread.of(found)


Insert = Callable[[], Awaitable[object]]


def _ours(
    connection: asyncpg.Connection,
    run_id: UUID,
    detections: list[ScoredDetection],
    features: list[list[float] | None],
) -> Insert:
    return lambda: insert_detections(connection, run_id, detections, features)


async def _bare(
    connection: asyncpg.Connection,
    run_id: UUID,
    detections: list[ScoredDetection],
    features: list[list[float] | None],
) -> Insert:
    """COPY of what the project's own insert has stored."""
    change = connection.transaction()
    await change.start()
    await insert_detections(connection, run_id, detections, features)
    stored = await connection.fetch(
        "SELECT * FROM detections WHERE run_id = $1 AND rank >= $2", run_id, _FIRST_RANK
    )
    await change.rollback()
    columns = list(stored[0].keys())
    records: list[tuple[Any, ...]] = [tuple(row) for row in stored]
    return lambda: connection.copy_records_to_table("detections", columns=columns, records=records)


async def _seconds(connection: asyncpg.Connection, insert: Insert) -> float:
    change = connection.transaction()
    await change.start()
    try:
        began = time.perf_counter()
        await insert()
        return time.perf_counter() - began
    finally:
        await change.rollback()
