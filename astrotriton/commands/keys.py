"""API keys of the gateway."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import asyncpg
import click

from astrotriton.cli import fail
from astrotriton.folders import data_folder
from astrotriton.gateway.keys import SCOPES, Scope, new_key
from astrotriton.gateway.storage import api_keys

_T = TypeVar("_T")


@click.group()
def keys() -> None:
    """Create, list and revoke API keys of the gateway.

    The database is ASTROTRITON_DATABASE_URL's or, without it, that of the stack that `up` started.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What the key allows; several may be given.",
)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="Until it expires."
)
@click.option("--rate", type=click.IntRange(1), help="Requests a minute, instead of the default.")
@click.option(
    "--concurrency", type=click.IntRange(1), help="Exposures at a time, instead of the default."
)
def create(
    name: str, scopes: tuple[Scope, ...], days: int, rate: int | None, concurrency: int | None
) -> None:
    """Create a key and print it. It is shown this once: only its hash is kept."""
    key = new_key(
        name,
        sorted(set(scopes)),
        expires_at=datetime.now(UTC) + timedelta(days=days),
        rate_per_minute=rate,
        concurrency=concurrency,
    )
    _run(lambda connection: api_keys.insert_key(connection, key))
    click.echo(f"key {key.id} for {name}, {', '.join(key.scopes)}, for {days} days", err=True)
    click.echo(key.token)


@keys.command("list")
def list_() -> None:
    """Every key, the newest first."""
    for row in _run(api_keys.list_keys):
        state = "revoked" if row["revoked_at"] else "valid"
        if state == "valid" and row["expires_at"] and row["expires_at"] <= datetime.now(UTC):
            state = "expired"
        until = f"{row['expires_at']:%Y-%m-%d}" if row["expires_at"] else "-"
        click.echo(
            f"{row['id']}  {state:<7}  {until:<10}  {','.join(row['scopes'])}  {row['name']}"
        )


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Revoke a key, at once and for good."""
    if not _run(lambda connection: api_keys.revoke_key(connection, key_id)):
        fail("keys", f"no key has the id {key_id!r}")
    click.echo(f"key {key_id} is revoked")


def _run(work: Callable[[asyncpg.Connection], Awaitable[_T]]) -> _T:
    """Do something with a connection to the database."""

    async def connected() -> _T:
        connection = await _connect()
        try:
            return await work(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(connected())
    except asyncpg.UndefinedTableError as error:
        fail("keys", f"{error}: run `python -m astrotriton.gateway migrate`")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        fail("keys", f"postgresql: {error}")


async def _connect() -> asyncpg.Connection:
    url = os.environ.get("ASTROTRITON_DATABASE_URL")
    if url is None:
        from astrotriton import stack  # the database's own URL is enough where there is no stack

        addresses = stack.running(data_folder())
        if addresses is None:
            fail("keys", "set ASTROTRITON_DATABASE_URL, or start a stack with `astrotriton up`")
        url = addresses.database_url
    return await asyncpg.connect(url, statement_cache_size=0)
