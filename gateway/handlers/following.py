"""Following new detections."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from litestar.response import Stream

from astrotriton.detection.errors import InputError
from astrotriton.gateway.context import Context
from astrotriton.gateway.handlers.access import caller_of, requires
from astrotriton.gateway.handlers.answers import accepted, shown_fields
from astrotriton.gateway.handlers.queries import wanted_detections
from astrotriton.gateway.http.middleware import is_head
from astrotriton.gateway.http.openapi import StreamOperation, problems
from astrotriton.gateway.http.streams import STREAMS
from astrotriton.gateway.services.detections import Filter

_LAST = "Last-Event-ID"


class FollowController(Controller):
    """The stream of detections."""

    path = "/detections/stream"
    tags = ("detections",)

    @get(
        "/",
        summary="New detections as they are stored",
        operation_id="stream_detections",
        dependencies={"wanted": Provide(wanted_detections)},
        operation_class=StreamOperation,
        responses=problems(401, 403, 406, 429, 503),
        **requires("read"),
    )
    async def stream_detections(
        self,
        request: Request[Any, Any, Any],
        context: NamedDependency[Context],
        wanted: NamedDependency[Filter],
        columns: Annotated[
            str | None,
            QueryParameter(
                description="Fields of each detection, with commas between them; left out: all."
            ),
        ] = None,
        after: Annotated[
            UUID | None,
            QueryParameter(
                description="The id of the detection that you saw last, or "
                "`00000000-0000-0000-0000-000000000000` to begin with the first that there is; "
                "left out: what is stored from now on. The header `Last-Event-ID` comes before it."
            ),
        ] = None,
    ) -> Response[Any]:
        """Every detection that matches, in the order of commits: the list that goes on.

        Server-Sent Events: each event `detection` has a detection as JSON, and its id is the
        cursor. Who comes back with the last one as `Last-Event-ID`, as browsers do, goes on without
        a gap and without a repetition. `application/x-ndjson` has a line for each detection
        instead; come back with the `id` of the last one as `after`. A comment, or an empty line, is
        a heartbeat. A stream ends after some minutes, and when the gateway shuts down.
        """
        if wanted.disputed is not None:
            raise InputError(
                "invalid-request", "disputed", "leave it out: nothing new is known to be disputed"
            )
        kind = accepted(request, list(STREAMS))
        shown = shown_fields(columns)
        cursor = _cursor(request.headers.get(_LAST), after)
        with ExitStack() as held:
            held.enter_context(context.following.place(caller_of(request).subject))
            try:
                first = await context.following.begin(wanted, cursor)
            except InputError as error:
                if error.field == "after" and request.headers.get(_LAST):
                    raise InputError(error.code, _LAST, error.detail) from None
                raise
            if is_head(request.scope):
                return Response(b"", media_type=kind)
            chunks = STREAMS[kind](context.following.follow(wanted, first), shown)
            body = _holding(held.pop_all(), chunks)
        # It has begun, so that it gives its place back even if nobody ever reads on.
        await anext(body)
        # nginx, for one, would keep it until it had enough.
        return Stream(body, media_type=kind, headers={"X-Accel-Buffering": "no"})


async def _holding(
    held: ExitStack, chunks: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    with held:
        yield b""
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk


def _cursor(header: str | None, after: UUID | None) -> UUID | None:
    """Where the caller was; browsers come back with the header, and the query as it was.

    Raises
    ------
    InputError
        If the header has no id.
    """
    if not header:
        return after
    try:
        return UUID(header)
    except ValueError:
        raise InputError("bad-header", _LAST, "send the `id` of the event that came last") from None
