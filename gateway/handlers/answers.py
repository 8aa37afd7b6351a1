"""Answers in the format that the caller accepts."""

from collections.abc import Sequence
from typing import Any, TypeVar

from litestar import Request, Response

from astrotriton.gateway.compute import compute
from astrotriton.gateway.errors import NotAcceptableError
from astrotriton.gateway.http.formats import WRITERS, Listing
from astrotriton.wire.detections import ScoredDetection
from astrotriton.wire.runs import InferResponse

_Body = TypeVar("_Body")
_JSON = "application/json"


def accepted(request: Request[Any, Any, Any]) -> str:
    """The format of those that there are which the caller likes best.

    Raises
    ------
    NotAcceptableError
        If it accepts none of them.
    """
    kinds = [_JSON, *WRITERS]
    found = request.accept.best_match(kinds) if request.headers.get("accept") else _JSON
    if found is None:
        raise NotAcceptableError(f"accept one of {', '.join(kinds)}")
    return found


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


def picture(png: bytes) -> Response[bytes]:
    """A PNG of what never changes: a caller's own browser may keep it for a day."""
    return Response(
        png, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"}
    )
