"""How a request arrives: with few headers, steadily, and to its end even if it is refused."""

import asyncio
import contextlib

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, ReceiveMessage, Scope, Send

from astrotriton.gateway.errors import HeadersTooLargeError, UploadTimeoutError
from astrotriton.gateway.http.problems import problem_answer
from astrotriton.gateway.pace import Pace
from astrotriton.gateway.settings import GatewaySettings


class ArrivalMiddleware:
    """Bounds what comes, before and while the application reads it.

    A request with too many or too large headers is refused. A body that stands still, or comes more
    slowly than it must, is given up: the application's `receive` raises `UploadTimeoutError`. An
    answer before the body's end leaves at once, and only then the rest of the body is read and
    thrown away, within bounds: a connection closed over unread bytes is reset, and the answer lost
    with it.

    Parameters
    ----------
    app
        The application.
    settings
        Have the bounds.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        pace = Pace(self._settings.min_upload_rate, self._settings.upload_grace)
        body = Body(receive, pace)
        answer = _Answer(send, body, _waits(scope), self._settings)
        if (fault := self._fault(scope)) is not None:
            await _say(fault, answer.send)
        else:
            await self._app(scope, body.receive, answer.send)

    def _fault(self, scope: Scope) -> HeadersTooLargeError | None:
        """What is wrong with the headers; h11 has bounded no more than what it must keep."""
        most, most_bytes = self._settings.max_headers, self._settings.max_header_bytes
        headers = list(scope["headers"])
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in headers)
        if len(headers) > most:
            return HeadersTooLargeError(f"{len(headers)} headers; at most {most}")
        if size > most_bytes:
            return HeadersTooLargeError(
                f"the path, its query and the headers have {size} bytes; at most {most_bytes}"
            )
        return None


class Body:
    """A request's body, which must keep coming.

    Parameters
    ----------
    receive
        The server's.
    pace
        How fast it must.

    Attributes
    ----------
    ended
        Whether all of it has come, or the caller has left.
    """

    def __init__(self, receive: Receive, pace: Pace) -> None:
        self._receive = receive
        self._pace = pace
        self.ended = False

    def renew(self) -> None:
        """Give the caller as much time in hand as at first."""
        self._pace.renew()

    async def receive(self) -> ReceiveMessage:
        """The next message of the server.

        Raises
        ------
        UploadTimeoutError
            If the body comes too slowly.
        """
        if self.ended:
            return await self._receive()
        message = await self._pace.wait(self._receive(), lambda came: len(_content(came)))
        self.ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def _content(message: ReceiveMessage) -> bytes:
    return message["body"] if message["type"] == "http.request" else b""


class _Answer:
    """Sends an answer, and reads what is left of the request before it ends."""

    def __init__(self, send: Send, body: Body, waits: bool, settings: GatewaySettings) -> None:
        self._send = send
        self._body = body
        self._waits = waits
        self._seconds = settings.linger_timeout
        # One who sends somewhat more than it may gets the answer, too.
        self._most = 2 * settings.max_body
        self._early = False

    async def send(self, message: Message) -> None:
        """Send a message of the application."""
        if message["type"] == "http.response.start":
            if not self._waits:
                await self._throw_away(0.0)
            headers = list(message.get("headers", []))
            # Only an answer that says its length is complete without its last message.
            self._early = not self._body.ended and any(
                name.lower() == b"content-length" for name, _ in headers
            )
            if not self._body.ended:
                message["headers"] = [*headers, (b"connection", b"close")]
        elif (
            self._early
            and message["type"] == "http.response.body"
            and not message.get("more_body", False)
        ):
            message["more_body"] = True
            await self._send(message)
            # One who was too slow, too, still sends.
            self._body.renew()
            await self._throw_away(self._seconds)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _throw_away(self, seconds: float) -> None:
        """Read on, so long at most; with 0, what has come already."""
        thrown = 0
        with contextlib.suppress(TimeoutError, UploadTimeoutError):
            async with asyncio.timeout(seconds):
                while not self._body.ended and thrown <= self._most:
                    thrown += len(_content(await self._body.receive()))


def _waits(scope: Scope) -> bool:
    """Whether the caller sends its body only once it is asked to, as reading would do."""
    return any(
        name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"]
    )


async def _say(error: HeadersTooLargeError, send: Send) -> None:
    headers, body = problem_answer(error)
    start: Message = {"type": "http.response.start", "status": error.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})
