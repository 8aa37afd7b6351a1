"""Scoring exposures, and looking up what was scored."""

from contextlib import AsyncExitStack
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter

from astrotriton.gateway.context import Context
from astrotriton.gateway.errors import MediaTypeError
from astrotriton.gateway.handlers.access import caller_of, requires
from astrotriton.gateway.handlers.answers import (
    accepted,
    cutout_file,
    detections_as,
    linked,
    page_as,
    picture,
    shown_columns,
)
from astrotriton.gateway.handlers.queries import look_at, wanted_detections
from astrotriton.gateway.handlers.requests import patience, prefers_async, while_connected
from astrotriton.gateway.http.formats import FITS
from astrotriton.gateway.http.forms import read_infer_form, read_stamps_form
from astrotriton.gateway.http.openapi import (
    DetectionsOperation,
    FileOperation,
    InferByReferenceOperation,
    InferOperation,
    InferStampsOperation,
    PictureOperation,
    problems,
)
from astrotriton.gateway.services.detections import Filter
from astrotriton.gateway.services.pictures import Look
from astrotriton.gateway.services.runs import check_key
from astrotriton.wire.detections import (
    ConfidenceDerivation,
    DetectionPage,
    LabelIn,
    ScoredDetection,
    Sort,
    StoredDetection,
)
from astrotriton.wire.runs import InferResponse
from astrotriton.wire.stamps import InferStampsResponse


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

        Each stamp has its own background, noise and normalisation, a run of its own and an event
        `detection.scored`. All runs of a request are stored in one transaction. A stamp that cannot
        be scored comes back with the problem, and does not hold up the others. With an
        `Idempotency-Key`, the same request sent again gets the same runs.
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
        dependencies={"wanted": Provide(wanted_detections)},
        operation_class=DetectionsOperation,
        responses=problems(401, 403, 406, 429, 503),
        **requires("read"),
    )
    async def list_detections(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        wanted: NamedDependency[Filter],
        sort: Annotated[
            Sort,
            QueryParameter(
                description="Order. `newest`: the run that was asked for last, by rank. "
                "`committed`: as runs were stored, for those who follow along. By a value, with a "
                "minus sign the largest or latest first: only those that have it."
            ),
        ] = "newest",
        columns: Annotated[
            str | None,
            QueryParameter(
                description="Fields of each detection, or columns of a table, with commas between "
                "them; left out: all."
            ),
        ] = None,
        after: Annotated[
            UUID | None, QueryParameter(description="`next` of the page before.")
        ] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    ) -> Response[DetectionPage]:
        """A page of them. `next` of a page is `after` of the following one.

        `next` is the id of a detection and stays good. In the order of commits no detection is
        passed over, whatever is stored meanwhile: those who keep `next` and come back with it see
        each detection once.
        """
        kind = accepted(request)
        shown = shown_columns(kind, columns)
        page = await context.detections.find(wanted, after, limit, sort)
        answer = await page_as(kind, page, shown)
        return linked(answer, request, page.next)

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
        dependencies={"look": Provide(look_at)},
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def cutout(
        self,
        detection_id: FromPath[UUID],
        context: NamedDependency[Context],
        look: NamedDependency[Look],
    ) -> Response[bytes]:
        """63x63 pixels, the first row at the bottom. Kept for a run's most confident detections.

        Pixels that cannot be used, or that lie off the image, are transparent. Of an exposure that
        came with its science and template image, these are kept too.
        """
        return picture(await context.pictures.cutout(detection_id, look))

    @get(
        "/{detection_id:uuid}/cutout.fits",
        summary="The pixels of a detection",
        operation_id="get_cutout_file",
        operation_class=FileOperation,
        media_type=FITS,
        responses=problems(401, 403, 404, 429, 503),
        **requires("read"),
    )
    async def cutout_file(
        self, detection_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> Response[bytes]:
        """The same 63x63 pixels as FITS: difference, science and template, an extension each.

        They are kept in 254 levels between 5 sigma below the background and 50 above it: to look at
        and to compare, not to measure.
        """
        return cutout_file(await context.pictures.cutout_file(detection_id), detection_id)

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
