"""What PostgreSQL's errors are to a caller. A pool that fails stands in for rare ones."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.storage.database import Database


class Pool:
    """Gives a connection whose transaction fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @asynccontextmanager
    async def acquire(self, timeout: float) -> Any:
        yield self

    @asynccontextmanager
    async def transaction(self) -> Any:
        yield self
        raise self._error


async def _refuse() -> Any:
    raise asyncpg.TooManyConnectionsError("sorry, too many clients already")


async def test_who_connects_must_be_answered_if_only_with_a_refusal():
    await Database(Pool(OSError()), 1.0, _refuse).check_connecting(30.0)  # type: ignore[arg-type]
    silent = Database(Pool(OSError()), 1.0, asyncio.Event().wait)  # type: ignore[arg-type]
    with pytest.raises(DependencyError, match="nobody who connects is answered"):
        await silent.check_connecting(0.01)


async def commit(error: Exception) -> None:
    async with Database(Pool(error), 1.0, _refuse).transaction():  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 15"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.DiskFullError("no space left on device"),
        asyncpg.PostgresIOError("could not read block 7"),
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        ConnectionResetError("connection reset by peer"),
        TimeoutError(),
    ],
)
async def test_its_own_trouble_is_a_broken_dependency(error: Exception) -> None:
    with pytest.raises(DependencyError, match="postgresql"):
        await commit(error)


async def test_a_missing_table_names_the_remedy() -> None:
    with pytest.raises(DependencyError, match="gateway migrate"):
        await commit(asyncpg.UndefinedTableError('relation "runs" does not exist'))


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.PostgresSyntaxError("syntax error"),
        asyncpg.CheckViolationError("violates a check constraint"),
        asyncpg.NumericValueOutOfRangeError("integer out of range"),
    ],
)
async def test_a_wrong_statement_is_ours(error: Exception) -> None:
    with pytest.raises(type(error)):
        await commit(error)
