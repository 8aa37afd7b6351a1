"""Answers in the format that the caller accepts."""

from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request, Response
from litestar.datastructures.headers import MediaTypeHeader

from astrotriton.gateway.compute import compute
from astrotriton.gateway.errors import NotAcceptableError
from astrotriton.gateway.handlers.queries import names
from astrotriton.gateway.http.formats import FITS, WRITERS, Listing, columns_of_stored
from astrotriton.wire.detections import DetectionPage, ScoredDetection, StoredDetection
from astrotriton.wire.runs import InferResponse

_Body = TypeVar("_Body")
_JSON = "application/json"


def accepted(request: Request[Any, Any, Any], kinds: Sequence[str] = (_JSON, *WRITERS)) -> str:
    """The format of those that there are which the caller likes best (RFC 9110, 12.5.1).

    Parameters
    ----------
    kinds
        Those that there are; the first one is for callers who do not mind.

    Raises
    ------
    NotAcceptableError
        If it accepts none of them.
    """
    said = ",".join(request.headers.getall("accept", []))
    ranges = [MediaTypeHeader(one) for one in said.split(",") if one.strip()]
    if not ranges:
        return kinds[0]
    liked = {kind: _liking(kind, ranges) for kind in kinds}
    best = max(kinds, key=lambda kind: liked[kind])
    if liked[best] == (0.0, 0):
        raise NotAcceptableError(f"accept one of {', '.join(kinds)}")
    return best


def _liking(kind: str, ranges: Sequence[MediaTypeHeader]) -> tuple[float, int]:
    """How much a caller likes a format, and by how exact a name; nothing if it takes none."""
    matching = [one for one in ranges if one.match(MediaTypeHeader(kind))]
    if not matching:
        return 0.0, 0
    most_exact = max(matching, key=lambda one: one.priority[1])
    try:
        quality = float(most_exact.params.get("q", 1.0))
    except ValueError:
        quality = 1.0
    return (quality, most_exact.priority[1]) if quality > 0.0 else (0.0, 0)


async def detections_as(
    kind: str,
    body: _Body,
    detections: Sequence[ScoredDetection],
    row: type[ScoredDetection],
    run: InferResponse | None = None,
) -> Response[Any]:
    """A body that lists detections; or, in another format, only these and what their run says."""
    if kind == _JSON:
        return Response(body)
    written = await compute(WRITERS[kind], Listing(detections, row, run))
    return Response(written, media_type=kind)


def shown_columns(kind: str, given: str | None) -> tuple[str, ...] | None:
    """The fields of stored detections that a caller wants in a format; None: all.

    Raises
    ------
    InputError
        If one is none of them.
    """
    if given is None:
        return None
    known = StoredDetection.__struct_fields__ if kind == _JSON else columns_of_stored()
    return names("columns", given, known)


def shown_fields(given: str | None) -> tuple[str, ...] | None:
    """The fields of stored detections that a caller wants in JSON; None: all.

    Raises
    ------
    InputError
        If one is none of them.
    """
    return shown_columns(_JSON, given)


async def page_as(kind: str, page: DetectionPage, shown: tuple[str, ...] | None) -> Response[Any]:
    """A page of detections, with some of their fields alone, or their rows in another format."""
    if kind == _JSON:
        if shown is None:
            return Response(page)
        rows = [{name: getattr(one, name) for name in shown} for one in page.detections]
        return Response({"detections": rows, "next": page.next})
    listing = Listing(page.detections, StoredDetection, shown=shown)
    return Response(await compute(WRITERS[kind], listing), media_type=kind)


def linked(
    answer: Response[Any], request: Request[Any, Any, Any], after: UUID | None
) -> Response[Any]:
    """A page that leads to the following one, if there is one (RFC 8288)."""
    if after is not None:
        asked = request.query_params.multi_items()
        kept = [(name, value) for name, value in asked if name != "after"]
        query = urlencode([*kept, ("after", after)])
        answer.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return answer


def picture(content: bytes, kind: str = "image/png") -> Response[bytes]:
    """A picture of what never changes: a caller's own browser may keep it for a day."""
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=86400"})


def cutout_file(content: bytes, detection_id: UUID) -> Response[bytes]:
    """The FITS file of a cut-out, to be saved under a name of its own."""
    answer = picture(content, FITS)
    answer.headers["Content-Disposition"] = f'attachment; filename="cutout-{detection_id}.fits"'
    return answer
