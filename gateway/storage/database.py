"""Connections to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.settings import GatewaySettings

DEPENDENCY = "postgresql"

Connection = PoolConnectionProxy | asyncpg.Connection

# What says that a statement of ours is wrong. All else that PostgreSQL says is about itself: that
# it is full, starts, stops, has failed to read its disk, or has given way to another transaction.
_OURS = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.FeatureNotSupportedError,
)
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresError,
)


class Database:
    """A pool of connections, opened when first used, so that the service starts without PostgreSQL.

    Parameters
    ----------
    pool
        Where connections come from.
    timeout
        Seconds to wait for one.
    connect
        Opens one outside the pool.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        timeout: float,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
    ) -> None:
        self._pool = pool
        self._timeout = timeout
        self._connect = connect

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction, committed unless the block raises.

        Raises
        ------
        DependencyError
            If PostgreSQL is away, refuses, or has no tables yet.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection on which every statement is a transaction of its own.

        Raises
        ------
        DependencyError
            As `transaction` does.
        """
        try:
            async with self._pool.acquire(timeout=self._timeout) as connection:
                yield connection
        except asyncpg.UndefinedTableError as error:
            remedy = "run `python -m astrotriton.gateway migrate`"
            raise DependencyError(DEPENDENCY, f"{error}: {remedy}") from error
        except _OURS:
            raise
        except _AWAY as error:
            detail = str(error) or type(error).__name__
            raise DependencyError(DEPENDENCY, detail) from error

    async def check_connecting(self, seconds: float) -> None:
        """See whether PostgreSQL still answers those who connect, which no pool can tell.

        A refusal is an answer: what it means for runs, the connections of the pool tell.

        Raises
        ------
        DependencyError
            If it has said nothing in so many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                await (await self._connect()).close()
        except TimeoutError as error:
            detail = f"nobody who connects is answered within {seconds:g} s"
            raise DependencyError(DEPENDENCY, detail) from error
        except _AWAY:
            return


@asynccontextmanager
async def open_database(settings: GatewaySettings) -> AsyncIterator[Database]:
    """The database of the settings, until the block ends."""
    url = settings.database_url.get_secret_value()
    named = {"application_name": "astrotriton-gateway"}

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, server_settings=named)

    async with asyncpg.create_pool(
        url,
        min_size=0,
        max_size=settings.database_pool_size,
        timeout=settings.database_timeout,
        command_timeout=settings.database_timeout,
        statement_cache_size=settings.statement_cache_size,
        # Nothing outlives a transaction here, so there is nothing to ask the server to undo.
        reset=_nothing,
        server_settings=named,
    ) as pool:
        yield Database(pool, settings.database_timeout, connect)


async def _nothing(connection: Connection) -> None:
    pass
