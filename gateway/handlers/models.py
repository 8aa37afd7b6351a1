"""Which versions of a model answer, and how well they do."""

from typing import Annotated, Any

from litestar import Controller, Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import FromPath, JSONBody, QueryParameter

from astrotriton.gateway.context import Context
from astrotriton.gateway.handlers.access import caller_of, requires
from astrotriton.gateway.http.openapi import problems
from astrotriton.wire.agreement import Agreement
from astrotriton.wire.canary import Canary
from astrotriton.wire.drift import BaselineIn, DriftBaseline, DriftCheck
from astrotriton.wire.models import ModelInfo, PrevalenceIn, Route, RouteIn, RoutePrevalence
from astrotriton.wire.performance import Performance
from astrotriton.wire.validation import ValidateIn, Validation
from astrotriton.wire.windows import WINDOWS

Window = Annotated[
    str,
    QueryParameter(
        description="The time up to now: minutes, hours or days, 30 days at most.",
        examples=[Example(summary="A day", value="24h")],
        schema_extra={"pattern": WINDOWS},
    ),
]
_WITH = "The other version, as UUID, `NAME:VERSION` or `NAME@alias`."
Limit = Annotated[int, QueryParameter(ge=1, le=100)]


class ModelController(Controller):
    """Models, their routes, and how well they do."""

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
        responses=problems(401, 403, 404, 408, 409, 413, 429, 503),
        **requires("admin"),
    )
    async def put_route(
        self, name: FromPath[str], data: JSONBody[RouteIn], context: NamedDependency[Context]
    ) -> Route:
        """Sets the route of a model, once every version in it has answered its golden tile.

        Every instance of every Triton is asked. When this answers, no run of a version that the
        route leaves out is stored any more; those that had begun begin again with the champion.
        Another champion than before is told as a CloudEvent `model.promoted`.

        A challenger that is `automatic` begins at the first step of `canary_steps`, whatever
        fraction is asked for; `/models/{name}/canary` says how far it is. It ends with any other
        change of the route. To ask for it again changes nothing.
        """
        return await context.routing.change(name, data)

    @get(
        "/{name:str}/prevalence",
        summary="What share is real",
        operation_id="get_prevalence",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def get_prevalence(
        self, name: FromPath[str], context: NamedDependency[Context]
    ) -> RoutePrevalence:
        """The share of real sources that the route states, and what is estimated just now."""
        return await context.prevalence.get(name)

    @put(
        "/{name:str}/prevalence",
        summary="State what share is real",
        operation_id="put_prevalence",
        responses=problems(401, 403, 404, 408, 413, 422, 429, 503),
        **requires("admin"),
    )
    async def put_prevalence(
        self, name: FromPath[str], data: JSONBody[PrevalenceIn], context: NamedDependency[Context]
    ) -> RoutePrevalence:
        """Sets the share of real sources for runs whose request says none, from the next run on.

        Confidences, intervals and guarantees of such runs hold for it. Runs that are stored stay as
        they are. With `estimated`, the gateway estimates the share over the exposures that it has
        scored lately; while these are too few, runs hold for the share of the calibration, and are
        flagged `prevalence_not_used`. A change of the route leaves it as it is.
        """
        return await context.prevalence.set(name, data)

    @get(
        "/{name:str}/canary",
        summary="How far a canary is",
        operation_id="get_canary",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def get_canary(self, name: FromPath[str], context: NamedDependency[Context]) -> Canary:
        """The last canary that was to end by itself: its step, what was seen, and why it ended.

        Each step is told as a CloudEvent `model.canary`.
        """
        return await context.canary.get(name)

    @get(
        "/{model_id:str}/performance",
        summary="How a version does",
        operation_id="get_performance",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def performance(
        self,
        model_id: FromPath[str],
        context: NamedDependency[Context],
        window: Window = "1h",
    ) -> Performance:
        """Speed, errors, memory, accuracy, calibration, people's labels and drift.

        Added up over all gateways and Tritons. Each figure comes with its window, its count and its
        source; one that cannot be told is null, with the reason.
        """
        return await context.performance.get(model_id, window)

    @get(
        "/{model_id:str}/agreement",
        summary="How far two versions agree",
        operation_id="get_agreement",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def agreement(
        self,
        model_id: FromPath[str],
        compared: Annotated[str, QueryParameter(name="with", description=_WITH, max_length=200)],
        context: NamedDependency[Context],
        window: Window = "24h",
    ) -> Agreement:
        """What a version and another one made of the exposures that both have scored.

        These are the runs of a challenger in the shadow, and exposures that callers had scored by
        both, the newest 200.
        """
        return await context.agreement.get(model_id, compared, window)

    @post(
        "/{model_id:str}/validate",
        status_code=202,
        summary="Validate a version",
        operation_id="validate_model",
        responses=problems(401, 403, 404, 408, 413, 429, 503),
        **requires("admin"),
    )
    async def validate(
        self,
        model_id: FromPath[str],
        data: JSONBody[ValidateIn],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
    ) -> Response[Validation]:
        """Scores labelled exposures with a version as it is served, in the background.

        `Location` is where to ask for the figures and the gates. When they are there, a CloudEvent
        `model.validated` tells of it.
        """
        begun = await context.validations.start(model_id, data, caller_of(request).subject)
        return Response(begun, status_code=202, headers={"Location": f"/validations/{begun.id}"})

    @get(
        "/{model_id:str}/validations",
        summary="Validations of a version",
        operation_id="list_validations",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def validations(
        self, model_id: FromPath[str], context: NamedDependency[Context], limit: Limit = 20
    ) -> list[Validation]:
        """The newest first, those under way and those that failed too."""
        return await context.validations.of_model(model_id, limit)

    @post(
        "/{model_id:str}/drift",
        status_code=201,
        summary="Look for drift",
        operation_id="check_drift",
        responses=problems(401, 403, 404, 429, 503),
        **requires("admin"),
    )
    async def check_drift(
        self,
        model_id: FromPath[str],
        context: NamedDependency[Context],
        window: Window = "24h",
    ) -> Response[DriftCheck]:
        """Compares the exposures of a window with those that the version was measured on.

        The report is made afterwards: ask again where `Location` says. Drift that the look before
        did not find is told as a CloudEvent `model.drifted`.
        """
        check = await context.drift.check(model_id, window)
        return Response(check, status_code=201, headers={"Location": f"/drift/{check.id}"})

    @get(
        "/{model_id:str}/drift",
        summary="Looks for drift",
        operation_id="list_drift",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def list_drift(
        self, model_id: FromPath[str], context: NamedDependency[Context], limit: Limit = 20
    ) -> list[DriftCheck]:
        """The newest first, scheduled and asked for."""
        return await context.drift.of_model(model_id, limit)

    @put(
        "/{model_id:str}/drift/baseline",
        summary="Choose what is expected",
        operation_id="put_drift_baseline",
        responses=problems(401, 403, 404, 408, 409, 413, 429, 503),
        **requires("admin"),
    )
    async def accept(
        self,
        model_id: FromPath[str],
        data: JSONBody[BaselineIn],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
    ) -> DriftBaseline:
        """Compares a version with exposures of its own camera from now on.

        For a camera that is not like the exposures that the version was measured on and whose
        detections have been found good, by a validation for instance. The trend begins anew.
        """
        return await context.drift.accept(model_id, data, caller_of(request).subject)
