"""The pages of exposures and of the runs that score them."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Request, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter
from litestar.response import Template

from astrotriton.gateway.context import Context
from astrotriton.gateway.dashboard import exposure_plot
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.handlers.dashboard.asked import Asked, AskedRuns, asked, asked_runs
from astrotriton.gateway.handlers.dashboard.page import PageController, page
from astrotriton.gateway.handlers.dashboard.session import looks

_EXPOSURES = 25
_RUNS = 50
#: Detections on a page.
ROWS = 50
_PLACES = 5000

After = Annotated[UUID | None, QueryParameter()]


class ExposurePages(PageController):
    """What was scored, and what is being scored."""

    @get("/exposures", guards=[looks("read")])
    async def exposures(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        after: After = None,
    ) -> Template:
        """The exposures that were scored, the newest first."""
        runs, following = await context.exposures.recent(after, _EXPOSURES)
        return page(request, "exposures", runs=runs, following=following, first=after is None)

    @get("/runs", guards=[looks("read")], dependencies={"asked": Provide(asked_runs)})
    async def runs(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        asked: NamedDependency[AskedRuns],
        after: After = None,
    ) -> Template:
        """Runs that are complete, under way or failed, the newest first."""
        found = await context.runs.find(asked.wanted(), after, _RUNS)
        return page(request, "runs", scripted=True, asked=asked, found=found, first=after is None)

    @get(
        # Not `run_id`, which the query may have.
        "/exposures/{scored:uuid}",
        guards=[looks("read")],
        dependencies={"asked": Provide(asked)},
    )
    async def exposure(
        self,
        scored: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        asked: NamedDependency[Asked],
        after: After = None,
    ) -> Template:
        """An exposure with a page of its detections, or how far its run is."""
        try:
            found = await context.exposures.get(scored, _PLACES)
        except NotFoundError:
            status = await context.runs.get(scored)
            return page(request, "run", scripted=True, status_of=status)
        asked = asked.of_run(scored)
        listed = await context.detections.find(asked.wanted(), after, ROWS, asked.sort)
        shape = found.run.exposure
        return page(
            request,
            "exposure",
            run=found.run,
            asked=asked,
            listed=listed,
            first=after is None,
            pictured=found.pictured,
            plot=exposure_plot.plot(shape.height, shape.width, listed.detections, found.places),
            raised={flag for one in listed.detections for flag in one.flags},
        )
