"""The pages under ``/dashboard``."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, QueryParameter, URLEncodedBody
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Redirect, Template
from litestar.static_files import create_static_files_router
from litestar.template import TemplateConfig
from litestar.types import Guard

from astrotriton.detection.errors import InputError
from astrotriton.gateway.context import Context
from astrotriton.gateway.dashboard import charts, exposure_plot, views
from astrotriton.gateway.dashboard.measurements import measurements
from astrotriton.gateway.errors import (
    ForbiddenError,
    GatewayError,
    NotFoundError,
    UnauthenticatedError,
    problem_of,
)
from astrotriton.gateway.keys import Scope
from astrotriton.gateway.services.access import Identity
from astrotriton.wire.detections import Label, LabelIn

HOME = "/dashboard"
COOKIE = "astrotriton_key"

_PAGE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # With none at all, browsers would not say where a form comes from.
    "Referrer-Policy": "same-origin",
}
# Evidently's page is made of scripts: it gets an origin of its own, and may load nothing.
_REPORT = {
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; frame-ancestors 'none'",
    "Cache-Control": "private",
}
_LARGEST_FORM = 16_384
_WITHIN = re.compile(rf"{HOME}[A-Za-z0-9/?&=._:%-]*")
_EXPOSURES = 25
_DETECTIONS = 1000
_VERSIONS = 6
_CHECKS = 60
_VALIDATIONS = 20

Ref = Annotated[str | None, QueryParameter(max_length=220)]
Window = Annotated[str, QueryParameter(max_length=10)]


class LoginForm(msgspec.Struct, frozen=True):
    """What the form to log in sends."""

    key: str = ""
    next: str = HOME


class LabelForm(msgspec.Struct, frozen=True):
    """What the form to label a detection sends; without a label it is withdrawn."""

    label: Label | str = ""
    comment: str = ""
    go_on: str = ""


def looks(scope: Scope) -> Guard:
    """Lets in whoever may do this, by the cookie of the form to log in or a bearer token."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        context: Context = connection.app.state.context
        authorization = connection.headers.get("authorization")
        if authorization is None and COOKIE in connection.cookies:
            authorization = f"Bearer {connection.cookies[COOKIE]}"
        connection.state.identity = await context.access.admit(authorization, scope)

    return guard


def from_here(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuses forms that another site's page has sent."""
    site = connection.headers.get("sec-fetch-site")
    origin = connection.headers.get("origin")
    if site is not None:
        own = site == "same-origin"
    else:
        own = origin is not None and urlsplit(origin).netloc == connection.headers.get("host")
    if not own:
        raise ForbiddenError(
            "the form was not sent from this site's own page: open it and try again"
        )


def page(
    request: Request[Any, Any, Any],
    name: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Template:
    """A page from its template."""
    context: Context = request.app.state.context
    identity: Identity | None = request.state.get("identity")
    return Template(
        f"{name}.html",
        status_code=status,
        headers={**_PAGE, **(headers or {})},
        context={
            "here": name,
            "now": datetime.now(UTC),
            "identity": identity,
            "closed": context.settings.auth != "off",
            **values,
        },
    )


def say_what_is_wrong(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """An error as a page; whoever must say who they are is sent to do so."""
    if isinstance(error, UnauthenticatedError) and request.method == "GET":
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Redirect(f"{HOME}/login?next={quote(asked)}", status_code=303)
    problem = problem_of(error)
    headers = error.headers if isinstance(error, GatewayError) else {}
    return page(request, "error", problem.status, headers, problem=problem)


class DashboardController(Controller):
    """What people look at."""

    path = HOME
    include_in_schema = False
    exception_handlers = dict.fromkeys(
        (InputError, GatewayError, ValidationException, HTTPException, Exception),
        say_what_is_wrong,
    )

    @get("/login")
    async def login_page(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        next: Annotated[str, QueryParameter(max_length=2000)] = HOME,
    ) -> Response[Any]:
        """The form to log in."""
        if context.settings.auth == "off":
            return Redirect(HOME, status_code=303)
        # A cookie for this site alone is not sent with a link from another site's page.
        again = request.headers.get("sec-fetch-site") == "cross-site"
        return page(request, "login", next=_within(next), again=again, problem=None)

    @post("/login", guards=[from_here], request_max_body_size=_LARGEST_FORM)
    async def login(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        data: URLEncodedBody[LoginForm],
    ) -> Response[Any]:
        """Keep the key in a cookie that no script can read, if it lets in."""
        key = data.key.strip()
        try:
            await context.access.admit(f"Bearer {key}", "read")
        except GatewayError as error:
            status = error.status
            return page(
                request,
                "login",
                status,
                {name: value for name, value in error.headers.items() if name == "Retry-After"},
                next=_within(data.next),
                again=False,
                problem=problem_of(error),
            )
        cookie = Cookie(
            key=COOKIE,
            value=key,
            path=HOME,
            httponly=True,
            samesite="strict",
            secure=_encrypted(request),
        )
        return Redirect(_within(data.next), status_code=303, cookies=[cookie])

    @post("/logout", guards=[from_here], request_max_body_size=_LARGEST_FORM)
    async def logout(self) -> Response[Any]:
        """Forget the key."""
        answer = Redirect(f"{HOME}/login", status_code=303)
        answer.delete_cookie(COOKIE, path=HOME)
        return answer

    @get("/", guards=[looks("read")])
    async def overview(
        self, request: Request[Any, Any, Any], context: NamedDependency[Context]
    ) -> Template:
        """The versions, how they do, and the latest exposures."""
        versions = views.choose(await context.catalogue.all(), None, None)
        used = sorted(versions.all, key=lambda one: (not one.roles, not one.served))[:_VERSIONS]
        done = await asyncio.gather(
            *(context.performance.get(views.ref(one), "24h") for one in used)
        )
        runs, _ = await context.exposures.recent(None, 8)
        return page(
            request,
            "overview",
            health=await context.health.dependencies(),
            versions=versions,
            performance=dict(zip(map(views.ref, used), done, strict=True)),
            runs=runs,
        )

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
            measured=measurements(found),
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
        png = await context.detections.cutout(detection_id)
        return Response(
            png, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"}
        )

    @post(
        "/detections/{detection_id:uuid}/label",
        guards=[from_here, looks("label")],
        request_max_body_size=_LARGEST_FORM,
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

    @get("/performance", guards=[looks("read")])
    async def performance(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        model: Ref = None,
        against: Ref = None,
        window: Window = "24h",
    ) -> Template:
        """Speed, throughput, errors and people's labels, version against version."""
        versions = views.choose(await context.catalogue.all(), model, against)
        found = await asyncio.gather(
            *(context.performance.get(views.ref(one), window) for one in versions.shown)
        )
        series = [(f"version {one.model.version}", one.series) for one in found]
        diagrams = [] if not found else [charts.latency(series), charts.throughput(series)]
        return page(
            request,
            "performance",
            versions=versions,
            window=window,
            found=found,
            diagrams=diagrams,
            confidences=[
                charts.confidences(one.confidence, f"version {one.model.version}") for one in found
            ],
        )

    @get("/validations", guards=[looks("read")])
    async def validations(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        model: Ref = None,
        against: Ref = None,
    ) -> Template:
        """What versions can do on fields whose truth is known, version against version."""
        versions = views.choose(await context.catalogue.all(), model, against)
        lists = await asyncio.gather(
            *(context.validations.of_model(views.ref(one), _VALIDATIONS) for one in versions.shown)
        )
        shown = views.newest_sides(lists)
        return page(
            request,
            "validations",
            versions=versions,
            validations=lists[0] if lists else [],
            sides=shown,
            diagrams=views.diagrams(shown),
            trend=charts.trend(lists[0]) if lists else None,
        )

    @get("/validations/{validation_id:uuid}", guards=[looks("read")])
    async def validation(
        self,
        validation_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
    ) -> Template:
        """One validation."""
        found = await context.validations.get(validation_id)
        shown = views.sides(found)
        return page(request, "validation", found=found, sides=shown, diagrams=views.diagrams(shown))

    @get("/drift", guards=[looks("read")])
    async def drift(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        model: Ref = None,
        check: Annotated[UUID | None, QueryParameter()] = None,
    ) -> Template:
        """Whether the sky or the camera has changed, by the looks for drift."""
        versions = views.choose(await context.catalogue.all(), model, None)
        checks = []
        if versions.chosen is not None:
            checks = await context.drift.of_model(views.ref(versions.chosen), _CHECKS)
        shown = checks[0] if checks else None
        if check is not None:
            shown = await context.drift.get(check)
        return page(
            request,
            "drift",
            versions=versions,
            checks=checks,
            shown=shown,
            diagram=charts.drift(checks) if checks else None,
        )

    @get("/drift/{check_id:uuid}/report", guards=[looks("read")])
    async def report(
        self, check_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> Response[bytes]:
        """Evidently's report."""
        content = await context.drift.report(check_id)
        return Response(content, media_type="text/html", headers=_REPORT)

    @get("/system", guards=[looks("read")])
    async def system(
        self, request: Request[Any, Any, Any], context: NamedDependency[Context]
    ) -> Template:
        """The parts that the service needs, the canary, the route, and the outbox."""
        health = await context.health.dependencies()
        route, no_route = None, ""
        try:
            route = await context.routing.get(context.model)
        except GatewayError as error:
            no_route = error.detail
        return page(
            request,
            "system",
            200 if health.status == "ready" else 503,
            health=health,
            route=route,
            no_route=no_route,
        )

    @get("/{rest:path}")
    async def elsewhere(self, rest: FromPath[str]) -> None:
        """Where there is no page."""
        raise NotFoundError("there is no such page")


def pages() -> Router:
    """The pages and their style sheet."""
    return Router(
        path="/",
        route_handlers=[
            DashboardController,
            create_static_files_router(
                f"{HOME}/static",
                directories=[views.STATIC],
                include_in_schema=False,
                name="dashboard-static",
            ),
        ],
    )


def templates() -> TemplateConfig[JinjaTemplateEngine]:
    """Where the pages' templates are."""
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(views.environment()))


def _within(path: str) -> str:
    """A page of ours to go on to."""
    return path if _WITHIN.fullmatch(path) else HOME


def _encrypted(request: Request[Any, Any, Any]) -> bool:
    """Whether the browser asked by https; a proxy says so, and a lie only harms the liar."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))


def _label_of(data: LabelForm) -> LabelIn:
    try:
        return msgspec.convert(
            {"label": data.label or None, "comment": data.comment.strip() or None}, LabelIn
        )
    except msgspec.ValidationError as error:
        raise InputError("invalid-request", "label", str(error)) from None
