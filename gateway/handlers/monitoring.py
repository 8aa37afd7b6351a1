"""Validations, and looks for drift."""

from uuid import UUID

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from astrotriton.gateway.context import Context
from astrotriton.gateway.handlers.access import requires
from astrotriton.gateway.http.openapi import PageOperation, problems
from astrotriton.wire.drift import DriftCheck
from astrotriton.wire.validation import Validation


class ValidationController(Controller):
    """Validations, begun at a model."""

    path = "/validations"
    tags = ("models",)

    @get(
        "/{validation_id:uuid}",
        summary="A validation",
        operation_id="get_validation",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def get_validation(
        self, validation_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> Validation:
        """How far it is; figures, gates and diagrams once it is complete; why not, if it failed."""
        return await context.validations.get(validation_id)


class DriftController(Controller):
    """Looks for drift, made at a model."""

    path = "/drift"
    tags = ("models",)

    @get(
        "/{check_id:uuid}",
        summary="A look for drift",
        operation_id="get_drift",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def get_drift(
        self, check_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> DriftCheck:
        """What was found, and whether its report is there."""
        return await context.drift.get(check_id)

    @get(
        "/{check_id:uuid}/report",
        summary="Evidently's report",
        operation_id="get_drift_report",
        operation_class=PageOperation,
        media_type="text/html",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def report(
        self, check_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> Response[bytes]:
        """The distribution of every descriptor, baseline and window side by side."""
        page = await context.drift.report(check_id)
        return Response(page, media_type="text/html", headers={"Cache-Control": "private"})
