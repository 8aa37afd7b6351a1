"""What every request of every endpoint is asked, before its handler reads it."""

from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from astrotriton.detection.errors import InputError
from astrotriton.gateway.errors import EncodingError

#: Bytes of a body of JSON, which nobody's share has; exposures come otherwise. The longest comment
#: on a label, every letter of it escaped, has 24 KB.
LARGEST_JSON = 64 * 1024


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Refuse what would otherwise be passed over: unknown parameters, and a body that is encoded.

    Raises
    ------
    InputError
        If the query has a parameter that the endpoint does not know, or one twice; it names it.
    EncodingError
        If the body is compressed, or encoded in another way.
    """
    known = _query_of(request.route_handler)
    seen: set[str] = set()
    for name, _ in parse_qsl(request.url.query, keep_blank_values=True):
        if name not in known:
            names = f"known are {', '.join(sorted(known))}" if known else "there are none here"
            raise InputError("invalid-request", name, f"no such query parameter; {names}")
        if name in seen:
            raise InputError("invalid-request", name, "give this query parameter once")
        seen.add(name)
    encodings = request.headers.getall("content-encoding", [])
    for encoding in ",".join(encodings).lower().split(","):
        if encoding.strip() not in ("", "identity"):
            raise EncodingError(
                f"the body is encoded by {encoding.strip()}: send it as it is; an exposure may be "
                "a .fz or .gz file itself"
            )


@cache
def _query_of(handler: BaseRouteHandler) -> frozenset[str]:
    """The names of the query parameters that a handler declares, or what it depends on."""
    signatures = [handler.parsed_fn_signature]
    for name, provider in handler.resolve_dependencies().items():
        if name in handler.parsed_fn_signature.parameters:
            signatures.append(provider.parsed_fn_signature)
    return frozenset(
        field.kwarg_definition.name or name
        for signature in signatures
        for name, field in signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    )
