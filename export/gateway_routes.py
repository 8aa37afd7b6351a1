"""The gateway's routes: which version answers, and which one is tried beside it."""

from collections.abc import Mapping
from typing import Literal, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from astrotriton.export.errors import ServingError
from astrotriton.wire.agreement import Agreement
from astrotriton.wire.models import RoutePrevalence
from astrotriton.wire.performance import Performance

Mode = Literal["shadow", "canary"]

T = TypeVar("T")

_TIMEOUT = 120.0


class Challenger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version that is tried.

    Attributes
    ----------
    version
        The version.
    mode
        ``shadow``: scored too, and never answered; ``canary``: answers a share of the runs.
    fraction
        That share of the runs, 0 to 1.
    automatic
        Whether the gateway ends it by itself: it sets the share, step by step, and makes the
        version the champion or sends it back.
    """

    version: int
    mode: Mode
    fraction: float
    automatic: bool = False


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """A canary that ends by itself, as the gateway tells of it.

    Attributes
    ----------
    champion, challenger
        The versions.
    status
        ``running``, ``promoted``, ``sent-back`` or, if the route was changed by somebody else,
        ``ended``.
    fraction
        Share of the runs that the challenger answers.
    reason
        What it waits for, or why it ended.
    """

    champion: int
    challenger: int
    status: Literal["running", "promoted", "sent-back", "ended"]
    fraction: float
    reason: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions of a model the gateway asks."""

    champion: int
    challenger: Challenger | None = None


class UncertainError(ServingError):
    """The gateway did not answer, so that the route may or may not have changed."""


class Gateway:
    """A client of the gateway's routes.

    Parameters
    ----------
    url
        Of the HTTP service.
    token
        With the scope ``admin``; None where the gateway asks for none.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def performance(self, name: str, version: int, window: str) -> Performance:
        """How a version does, over a window of time.

        Raises
        ------
        ServingError
            If the gateway refuses, or does not answer.
        """
        path = f"{quote(f'{name}:{version}', safe='')}/performance"
        return self._read(self._ask("GET", path, params={"window": window}), Performance)

    def agreement(self, name: str, one: int, other: int, window: str) -> Agreement:
        """How far two versions agree on exposures that both have scored.

        Raises
        ------
        ServingError
            If the gateway refuses, or does not answer.
        """
        path = f"{quote(f'{name}:{one}', safe='')}/agreement"
        params = {"with": f"{name}:{other}", "window": window}
        return self._read(self._ask("GET", path, params=params), Agreement)

    def route(self, name: str) -> Route | None:
        """The route of a model; None if it has none yet.

        Raises
        ------
        ServingError
            If the gateway refuses, or does not answer.
        """
        answer = self._ask("GET", _path_of(name))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._read(answer, Route)

    def canary(self, name: str) -> Canary | None:
        """The last canary of a model that was to end by itself; None if there was none.

        Raises
        ------
        ServingError
            If the gateway refuses, or does not answer.
        """
        answer = self._ask("GET", _path_of(name, "canary"))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._read(answer, Canary)

    def set_route(self, name: str, route: Route) -> Route:
        """Have the gateway ask other versions from the next run on.

        Raises
        ------
        ServingError
            If the gateway refuses, so that the route is as it was.
        UncertainError
            If it does not answer.
        """
        return self._read(self._ask("PUT", _path_of(name), msgspec.json.encode(route)), Route)

    def set_prevalence(self, name: str, prevalence: float | Literal["estimated"] | None) -> None:
        """State what share of the sources is real where a request says none.

        Raises
        ------
        ServingError
            If the gateway refuses, or does not answer.
        """
        body = msgspec.json.encode({"prevalence": prevalence})
        answer = self._ask("PUT", _path_of(name, "prevalence"), body)
        self._read(answer, RoutePrevalence)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        try:
            return httpx.request(
                method,
                f"{self.url}/models/{path}",
                content=body,
                params=params,
                headers=headers,
                timeout=_TIMEOUT,
                follow_redirects=True,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UncertainError(
                f"the gateway at {self.url} does not answer; start it, or set"
                f" ASTROTRITON_GATEWAY_URL ({error})"
            ) from error

    def _read(self, answer: httpx.Response, kind: type[T]) -> T:
        if not answer.is_success:
            try:
                detail = answer.json()["detail"]
            except (ValueError, KeyError, TypeError):
                detail = answer.text[:300]
            fault = UncertainError if answer.status_code >= 500 else ServingError
            raise fault(f"the gateway at {self.url} answers {answer.status_code}: {detail}")
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.DecodeError as error:
            raise ServingError(
                f"the gateway at {self.url} answers no {kind.__name__.lower()}: {error}"
            ) from error


def _path_of(name: str, what: str = "route") -> str:
    return f"{quote(name, safe='')}/{what}"
