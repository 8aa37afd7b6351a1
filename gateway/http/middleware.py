"""What every request and every answer goes through, errors and unknown paths too."""

import re
import time
from collections.abc import Awaitable, Callable

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from astrotriton.gateway.observability.logs import request_id
from astrotriton.gateway.observability.metrics import REQUESTS

_REQUEST_ID = b"x-request-id"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,128}")

# An answer of the API is data and nothing that a browser should render, frame or keep.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_OF_DATA = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# The page of the OpenAPI document starts by a script in it.
_OF_PAGES = (
    b"content-security-policy",
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
)
_NOT_KEPT = (b"cache-control", b"no-store")
_BODILESS = "astrotriton.bodiless"


class EdgeMiddleware:
    """Gives each request an id, the caller's own if it has one, and each answer its headers.

    HEAD is answered as GET is (RFC 9110, section 9.3.2); the server leaves the body out. It wraps
    the application from outside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # A copy, for the server knows by its own that no body is to be sent.
            state = {**scope.get("state", {}), _BODILESS: True}
            scope = {**scope, "method": HttpMethod.GET.value, "state": state}
        given = dict(scope["headers"]).get(_REQUEST_ID, b"").decode("latin-1")
        identity = given if _ACCEPTABLE.fullmatch(given) else str(uuid7())
        token = request_id.set(identity)
        try:
            await self._app(scope, receive, _with_headers(scope, send, identity))
        finally:
            request_id.reset(token)


def _with_headers(scope: Scope, send: Send, identity: str) -> Callable[[Message], Awaitable[None]]:
    started = time.perf_counter()

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            _measure(scope, message["status"], time.perf_counter() - started)
            headers = [*message.get("headers", []), (_REQUEST_ID, identity.encode())]
            names = {name.lower(): value for name, value in headers}
            page = names.get(b"content-type", b"").startswith(b"text/html")
            defaults = [*_HEADERS, _OF_PAGES if page else _OF_DATA]
            if b"etag" not in names:
                defaults.append(_NOT_KEPT)
            headers += [default for default in defaults if default[0] not in names]
            message = {**message, "headers": headers}
        await send(message)

    return send_with_headers


def is_head(scope: Scope) -> bool:
    """Whether the answer's body is left out: one without an end need not be begun."""
    return bool(scope["state"].get(_BODILESS))


async def name_methods(message: Message, scope: Scope) -> None:
    """Let the answer to OPTIONS name every method of a path; Litestar's own names the first."""
    if message["type"] == "http.response.start" and message["status"] == 204:
        methods = set(scope["litestar_app"].route_handler_method_map[scope["path_template"]])
        if "GET" in methods:
            methods.add("HEAD")
        MutableScopeHeaders.from_message(message)["Allow"] = ", ".join(sorted(methods))


def _measure(scope: Scope, status: int, seconds: float) -> None:
    # The template of the path, so that ids in it don't make a series each.
    path = str(scope.get("path_template") or "unmatched")
    method = str(scope.get("method")) if path != "unmatched" else "any"
    REQUESTS.labels(method, path, status).observe(seconds)
