"""The pages of detections: lists, one by one, and labels."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter, URLEncodedBody
from litestar.response import Redirect, Stream, Template

from astrotriton.detection.errors import InputError
from astrotriton.gateway.context import Context
from astrotriton.gateway.dashboard import charts
from astrotriton.gateway.dashboard.measurements import measurements
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.handlers.answers import cutout_file, page_as, picture
from astrotriton.gateway.handlers.dashboard.asked import Asked, asked
from astrotriton.gateway.handlers.dashboard.exposures import ROWS, After
from astrotriton.gateway.handlers.dashboard.page import HOME, LARGEST_FORM, PageController, page
from astrotriton.gateway.handlers.dashboard.session import from_here, looks
from astrotriton.gateway.handlers.labels import as_csv, as_json
from astrotriton.gateway.handlers.queries import look_at
from astrotriton.gateway.http.formats import CSV, ECSV, FITS, VOTABLE
from astrotriton.gateway.services.access import Identity
from astrotriton.gateway.services.detections import Filter
from astrotriton.gateway.services.labels import LabelFilter
from astrotriton.gateway.services.pictures import Look
from astrotriton.wire.detections import Label, LabelIn

_ASKED = {"asked": Provide(asked)}

_SAME_PLACE = 2.0 / 3600.0  # degrees
_HISTORY = 50
# Of a download.
_MOST = 5000
_FORMATS = {"csv": CSV, "fits": FITS, "vot": VOTABLE, "ecsv": ECSV}


class LabelForm(msgspec.Struct, frozen=True):
    """What the form to label a detection sends; without a label it is withdrawn."""

    label: Label | str = ""
    comment: str = ""
    go_on: str = ""


class DetectionPages(PageController):
    """What was found, and what people say of it."""

    @get("/detections", guards=[looks("read")], dependencies=_ASKED)
    async def detections(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        asked: NamedDependency[Asked],
        after: After = None,
    ) -> Template:
        """Detections of all exposures that match."""
        listed = await context.detections.find(asked.wanted(), after, ROWS, asked.sort)
        return page(
            request,
            "detections",
            asked=asked,
            listed=listed,
            contested=await context.exposures.contested(listed.detections),
            first=after is None,
            raised={flag for one in listed.detections for flag in one.flags},
        )

    @get("/find", guards=[looks("read")])
    async def find(
        self, context: NamedDependency[Context], id: Annotated[str, QueryParameter(max_length=100)]
    ) -> Redirect:
        """The page of a detection or a run by its id."""
        try:
            wanted = UUID(id.strip())
        except ValueError:
            raise InputError("invalid-request", "id", f"{id!r} is no UUID") from None
        try:
            await context.detections.get(wanted)
        except NotFoundError:
            try:
                await context.runs.get(wanted)
            except NotFoundError:
                raise NotFoundError(f"no detection and no run has the id {wanted}") from None
            return Redirect(f"{HOME}/exposures/{wanted}", status_code=303)
        return Redirect(f"{HOME}/detections/{wanted}", status_code=303)

    @get("/download", guards=[looks("read")], dependencies=_ASKED)
    async def download(
        self,
        context: NamedDependency[Context],
        asked: NamedDependency[Asked],
        form: Annotated[str, QueryParameter(name="format", pattern="^(csv|fits|vot|ecsv)$")],
    ) -> Response[Any]:
        """The first detections of a list as a file, up to so many."""
        listed = await context.detections.find(asked.wanted(), None, _MOST, asked.sort)
        answer = await page_as(_FORMATS[form], listed, None)
        name = "detections" if listed.next is None else f"detections-first-{_MOST}"
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
        return answer

    @get("/labels", guards=[looks("read")])
    async def labels(
        self,
        context: NamedDependency[Context],
        form: Annotated[str, QueryParameter(name="format", pattern="^(csv|json)$")],
        run_id: Annotated[UUID | None, QueryParameter()] = None,
    ) -> Stream:
        """What people said of detections, of one exposure or of all, as a file."""
        pages = context.labels.every(LabelFilter(run_id=run_id))
        return Stream(
            as_csv(pages) if form == "csv" else as_json(pages),
            media_type=CSV if form == "csv" else "application/json",
            headers={"Content-Disposition": f'attachment; filename="labels.{form}"'},
        )

    @get("/next", guards=[looks("read")], dependencies=_ASKED)
    async def following(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        asked: NamedDependency[Asked],
        after: After = None,
    ) -> Response[Any]:
        """The first detection of a list, or the one after another; to look through it."""
        listed = await context.detections.find(asked.wanted(), after, 1, asked.sort)
        if listed.detections:
            return _show(listed.detections[0].id, asked)
        return page(request, "looked_through", asked=asked, begun=after is not None)

    @get("/detections/{detection_id:uuid}", guards=[looks("read")], dependencies=_ASKED)
    async def detection(
        self,
        detection_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        asked: NamedDependency[Asked],
    ) -> Template:
        """A detection, how its confidence came about, and what people said of it."""
        found = await context.detections.get(detection_id)
        explained = await context.detections.explain(detection_id)
        derivation = explained.derivation
        asked = asked.or_of_run(found.run_id)
        there = []
        if found.ra is not None and found.dec is not None:
            cone = (found.ra, found.dec, _SAME_PLACE)
            there = (await context.detections.find(Filter(cone=cone), None, _HISTORY)).detections
        return page(
            request,
            "detection",
            scripted=True,
            detection=found,
            explained=explained,
            asked=asked,
            beside=await context.detections.beside(detection_id, asked.wanted(), asked.sort),
            around=await context.exposures.surroundings(found),
            there=there,
            contested=await context.exposures.contested(there),
            curve=charts.light_curve(there),
            measured=measurements(found, found.exposure.flux_unit),
            diagrams=[]
            if derivation is None
            else [charts.contributions(derivation), charts.calibration(derivation)],
        )

    @get(
        "/detections/{detection_id:uuid}/cutout.png",
        guards=[looks("read")],
        dependencies={"look": Provide(look_at)},
    )
    async def cutout(
        self,
        detection_id: FromPath[UUID],
        context: NamedDependency[Context],
        look: NamedDependency[Look],
    ) -> Response[bytes]:
        """A picture of a detection."""
        return picture(await context.pictures.cutout(detection_id, look))

    @get("/detections/{detection_id:uuid}/cutout.fits", guards=[looks("read")])
    async def cutout_file(
        self, detection_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> Response[bytes]:
        """The pixels of a detection, as a file."""
        return cutout_file(await context.pictures.cutout_file(detection_id), detection_id)

    @post(
        "/detections/{detection_id:uuid}/label",
        guards=[from_here, looks("label")],
        request_max_body_size=LARGEST_FORM,
        dependencies=_ASKED,
    )
    async def label(
        self,
        detection_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        data: URLEncodedBody[LabelForm],
        asked: NamedDependency[Asked],
    ) -> Redirect:
        """Keep what a person says of a detection, and go back to it or on to the next."""
        given = _label_of(data)
        identity: Identity = request.state.identity
        found = await context.detections.label(detection_id, given, identity.subject)
        asked = msgspec.structs.replace(asked.or_of_run(found.run_id), go_on=bool(data.go_on))
        if not asked.go_on:
            return _show(detection_id, asked)
        wanted = asked.wanted()
        listed = await context.detections.find(wanted, detection_id, 1, asked.sort)
        if not listed.detections:
            return Redirect(f"{HOME}/next{asked.query(after=detection_id)}", status_code=303)
        return _show(listed.detections[0].id, asked)


def _show(detection_id: UUID, asked: Asked) -> Redirect:
    return Redirect(f"{HOME}/detections/{detection_id}{asked.query()}", status_code=303)


def _label_of(data: LabelForm) -> LabelIn:
    try:
        return msgspec.convert(
            {"label": data.label or None, "comment": data.comment.strip() or None}, LabelIn
        )
    except msgspec.ValidationError as error:
        raise InputError("invalid-request", "label", str(error)) from None
