"""Queries over very many stored detections."""

import asyncio
import io
import statistics
import time
from collections.abc import Sequence

import asyncpg
import httpx
import msgspec
import numpy as np

from astrotriton.gateway.storage.healpix import cells
from astrotriton.gateway.storage.listing import Filter, listing
from benchmarks.speed.networks import Served

STEPS = (1_000_000, 3_000_000, 10_000_000)
_PER_RUN = 1_000
_CHUNK = 250_000
_ASKED = 25
_RADIUS = 0.1  # degrees
_LIMIT = 100

# As a binary COPY has a row: the number of its fields, then each with its length before it.
_ROW = np.dtype(
    [
        *(("fields", ">i2"), ("n4", ">i4"), ("number", ">i8"), ("n0", ">i4"), ("cell", ">i8")),
        *(("n1", ">i4"), ("ra", ">f8"), ("n2", ">i4"), ("dec", ">f8")),
        *(("n3", ">i4"), ("confidence", ">f8")),
    ]
)
_HEAD, _TAIL = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"

_QUERIES = {
    "cone": Filter(cone=(0.0, 0.0, _RADIUS)),
    "page": Filter(),
    "confidence": Filter(min_confidence=0.9),
}


class Queried(msgspec.Struct, frozen=True):
    """Median seconds of a query through the gateway, and the plan of its statement."""

    query: str
    stored: int
    seconds: float
    plan: list[str]


def grow_and_ask(served: Served, most: int) -> list[Queried]:
    """Fill the table of detections in steps, and ask the same at each.

    The gateway must have stored a run: its rows are the pattern of all others.

    Parameters
    ----------
    most
        The last step.
    """
    return asyncio.run(_grow_and_ask(served, [step for step in STEPS if step <= most]))


async def _grow_and_ask(served: Served, steps: Sequence[int]) -> list[Queried]:
    addresses = served.victim.addresses
    connection = await asyncpg.connect(addresses.database_url)
    rng = np.random.default_rng(1)
    places = [(float(ra), float(dec)) for ra, dec in zip(*_positions(rng, _ASKED), strict=True)]
    stored, found = 0, []
    try:
        await connection.execute(
            "CREATE TEMPORARY TABLE sky (number bigint, cell bigint,"
            " ra float8, dec float8, confidence float8)"
        )
        for step in steps:
            while stored < step:
                await _store(connection, rng, stored, min(_CHUNK, step - stored))
                stored += min(_CHUNK, step - stored)
            await connection.execute("VACUUM ANALYZE detections, runs")
            for name, wanted in _QUERIES.items():
                statement, values = listing(wanted, None, _LIMIT)
                plan = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}", *values)
                seconds = await asyncio.to_thread(_ask, addresses.gateway_url, name, places)
                found.append(Queried(name, step, seconds, [row[0] for row in plan]))
    finally:
        await connection.close()
    return found


def _ask(url: str, query: str, places: Sequence[tuple[float, float]]) -> float:
    took = []
    with httpx.Client(base_url=url, trust_env=False, timeout=60.0) as http:
        for ra, dec in places:
            asked: dict[str, float] = {"limit": _LIMIT}
            if query == "cone":
                asked |= {"ra": ra, "dec": dec, "radius": _RADIUS}
            elif query == "confidence":
                asked["min_confidence"] = 0.9
            began = time.perf_counter()
            http.get("/detections", params=asked).raise_for_status()
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def _positions(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Even over the sphere, ICRS degrees."""
    return rng.uniform(0.0, 360.0, count), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, count)))


def _packed(rng: np.random.Generator, first: int, count: int) -> bytes:
    """Rows for a binary COPY."""
    ra, dec = _positions(rng, count)
    rows = np.zeros(count, _ROW)
    rows["fields"] = 5
    for name in ("n0", "n1", "n2", "n3", "n4"):
        rows[name] = 8
    rows["number"] = np.arange(first, first + count)
    rows["cell"], rows["ra"], rows["dec"] = cells(ra.tolist(), dec.tolist()), ra, dec
    rows["confidence"] = rng.beta(0.3, 1.0, count)
    return _HEAD + rows.tobytes() + _TAIL


async def _store(
    connection: asyncpg.Connection, rng: np.random.Generator, first: int, count: int
) -> None:
    """Store detections like one that is there, in runs like the one that it is of."""
    await connection.execute("TRUNCATE sky")
    packed = await asyncio.to_thread(_packed, rng, first, count)
    await connection.copy_to_table("sky", source=io.BytesIO(packed), format="binary")
    # Version 7, of a time before any real one; numbers follow each other as ids made in time do.
    run = f"(lpad(to_hex(s.number / {_PER_RUN}), 12, '0') || '70008000000000000000')::uuid"
    own = "(lpad(to_hex(s.number), 12, '0') || '70008000000000000001')::uuid"
    pattern = "SELECT * FROM detections WHERE outcome = 'kept' AND ra IS NOT NULL LIMIT 1"
    runs = await _columns(connection, "runs", {"id": run})
    await connection.execute(
        f"INSERT INTO runs SELECT {runs} FROM (SELECT DISTINCT ON (number / {_PER_RUN}) number"
        f" FROM sky) s, (SELECT * FROM runs WHERE id = (SELECT run_id FROM ({pattern}) d)) t"
        " ON CONFLICT DO NOTHING"
    )
    detections = await _columns(
        connection,
        "detections",
        {
            "id": own,
            "run_id": run,
            "rank": f"s.number % {_PER_RUN} + 1",
            "candidate_id": f"(s.number % {_PER_RUN})::text",
            "cell": "s.cell",
            "ra": "s.ra",
            "dec": "s.dec",
            "confidence": "s.confidence",
            "is_real": "s.confidence > 0.5",
        },
    )
    await connection.execute(
        f"INSERT INTO detections SELECT {detections} FROM sky s, ({pattern}) t"
    )


async def _columns(connection: asyncpg.Connection, table: str, others: dict[str, str]) -> str:
    """A table's columns in their order, each the pattern's unless there is another."""
    names = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0"
        " AND NOT attisdropped ORDER BY attnum",
        table,
    )
    return ", ".join(others.get(row["attname"], f't."{row["attname"]}"') for row in names)
