"""The pages of exposures and of the runs that score them."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter
from litestar.response import Template

from astrotriton.detection.image.overviews import Box
from astrotriton.gateway.context import Context
from astrotriton.gateway.dashboard import exposure_plot, viewer
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.handlers.answers import picture
from astrotriton.gateway.handlers.dashboard.asked import Asked, AskedRuns, asked, asked_runs
from astrotriton.gateway.handlers.dashboard.page import PageController, page
from astrotriton.gateway.handlers.dashboard.session import looks

_EXPOSURES = 25
_RUNS = 50
#: Detections on a page.
ROWS = 50
_PLACES = 5000

# On an image.
_MARKED = 200
_MOST_PIXELS = 1_000_000

_Pixel = Annotated[float | None, QueryParameter(ge=-1.0, le=_MOST_PIXELS)]
_Count = Annotated[int, QueryParameter(ge=0, le=_MOST_PIXELS)]
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
            looked_at=found.binning is not None,
            asked=asked,
            listed=listed,
            contested=await context.exposures.contested(listed.detections),
            first=after is None,
            pictured=found.pictured,
            plot=exposure_plot.plot(shape.height, shape.width, listed.detections, found.places),
            raised={flag for one in listed.detections for flag in one.flags},
        )

    @get(
        "/exposures/{scored:uuid}/image",
        guards=[looks("read")],
        dependencies={"asked": Provide(asked)},
    )
    async def image(
        self,
        scored: FromPath[UUID],
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        asked: NamedDependency[Asked],
        x: _Pixel = None,
        y: _Pixel = None,
        scale: Annotated[int, QueryParameter(ge=1, le=256)] = 1,
    ) -> Template:
        """The image of an exposure, or a part of it, with its detections."""
        found = await context.exposures.get(scored, 0)
        if found.binning is None:
            raise NotFoundError(f"no picture of the exposure of run {scored} is kept")
        shape, asked = found.run.exposure, asked.of_run(scored)
        view = viewer.look(shape.height, shape.width, found.binning, x, y, scale)
        box = view.box
        wanted = msgspec.structs.replace(
            asked.wanted(),
            box=(
                *(box.column - 0.5, box.column + box.columns - 0.5),
                *(box.row - 0.5, box.row + box.rows - 0.5),
            ),
        )
        listed = await context.detections.find(wanted, None, _MARKED, asked.sort)
        return page(
            request,
            "image",
            scripted=True,
            run=found.run,
            asked=asked,
            binning=found.binning,
            view=view.marked(listed.detections),
            detections=(shown := listed.detections[:ROWS]),
            contested=await context.exposures.contested(shown),
            marked=len(listed.detections),
            more=listed.next is not None,
        )

    @get("/exposures/{scored:uuid}/image.jpg", guards=[looks("read")])
    async def pixels(
        self,
        scored: FromPath[UUID],
        context: NamedDependency[Context],
        row: _Count = 0,
        column: _Count = 0,
        rows: _Count = _MOST_PIXELS,
        columns: _Count = _MOST_PIXELS,
    ) -> Response[bytes]:
        """A part of the image, in pixels of the exposure."""
        box = Box(row, column, rows, columns)
        return picture(await context.pictures.exposure(scored, box), "image/jpeg")
