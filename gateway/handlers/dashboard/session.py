"""Who may look: the form to log in, the cookie that it sets, and the guards of the pages."""

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from litestar import Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter, URLEncodedBody
from litestar.response import Redirect
from litestar.types import Guard

from astrotriton.gateway.context import Context
from astrotriton.gateway.errors import (
    ForbiddenError,
    GatewayError,
    problem_of,
)
from astrotriton.gateway.handlers.dashboard.page import HOME, LARGEST_FORM, PageController, page
from astrotriton.gateway.keys import Scope

COOKIE = "astrotriton_key"

_WITHIN = re.compile(rf"{HOME}[A-Za-z0-9/?&=._:%-]*")


class LoginForm(msgspec.Struct, frozen=True):
    """What the form to log in sends."""

    key: str = ""
    next: str = HOME


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


class SessionController(PageController):
    """Logging in and out."""

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

    @post("/login", guards=[from_here], request_max_body_size=LARGEST_FORM)
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

    @post("/logout", guards=[from_here], request_max_body_size=LARGEST_FORM)
    async def logout(self) -> Response[Any]:
        """Forget the key."""
        answer = Redirect(f"{HOME}/login", status_code=303)
        answer.delete_cookie(COOKIE, path=HOME)
        return answer


def _within(path: str) -> str:
    """A page of ours to go on to."""
    return path if _WITHIN.fullmatch(path) else HOME


def _encrypted(request: Request[Any, Any, Any]) -> bool:
    """Whether the browser asked by https; a proxy says so, and a lie only harms the liar."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
