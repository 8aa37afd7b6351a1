"""Labels, to be taken elsewhere."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from astrotriton.gateway.context import Context
from astrotriton.gateway.handlers.access import requires
from astrotriton.gateway.handlers.answers import accepted, linked
from astrotriton.gateway.handlers.queries import ExposureName, ModelVersion, moment
from astrotriton.gateway.http.formats import CSV, labels_csv
from astrotriton.gateway.http.openapi import LabelsOperation, problems
from astrotriton.gateway.services.labels import LabelFilter
from astrotriton.wire.detections import Label
from astrotriton.wire.labels import LabelPage, StoredLabel

_JSON = "application/json"


class LabelController(Controller):
    """What people said of detections."""

    path = "/labels"
    tags = ("detections",)

    @get(
        "/",
        summary="Labels that match",
        operation_id="list_labels",
        operation_class=LabelsOperation,
        responses=problems(401, 403, 406, 429, 503),
        **requires("read"),
    )
    async def list_labels(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        label: Annotated[Label | None, QueryParameter()] = None,
        author: Annotated[
            str | None,
            QueryParameter(
                description="Who gave them.", max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$"
            ),
        ] = None,
        run_id: Annotated[UUID | None, QueryParameter()] = None,
        exposure: ExposureName = None,
        model_version: ModelVersion = None,
        since: Annotated[
            str | None,
            QueryParameter(
                description="Given at this time or later, RFC 3339.", format="date-time"
            ),
        ] = None,
        until: Annotated[
            str | None,
            QueryParameter(description="Given before this time, RFC 3339.", format="date-time"),
        ] = None,
        history: Annotated[
            bool,
            QueryParameter(
                description="Also what the same person said before, and labels taken back; without "
                "it, what each person said of a detection last."
            ),
        ] = False,
        after: Annotated[
            UUID | None, QueryParameter(description="`next` of the page before.")
        ] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    ) -> Response[LabelPage]:
        """A page of them, the earliest first, each with the detection that it is of.

        `next` is the id of a label and stays good: who comes back with it sees what was said since.
        """
        kind = accepted(request, (_JSON, CSV))
        wanted = LabelFilter(
            label=label,
            author=author,
            run_id=run_id,
            exposure=exposure,
            model_version=model_version,
            since=moment("since", since),
            until=moment("until", until),
            history=history,
        )
        page = await context.labels.find(wanted, after, limit)
        answer: Response[Any] = (
            Response(page) if kind == _JSON else Response(labels_csv(page.labels), media_type=CSV)
        )
        return linked(answer, request, page.next)


async def as_csv(pages: AsyncIterator[list[StoredLabel]]) -> AsyncIterator[bytes]:
    """All labels of pages as one CSV file."""
    first = True
    async for labels in pages:
        yield labels_csv(labels, heading=first)
        first = False


async def as_json(pages: AsyncIterator[list[StoredLabel]]) -> AsyncIterator[bytes]:
    """All labels of pages as one array of JSON."""
    before = b"[\n"
    async for labels in pages:
        for one in labels:
            yield before + msgspec.json.encode(one)
            before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
