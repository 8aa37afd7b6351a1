"""Runs."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from astrotriton.gateway.context import Context
from astrotriton.gateway.handlers.access import caller_of, requires
from astrotriton.gateway.handlers.answers import accepted, detections_as
from astrotriton.gateway.handlers.queries import (
    ExposureName,
    FilterName,
    ModelVersion,
    Night,
    ObservedSince,
    ObservedUntil,
    Since,
    Until,
    evening,
    moment,
    names,
)
from astrotriton.gateway.http.openapi import DetectionsOperation, problems
from astrotriton.gateway.services.runs import RunFilter
from astrotriton.wire.detections import ScoredDetection
from astrotriton.wire.flags import FLAGS
from astrotriton.wire.runs import RunPage, RunState, RunStatus

_FLAGS = tuple(str(flag) for flag in FLAGS if flag.raised == "exposure")


class RunController(Controller):
    """Runs: exposures scored, or being scored."""

    path = "/runs"
    tags = ("runs",)

    @get(
        "/",
        summary="Runs that match",
        operation_id="list_runs",
        responses=problems(401, 403, 429, 503),
        **requires("read", "infer"),
    )
    async def list_runs(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        status: Annotated[RunState | None, QueryParameter()] = None,
        exposure: ExposureName = None,
        model_version: ModelVersion = None,
        flag: Annotated[
            str | None, QueryParameter(description="These flags of the exposure are raised.")
        ] = None,
        since: Since = None,
        until: Until = None,
        observed_since: ObservedSince = None,
        observed_until: ObservedUntil = None,
        night: Night = None,
        taken_through: FilterName = None,
        after: Annotated[
            UUID | None, QueryParameter(description="`next` of the page before.")
        ] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
    ) -> RunPage:
        """Runs that are complete, and runs in the background under way or failed, the newest first.

        A run that its caller waits for is listed once it is complete. A caller with the scope
        `infer` alone sees the runs that it has asked for itself.
        """
        wanted = RunFilter(
            status=status,
            exposure=exposure,
            caller=_only_of(request),
            since=moment("since", since),
            until=moment("until", until),
            model_version=model_version,
            flags=names("flag", flag, _FLAGS),
            filter=taken_through,
            observed_since=moment("observed_since", observed_since),
            observed_until=moment("observed_until", observed_until),
            night=evening(night),
        )
        return await context.runs.find(wanted, after, limit)

    @post(
        "/{run_id:uuid}/cancel",
        status_code=200,
        summary="Cancel a run",
        operation_id="cancel_run",
        responses=problems(401, 403, 404, 409, 429, 503),
        **requires("infer"),
    )
    async def cancel_run(
        self,
        run_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
    ) -> RunStatus:
        """Ends a run in the background. Nothing of it is stored, and its key is free again.

        A caller with the scope `infer` alone cancels the runs that it has asked for itself.
        """
        return await context.runs.cancel(run_id, _only_of(request))

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
        kind = accepted(request)
        run = await context.runs.get(run_id, _only_of(request))
        found = [] if run.result is None else run.result.detections
        return await detections_as(kind, run, found, ScoredDetection, run.result)


def _only_of(request: Request[Any, Any, Any]) -> str | None:
    """A caller who may see its own runs alone; None: one who may see every run."""
    caller = caller_of(request)
    return None if "read" in caller.scopes else caller.subject
