"""What the events that the gateway publishes look like."""

from typing import Any

from litestar import Router, get
from litestar.handlers import HTTPRouteHandler

from astrotriton.wire.events import EVENTS, schema_of


def event_schemas() -> Router:
    """The JSON Schema of each type of event, where its ``dataschema`` says."""
    return Router("/schema/events", route_handlers=[_schema(kind) for kind in EVENTS])


def _schema(kind: str) -> HTTPRouteHandler:
    @get(f"/{kind}.json", include_in_schema=False, media_type="application/schema+json")
    async def schema() -> dict[str, Any]:
        return schema_of(kind)

    return schema
