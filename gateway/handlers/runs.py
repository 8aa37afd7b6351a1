"""Runs."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from astrotriton.gateway.context import Context
from astrotriton.gateway.handlers.access import caller_of, requires
from astrotriton.gateway.handlers.answers import accepted, detections_as
from astrotriton.gateway.http.openapi import DetectionsOperation, problems
from astrotriton.wire.detections import ScoredDetection
from astrotriton.wire.runs import RunStatus


class RunController(Controller):
    """Runs: exposures scored, or being scored."""

    path = "/runs"
    tags = ("runs",)

    @get(
        "/{run_id:uuid}",
        summary="A run",
        operation_id="get_run",
        operation_class=DetectionsOperation,
        responses=problems(401, 403, 404, 406, 429, 503),
        **requires("read", "infer"),
    )
    async def get_run(
        self,
        run_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
    ) -> Response[RunStatus]:
        """How far it is; what was answered, once it is complete; why not, if it failed.

        A caller with the scope `infer` alone sees the runs that it has asked for itself.
        """
        kind, caller = accepted(request), caller_of(request)
        only_of = None if "read" in caller.scopes else caller.subject
        run = await context.runs.get(run_id, only_of)
        found = [] if run.result is None else run.result.detections
        return await detections_as(kind, run, found, ScoredDetection, run.result)
