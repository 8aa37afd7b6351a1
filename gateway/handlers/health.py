"""Whether the service lives, and whether it can work."""

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from astrotriton.gateway.context import Context
from astrotriton.gateway.handlers.access import requires
from astrotriton.gateway.http.openapi import problems
from astrotriton.wire.health import Health


@get("/metrics", include_in_schema=False)
async def metrics() -> Response[bytes]:
    """Metrics, for Prometheus."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


class HealthController(Controller):
    """For orchestrators and people."""

    path = "/health"
    tags = ("health",)

    @get(
        "/live",
        summary="Whether the process lives",
        operation_id="live",
        responses=problems(),
    )
    async def live(self) -> Health:
        """Answers as long as the process does, whatever becomes of the parts it depends on."""
        return Health(status="live")

    @get(
        "/ready",
        summary="Whether exposures can be scored",
        operation_id="ready",
        responses=problems()
        | {503: ResponseSpec(Health, description="A part is not ready; it is named.")},
    )
    async def ready(self, context: NamedDependency[Context]) -> Response[Health]:
        """Ask the database for its schema and the model for its golden tile.

        Ready means two things: the database has the schema that this code expects, and the served
        model has lately answered a golden tile as the network did before it was exported. An
        answer counts for `probe_interval`, unless a request fails meanwhile, and behind a slow
        probe for up to 15 s more. Each time, Triton and PostgreSQL must give a sign of life
        besides; one that gives none within 3 s is named.
        """
        health = await context.health.ready()
        return Response(health, status_code=200 if health.status == "ready" else 503)

    @get(
        "/dependencies",
        summary="Every part in detail",
        operation_id="dependencies",
        responses=problems(401, 403, 429, 503),
        **requires("read"),
    )
    async def detail(self, context: NamedDependency[Context]) -> Health:
        """The parts that the service needs, each Triton, and what waits to be told on NATS."""
        return await context.health.dependencies()
