"""Scoring exposures, and looking up what was scored."""

from contextlib import AsyncExitStack
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta

from astrotriton.detection.errors import InputError
from astrotriton.gateway.context import Context
from astrotriton.gateway.errors import MediaTypeError
from astrotriton.gateway.handlers.access import caller_of, requires
from astrotriton.gateway.handlers.answers import accepted, detections_as, picture
from astrotriton.gateway.handlers.requests import patience, prefers_async, while_connected
from astrotriton.gateway.http.forms import read_infer_form, read_stamps_form
from astrotriton.gateway.http.openapi import (
    DetectionsOperation,
    InferByReferenceOperation,
    InferOperation,
    InferStampsOperation,
    PictureOperation,
    problems,
)
from astrotriton.gateway.services.detections import Filter
from astrotriton.gateway.services.runs import check_key
from astrotriton.wire.detections import (
    ConfidenceDerivation,
    DetectionPage,
    Label,
    LabelIn,
    Outcome,
    ScoredDetection,
    StoredDetection,
)
from astrotriton.wire.runs import InferResponse
from astrotriton.wire.stamps import InferStampsResponse

_SMALLEST_CONE, _LARGEST_CONE = 1e-6, 10.0


class DetectionController(Controller):
    """Detections: made by runs, kept by id."""

    path = "/detections"
    tags = ("detections",)

    @post(
        "/infer",
        status_code=200,
        summary="Score an exposure",
        operation_id="infer",
        operation_class=InferOperation,
        # The handler reads the body itself, and bounds it.
        request_max_body_size=None,
        responses=problems(401, 403, 406, 408, 413, 429, 502, 503, 504),
        **requires("infer"),
    )
    async def infer(
        self, request: Request[Any, Any, Any], context: NamedDependency[Context]
    ) -> Response[InferResponse]:
        """Scores the candidates of an exposure, and the sources that the network finds beside them.

        The exposure is a difference image: the science image minus an aligned template. What is
        answered has been stored, and a CloudEvent `detection.scored` tells of it.
        Pixel coordinates are 0-based, with the centre of the first pixel at (0, 0) and x along
        columns; sky coordinates are ICRS degrees.

        With `Prefer: respond-async`, and for large exposures always, the answer is 202 and where to
        ask for the run. With an `Idempotency-Key`, the same request sent again gets the same run.
        """
        return await _infer(request, context)

    @post(
        "/infer-by-reference",
        status_code=200,
        summary="Score an exposure in a bucket",
        operation_id="infer_by_reference",
        operation_class=InferByReferenceOperation,
        request_max_body_size=None,
        responses=problems(401, 403, 406, 408, 413, 415, 422, 429, 502, 503, 504),
        **requires("infer"),
    )
    async def infer_by_reference(
        self, request: Request[Any, Any, Any], context: NamedDependency[Context]
    ) -> Response[InferResponse]:
        """Scores an exposure that lies in a bucket of those that the gateway may read.

        Everything else is as in `infer`, which takes this body too.
        """
        if request.content_type[0] != "application/json":
            raise MediaTypeError("send JSON that names the exposure")
        return await _infer(request, context)

    @post(
        "/infer-stamps",
        status_code=200,
        summary="Score a cube of stamps",
        operation_id="infer_stamps",
        operation_class=InferStampsOperation,
        request_max_body_size=None,
        responses=problems(401, 403, 408, 413, 429, 502, 503, 504),
        **requires("infer"),
    )
    async def infer_stamps(
        self, request: Request[Any, Any, Any], context: NamedDependency[Context]
    ) -> InferStampsResponse:
        """Scores many stamps at once, as those of alerts: each as if it were sent alone.

        The stamps share tiles of the network, and nothing else: each has its own background, noise
        and normalisation, a run of its own and an event `detection.scored`. All runs of a request
        are stored in one transaction. A stamp that cannot be scored comes back with the problem,
        and does not hold up the others. With an `Idempotency-Key`, the same request sent again gets
        the same runs.
        """
        key, caller = check_key(request.headers.get("idempotency-key")), caller_of(request)
        async with AsyncExitStack() as held:
            await held.enter_async_context(context.access.working(caller))
            place = await held.enter_async_context(context.admission.arrive(caller.subject))
            async with patience(request, context.settings.request_timeout):
                form = await read_stamps_form(request, context.settings, place)
                place.take()
                async with while_connected(request):
                    return await context.stamps.score(form, place, caller.subject, key)

    @get(
        "/",
        summary="Detections that match",
        operation_id="list_detections",
        operation_class=DetectionsOperation,
        responses=problems(401, 403, 406, 429, 503),
        **requires("read"),
    )
    async def list_detections(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        run_id: Annotated[UUID | None, QueryParameter()] = None,
        exposure: Annotated[
            str | None,
            QueryParameter(
                description="Name of the exposure.", max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"
            ),
        ] = None,
        model_version: Annotated[int | None, QueryParameter(ge=1, le=2**31 - 1)] = None,
        is_real: Annotated[bool | None, QueryParameter()] = None,
        outcome: Annotated[Outcome | None, QueryParameter()] = None,
        min_confidence: Annotated[float | None, QueryParameter(ge=0.0, le=1.0)] = None,
        label: Annotated[Label | None, QueryParameter()] = None,
        since: Annotated[
            str | None,
            QueryParameter(
                description="Scored at this time or later, RFC 3339.", format="date-time"
            ),
        ] = None,
        until: Annotated[
            str | None,
            QueryParameter(description="Scored before this time, RFC 3339.", format="date-time"),
        ] = None,
        observed_since: Annotated[
            str | None,
            QueryParameter(
                description="Mid-exposure at this time or later, RFC 3339.", format="date-time"
            ),
        ] = None,
        observed_until: Annotated[
            str | None,
            QueryParameter(
                description="Mid-exposure before this time, RFC 3339.", format="date-time"
            ),
        ] = None,
        taken_through: Annotated[
            str | None,
            QueryParameter(
                name="filter",
                description="Filter of the exposure, as its header or the request names it.",
                max_length=200,
                pattern=r"^[^\x00-\x1f\x7f]*$",
            ),
        ] = None,
        ra: Annotated[
            float | None,
            QueryParameter(
                description="Of a cone, with `dec` and `radius`: ICRS degrees.", ge=0.0, lt=360.0
            ),
        ] = None,
        dec: Annotated[float | None, QueryParameter(ge=-90.0, le=90.0)] = None,
        radius: Annotated[
            float | None,
            QueryParameter(description="Degrees.", ge=_SMALLEST_CONE, le=_LARGEST_CONE),
        ] = None,
        after: Annotated[
            UUID | None, QueryParameter(description="`next` of the page before.")
        ] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    ) -> Response[DetectionPage]:
        """The newest first. `next` of a page is `after` of the following one."""
        kind = accepted(request)
        wanted = Filter(
            run_id=run_id,
            exposure=exposure,
            model_version=model_version,
            is_real=is_real,
            outcome=outcome,
            min_confidence=min_confidence,
            label=label,
            since=_time("since", since),
            until=_time("until", until),
            observed_since=_time("observed_since", observed_since),
            observed_until=_time("observed_until", observed_until),
            filter=taken_through,
            cone=_cone(ra, dec, radius),
        )
        page = await context.detections.find(wanted, after, limit)
        answer = await detections_as(kind, page, page.detections, StoredDetection)
        if page.next is not None:
            asked = request.query_params.multi_items()
            kept = [(name, value) for name, value in asked if name != "after"]
            query = urlencode([*kept, ("after", page.next)])
            answer.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
        return answer

    @get(
        "/{detection_id:uuid}",
        summary="One detection",
        operation_id="get_detection",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def get_detection(
        self, detection_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> StoredDetection:
        """A detection as it was answered, with its exposure and the model that scored it."""
        return await context.detections.get(detection_id)

    @get(
        "/{detection_id:uuid}/confidence",
        summary="How a confidence came about",
        operation_id="explain_confidence",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def explain(
        self, detection_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> ConfidenceDerivation:
        """The whole derivation: probability, each quality term and its weight, calibration."""
        return await context.detections.explain(detection_id)

    @get(
        "/{detection_id:uuid}/cutout.png",
        summary="A picture of a detection",
        operation_id="get_cutout",
        operation_class=PictureOperation,
        media_type="image/png",
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def cutout(
        self, detection_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> Response[bytes]:
        """63x63 pixels, the first row at the bottom. Kept for a run's most confident detections."""
        return picture(await context.detections.cutout(detection_id))

    @patch(
        "/{detection_id:uuid}",
        summary="Label a detection",
        operation_id="label_detection",
        responses=problems(401, 403, 404, 408, 413, 429, 503),
        **requires("label"),
    )
    async def label(
        self,
        detection_id: FromPath[UUID],
        data: JSONBody[LabelIn],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
    ) -> StoredDetection:
        """A person's verdict. Who gave which, and when, is kept for good."""
        return await context.detections.label(detection_id, data, caller_of(request).subject)


async def _infer(request: Request[Any, Any, Any], context: Context) -> Response[InferResponse]:
    """Score what a request brings or names."""
    kind, key = accepted(request), check_key(request.headers.get("idempotency-key"))
    caller = caller_of(request)
    async with AsyncExitStack() as held:
        await held.enter_async_context(context.access.working(caller))
        place = await held.enter_async_context(context.admission.arrive(caller.subject))
        async with patience(request, context.settings.request_timeout):
            form = await read_infer_form(
                request, context.settings, context.objects, context.readers, place
            )
            place.take()
            large = len(form.content) >= context.settings.async_bytes
            if large or prefers_async(request):
                run_id = await context.runs.start(form, place, held, caller.subject, key)
                return await _see_run(context, run_id)
            async with while_connected(request):
                asked = await context.runs.run_now(form, place, caller.subject, key)
            if asked.result is None:
                return await _see_run(context, asked.run_id)
            run = asked.result
            return await detections_as(kind, run, run.detections, ScoredDetection, run)


async def _see_run(context: Context, run_id: UUID) -> Response[Any]:
    status = await context.runs.get(run_id)
    return Response(status, status_code=202, headers={"Location": f"/runs/{run_id}"})


def _time(field: str, given: str | None) -> datetime | None:
    """A time with its zone, which Litestar would take from a number and without a zone too."""
    try:
        time: datetime | None = msgspec.convert(given, Annotated[datetime, Meta(tz=True)] | None)
    except msgspec.ValidationError as error:
        raise InputError("invalid-request", field, f"{error}; with its zone, as RFC 3339") from None
    return time


def _cone(
    ra: float | None, dec: float | None, radius: float | None
) -> tuple[float, float, float] | None:
    given = {"ra": ra, "dec": dec, "radius": radius}
    missing = [name for name, value in given.items() if value is None]
    if ra is not None and dec is not None and radius is not None:
        # PostgreSQL refuses to square what is too near to 0.
        return round(ra, 12), round(dec, 12), radius
    if len(missing) < len(given):
        raise InputError("invalid-request", missing[0], "a cone needs `ra`, `dec` and `radius`")
    return None
