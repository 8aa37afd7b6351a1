"""The pages of exposures and their detections."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, URLEncodedBody
from litestar.response import Redirect, Template

from astrotriton.detection.errors import InputError
from astrotriton.gateway.context import Context
from astrotriton.gateway.dashboard import charts, exposure_plot
from astrotriton.gateway.dashboard.measurements import measurements
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.handlers.answers import picture
from astrotriton.gateway.handlers.dashboard.page import HOME, LARGEST_FORM, PageController, page
from astrotriton.gateway.handlers.dashboard.session import from_here, looks
from astrotriton.gateway.services.access import Identity
from astrotriton.wire.detections import Label, LabelIn

_EXPOSURES = 25
_DETECTIONS = 1000


class LabelForm(msgspec.Struct, frozen=True):
    """What the form to label a detection sends; without a label it is withdrawn."""

    label: Label | str = ""
    comment: str = ""
    go_on: str = ""


class ExposurePages(PageController):
    """What was scored, and what people say of it."""

    @get("/exposures", guards=[looks("read")])
    async def exposures(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        after: Annotated[UUID | None, QueryParameter()] = None,
    ) -> Template:
        """The exposures that were scored, the newest first."""
        runs, following = await context.exposures.recent(after, _EXPOSURES)
        return page(request, "exposures", runs=runs, following=following, first=after is None)

    @get("/exposures/{run_id:uuid}", guards=[looks("read")])
    async def exposure(
        self,
        run_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
    ) -> Template:
        """An exposure with its detections, or how far its run is."""
        try:
            found = await context.exposures.get(run_id, _DETECTIONS)
        except NotFoundError:
            return page(request, "run", status_of=await context.runs.get(run_id))
        shape = found.run.exposure
        return page(
            request,
            "exposure",
            run=found.run,
            detections=found.detections,
            pictured=found.pictured,
            plot=exposure_plot.plot(shape.height, shape.width, found.detections),
            raised={flag for one in found.detections for flag in one.flags},
        )

    @get("/detections/{detection_id:uuid}", guards=[looks("read")])
    async def detection(
        self,
        detection_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        go_on: Annotated[bool, QueryParameter()] = False,
    ) -> Template:
        """A detection, how its confidence came about, and what people said of it."""
        found = await context.detections.get(detection_id)
        explained = await context.detections.explain(detection_id)
        derivation = explained.derivation
        return page(
            request,
            "detection",
            detection=found,
            explained=explained,
            beside=await context.exposures.surroundings(found),
            measured=measurements(found, found.exposure.flux_unit),
            diagrams=[]
            if derivation is None
            else [charts.contributions(derivation), charts.calibration(derivation)],
            go_on=go_on,
        )

    @get("/detections/{detection_id:uuid}/cutout.png", guards=[looks("read")])
    async def cutout(
        self, detection_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> Response[bytes]:
        """The picture of a detection."""
        return picture(await context.detections.cutout(detection_id))

    @post(
        "/detections/{detection_id:uuid}/label",
        guards=[from_here, looks("label")],
        request_max_body_size=LARGEST_FORM,
    )
    async def label(
        self,
        detection_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        data: URLEncodedBody[LabelForm],
    ) -> Redirect:
        """Keep what a person says of a detection, and go back to it or on to the next."""
        given = _label_of(data)
        identity: Identity = request.state.identity
        found = await context.detections.label(detection_id, given, identity.subject)
        if not data.go_on:
            return Redirect(f"{HOME}/detections/{detection_id}", status_code=303)
        beside = await context.exposures.surroundings(found)
        return Redirect(
            f"{HOME}/exposures/{found.run_id}"
            if beside.after is None
            else f"{HOME}/detections/{beside.after}?go_on=true",
            status_code=303,
        )


def _label_of(data: LabelForm) -> LabelIn:
    try:
        return msgspec.convert(
            {"label": data.label or None, "comment": data.comment.strip() or None}, LabelIn
        )
    except msgspec.ValidationError as error:
        raise InputError("invalid-request", "label", str(error)) from None
