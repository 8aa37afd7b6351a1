"""The pages of versions: how they do, what they can do, and whether the sky has changed."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Template

from astrotriton.gateway.context import Context
from astrotriton.gateway.dashboard import charts, views
from astrotriton.gateway.errors import (
    GatewayError,
    NotFoundError,
)
from astrotriton.gateway.handlers.dashboard.page import PageController, page
from astrotriton.gateway.handlers.dashboard.session import looks

# Evidently's page is made of scripts: it gets an origin of its own, and may load nothing.
_REPORT = {
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; frame-ancestors 'none'",
    "Cache-Control": "private",
}
_VERSIONS = 6
_CHECKS = 60
_VALIDATIONS = 20

Ref = Annotated[str | None, QueryParameter(max_length=220)]
Window = Annotated[str, QueryParameter(max_length=10)]


class VersionPages(PageController):
    """The versions, and the parts that serve them."""

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
        route, no_route, canary = None, "", None
        try:
            route = await context.routing.get(context.model)
        except GatewayError as error:
            no_route = error.detail
        with suppress(GatewayError):
            canary = await context.canary.get(context.model)
        return page(
            request,
            "system",
            200 if health.status == "ready" else 503,
            health=health,
            route=route,
            no_route=no_route,
            canary=canary,
        )

    @get("/{rest:path}")
    async def elsewhere(self, rest: FromPath[str]) -> None:
        """Where there is no page."""
        raise NotFoundError("there is no such page")
