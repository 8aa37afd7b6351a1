"""Parts that hang instead of ending: whoever asks whether the gateway is ready is told at once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from tests.integration.gateway_parts import exposure, infer, npy, serve

pytestmark = pytest.mark.faults

# Seconds for an answer: fewer than a statement, a connection or a tile may take in all.
PATIENCE = 15.0

# Connections of the gateway: the outbox and others may hold some of those that hang.
POOL = 4
OPEN = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'astrotriton-gateway' AND datname = current_database()
"""


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that do nothing while the block runs, and go on afterwards."""
    try:
        signal_all(pids, signal.SIGSTOP)
        yield
    finally:
        signal_all(pids, signal.SIGCONT)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        # PostgreSQL ends a worker whenever it likes.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.fixture
async def client(settings, connection) -> AsyncIterator[httpx.AsyncClient]:
    """Of a gateway that has opened its connections, and whose last golden tile counts for long."""
    changes = {"probe_interval": 600.0, "database_pool_size": POOL}
    async with serve(settings.model_copy(update=changes)) as client:
        assert (await infer(client, npy(exposure()))).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200
        while len(await connection.fetch(OPEN)) < POOL:
            await asyncio.gather(*(client.get("/detections/") for _ in range(4 * POOL)))
        yield client


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def unready_part(client: httpx.AsyncClient) -> tuple[str, str]:
    """The one part that is not ready, and what is said of it."""
    async with asyncio.timeout(PATIENCE):
        while (answer := await client.get("/health/ready", timeout=PATIENCE)).status_code == 200:
            await asyncio.sleep(0.1)
    assert answer.status_code == 503, answer.text
    ((name, part),) = [
        (name, part) for name, part in answer.json()["parts"].items() if not part["ready"]
    ]
    in_detail = await client.get("/health/dependencies", timeout=2 * PATIENCE)
    assert not in_detail.json()["parts"][name]["ready"]
    return name, part["detail"]


async def until_ready(client: httpx.AsyncClient) -> None:
    while (await client.get("/health/ready")).status_code != 200:
        pass
    assert (await infer(client, npy(exposure()))).status_code == 200


async def test_a_triton_that_hangs_is_named(client, triton):
    with stopped(triton.pid):
        name, detail = await unready_part(client)
        assert name == "model"
        assert triton.address in detail
        assert "no answer within" in detail
    await until_ready(client)


async def test_a_postgresql_whose_backends_hang_is_named(client, connection):
    rows = await connection.fetch(OPEN)
    with stopped(*(row["pid"] for row in rows)):
        name, detail = await unready_part(client)
        assert (name, detail) == ("database", "postgresql: no answer within 3 s")
    await until_ready(client)


async def test_a_postgresql_that_lets_nobody_in_is_named(client, connection):
    folder = Path(await connection.fetchval("SHOW data_directory"))
    postmaster = int((folder / "postmaster.pid").read_text().split()[0])
    with stopped(postmaster):
        name, detail = await unready_part(client)
        assert name == "database"
        assert "nobody who connects is answered" in detail
    await until_ready(client)


async def test_a_postgresql_that_hangs_as_a_whole_is_named(client, connection):
    folder = Path(await connection.fetchval("SHOW data_directory"))
    postmaster = int((folder / "postmaster.pid").read_text().split()[0])
    children = psutil.Process(postmaster).children(recursive=True)
    with stopped(postmaster, *(child.pid for child in children)):
        name, detail = await unready_part(client)
        assert (name, detail) == ("database", "postgresql: no answer within 3 s")
    await until_ready(client)
