"""Whether the service lives, and whether it can work."""

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from gateway.context import Context
from gateway.schemas import Health


class HealthController(Controller):
    """For orchestrators and people."""

    path = "/health"
    tags = ("health",)

    @get("/live", summary="Whether the process lives", operation_id="live")
    async def live(self) -> Health:
        """Answers as long as the process does, whatever becomes of the parts it depends on."""
        return Health(status="live")

    @get(
        "/ready",
        summary="Whether exposures can be scored",
        operation_id="ready",
        responses={503: ResponseSpec(Health, description="A part is not ready; it is named.")},
    )
    async def ready(self, context: NamedDependency[Context]) -> Response[Health]:
        """Ask the database for its schema and the model for its golden tile.

        Ready means two things: the database has the schema that this code expects, and the
        served model has just answered a golden tile as the network did before it was exported.
        """
        health = await context.health.ready()
        return Response(health, status_code=200 if health.status == "ready" else 503)
