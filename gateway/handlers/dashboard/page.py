"""What every page of the dashboard has: its headers, its context, and what it says of an error."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from litestar import Controller, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.response import Redirect, Template

from astrotriton.detection.errors import InputError
from astrotriton.gateway.context import Context
from astrotriton.gateway.errors import (
    GatewayError,
    UnauthenticatedError,
    problem_of,
)
from astrotriton.gateway.services.access import Identity

HOME = "/dashboard"
#: Bytes of a form.
LARGEST_FORM = 16_384

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_OF_SCRIPTED = f"{_POLICY}; script-src 'self'; connect-src 'self'"
_PAGE = {
    # With none at all, browsers would not say where a form comes from.
    "Referrer-Policy": "same-origin",
}


def page(
    request: Request[Any, Any, Any],
    name: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    scripted: bool = False,
    **values: Any,
) -> Template:
    """A page from its template.

    Parameters
    ----------
    scripted
        Whether it may run the site's own script; other pages may run none.
    """
    context: Context = request.app.state.context
    identity: Identity | None = request.state.get("identity")
    return Template(
        f"{name}.html",
        status_code=status,
        headers={
            "Content-Security-Policy": _OF_SCRIPTED if scripted else _POLICY,
            **_PAGE,
            **(headers or {}),
        },
        context={
            "here": name,
            "scripted": scripted,
            "now": datetime.now(UTC),
            "identity": identity,
            "closed": context.settings.auth != "off",
            **values,
        },
    )


def say_what_is_wrong(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """An error as a page; whoever must say who they are is sent to do so."""
    if isinstance(error, UnauthenticatedError) and request.method == "GET":
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Redirect(f"{HOME}/login?next={quote(asked)}", status_code=303)
    problem = problem_of(error)
    headers = error.headers if isinstance(error, GatewayError) else {}
    return page(request, "error", problem.status, headers, problem=problem)


class PageController(Controller):
    """Pages that people look at."""

    path = HOME
    include_in_schema = False
    exception_handlers = dict.fromkeys(
        (InputError, GatewayError, ValidationException, HTTPException, Exception),
        say_what_is_wrong,
    )
