"""The table `routes`: which versions of a model answer."""

from typing import Literal

import msgspec
from asyncpg import Record

from astrotriton.gateway.storage.database import Connection
from astrotriton.wire.models import Challenger, Route, RouteIn

_COLUMNS = """
    model_name, champion, challenger, challenger_mode, challenger_fraction, previous_champion,
    updated_at
"""
_READ = f"{_COLUMNS}, prevalence"
_AUTOMATIC = """
    EXISTS (
        SELECT FROM canaries
        WHERE canaries.model_name = routes.model_name AND status = 'running'
    ) AS automatic
"""


async def find_route(connection: Connection, name: str) -> Route | None:
    """The route of a model; None if it has none."""
    row = await connection.fetchrow(
        f"SELECT {_READ}, {_AUTOMATIC} FROM routes WHERE model_name = $1", name
    )
    return _route(row)


async def hold_route(connection: Connection, name: str) -> Route | None:
    """The route of a model, which nobody changes until the transaction ends.

    The lock is on the name, so that a first route does not come in between either.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock_shared(hashtextextended('route ' || $1, 0))", name
    )
    return await find_route(connection, name)


async def change_route(connection: Connection, name: str, new: RouteIn) -> tuple[Route, bool]:
    """Set the route of a model, once the runs being stored are stored.

    Returns
    -------
    The route, and whether its champion is another than before.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('route ' || $1, 0))", name
    )
    old = await find_route(connection, name)
    promoted = old is None or old.champion != new.champion
    previous = None
    if old is not None:
        previous = old.champion if promoted else old.previous_champion
    trial = new.challenger
    row = await connection.fetchrow(
        f"""
        INSERT INTO routes ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
        ON CONFLICT (model_name) DO UPDATE SET
            champion = excluded.champion,
            challenger = excluded.challenger,
            challenger_mode = excluded.challenger_mode,
            challenger_fraction = excluded.challenger_fraction,
            previous_champion = excluded.previous_champion,
            updated_at = excluded.updated_at
        RETURNING {_READ}, {_AUTOMATIC}
        """,
        name,
        new.champion,
        trial and trial.version,
        trial and trial.mode,
        trial and trial.fraction,
        previous,
    )
    route = _route(row)
    assert route is not None
    return route, promoted


async def set_prevalence(
    connection: Connection, name: str, prevalence: float | Literal["estimated"] | None
) -> Route | None:
    """State the share of real sources of a route; None if the model has no route."""
    row = await connection.fetchrow(
        f"""
        UPDATE routes SET prevalence = $2, updated_at = clock_timestamp() WHERE model_name = $1
        RETURNING {_READ}, {_AUTOMATIC}
        """,
        name,
        None if prevalence is None else msgspec.json.encode(prevalence).decode(),
    )
    return _route(row)


def _route(row: Record | None) -> Route | None:
    if row is None:
        return None
    trial = None
    if row["challenger"] is not None:
        trial = Challenger(
            version=row["challenger"],
            mode=row["challenger_mode"],
            fraction=row["challenger_fraction"],
            automatic=row["automatic"],
        )
    return Route(
        name=row["model_name"],
        champion=row["champion"],
        challenger=trial,
        previous_champion=row["previous_champion"],
        prevalence=None if row["prevalence"] is None else msgspec.json.decode(row["prevalence"]),
        updated_at=row["updated_at"],
    )
