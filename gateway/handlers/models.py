"""Which versions of a model answer."""

from litestar import Controller, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from gateway.context import Context
from gateway.handlers.access import requires
from gateway.openapi import problems
from gateway.schemas import ModelInfo, Route, RouteIn


class ModelController(Controller):
    """Models and their routes."""

    path = "/models"
    tags = ("models",)

    @get(
        "/",
        summary="Every version",
        operation_id="list_models",
        responses=problems(401, 403, 429, 503),
        **requires("read"),
    )
    async def list_models(self, context: NamedDependency[Context]) -> list[ModelInfo]:
        """The versions that have answered, and those that Triton serves; without their cards."""
        return await context.catalogue.all()

    @get(
        "/{model_id:str}",
        summary="One version",
        operation_id="get_model",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def get_model(
        self, model_id: FromPath[str], context: NamedDependency[Context]
    ) -> ModelInfo:
        """A version and its card, by UUID, `NAME:VERSION` or `NAME@champion`."""
        return await context.catalogue.get(model_id)

    @get(
        "/{name:str}/route",
        summary="Which versions answer",
        operation_id="get_route",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def get_route(self, name: FromPath[str], context: NamedDependency[Context]) -> Route:
        """The route of a model. Without one, the gateway's settings choose the version."""
        return await context.routing.get(name)

    @put(
        "/{name:str}/route",
        summary="Choose which versions answer",
        operation_id="put_route",
        responses=problems(401, 403, 404, 409, 422, 429, 503),
        **requires("admin"),
    )
    async def put_route(
        self, name: FromPath[str], data: JSONBody[RouteIn], context: NamedDependency[Context]
    ) -> Route:
        """Sets the route of a model, once every version in it has answered its golden tile.

        Every instance of every Triton is asked. When this answers, no run of a version that the
        route leaves out is stored any more; those that had begun begin again with the champion.
        Another champion than before is told as a CloudEvent `model.promoted`.
        """
        return await context.routing.change(name, data)
