"""What a handler needs to know of its caller."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from astrotriton.gateway.context import Context
from astrotriton.gateway.keys import Scope
from astrotriton.gateway.services.access import Identity


def requires(*scopes: Scope) -> dict[str, Any]:
    """Options of a handler whose callers need one of the scopes, as the OpenAPI document says."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        context: Context = connection.app.state.context
        connection.state.identity = await context.access.admit(
            connection.headers.get("authorization"), *scopes
        )

    guards: list[Guard] = [guard]
    return {"guards": guards, "security": [{"bearer": [scope]} for scope in scopes]}


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Identity:
    """Who asks, after the guard."""
    identity: Identity = connection.state.identity
    return identity
