"""MLflow's registry tells that a version got an alias, and the version is promoted.

MLflow signs what it sends as Standard Webhooks do (https://www.standardwebhooks.com): HMAC-SHA256
of ``delivery.timestamp.body`` under a secret that both know.
"""

import base64
import binascii
import hashlib
import hmac
import http.server
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

import httpx
import msgspec
from mlflow.webhooks.constants import (
    WEBHOOK_DELIVERY_ID_HEADER,
    WEBHOOK_SIGNATURE_HEADER,
    WEBHOOK_TIMESTAMP_HEADER,
)

from astrotriton.wire.models import served_name

#: Seconds that a message may be on its way; older ones may be somebody's recording.
TOLERANCE = 300.0
#: Bytes of the largest message.
LARGEST = 64 * 1024

_WAITING = 100  # promotions
_PATIENCE = 10.0  # seconds between two pieces of a request
_log = logging.getLogger(__name__)


class _Alias(msgspec.Struct):
    name: str
    alias: str
    version: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,8}$")]


class _Message(msgspec.Struct):
    entity: str
    action: str
    data: msgspec.Raw


class RefusedError(Exception):
    """A message that is not believed, or not understood.

    Parameters
    ----------
    status
        What to answer.
    reason
        Why.
    """

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class AliasSet:
    """A version that got an alias; ``name`` is the model's in MLflow."""

    name: str
    version: int


@dataclass(slots=True)
class Receiver:
    """Believes MLflow's messages, each once.

    Attributes
    ----------
    secret
        That the webhook was made with.
    name, alias
        The model, as it is served, and the alias that are waited for.
    clock
        Seconds since 1970.
    """

    secret: str
    name: str
    alias: str
    clock: Callable[[], float] = time.time
    _seen: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self, headers: Mapping[str, str], body: bytes) -> AliasSet | None:
        """The version that a message is about; None if it is about something else.

        Parameters
        ----------
        headers
            By their names, as MLflow writes them or in any case.
        body
            As it came.

        Raises
        ------
        RefusedError
            If its signature is wrong, it is too old, or came before; or it is no message.
        """
        delivery = headers.get(WEBHOOK_DELIVERY_ID_HEADER, "")
        sent = headers.get(WEBHOOK_TIMESTAMP_HEADER, "")
        signature = headers.get(WEBHOOK_SIGNATURE_HEADER, "")
        if not hmac.compare_digest(self._signature(delivery, sent, body), _decoded(signature)):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "the signature is not of this secret")
        now = self.clock()
        if not sent.isdecimal() or abs(now - int(sent)) > TOLERANCE:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "it was signed too long ago, or in future")
        try:
            message = msgspec.json.decode(body, type=_Message)
            if (message.entity, message.action) != ("model_version_alias", "created"):
                return None
            told = msgspec.json.decode(message.data, type=_Alias)
        except msgspec.DecodeError as error:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, f"not a message of MLflow: {error}"
            ) from None
        if told.alias != self.alias or served_name(told.name) != self.name:
            return None
        with self._lock:
            self._seen = {one: at for one, at in self._seen.items() if now - at <= 2 * TOLERANCE}
            if delivery in self._seen:
                raise RefusedError(HTTPStatus.CONFLICT, "it came before")
            self._seen[delivery] = now
        return AliasSet(told.name, int(told.version))

    def forget(self, headers: Mapping[str, str]) -> None:
        """Have a message count that could not be acted upon, when it comes again."""
        with self._lock:
            self._seen.pop(headers.get(WEBHOOK_DELIVERY_ID_HEADER, ""), None)

    def _signature(self, delivery: str, sent: str, body: bytes) -> bytes:
        signed = f"{delivery}.{sent}.".encode() + body
        return hmac.new(self.secret.encode(), signed, hashlib.sha256).digest()


def _decoded(signature: str) -> bytes:
    version, _, encoded = signature.partition(",")
    try:
        return base64.b64decode(encoded, validate=True) if version == "v1" else b""
    except (binascii.Error, ValueError):
        return b""


class Listener:
    """A server of HTTP that has versions promoted, one after another.

    Parameters
    ----------
    address
        Host and port; port 0 takes a free one.
    receiver
        Says which messages count.
    promote
        Promotes a version; it is called in a thread of its own, and what it raises is logged.
    """

    def __init__(
        self, address: tuple[str, int], receiver: Receiver, promote: Callable[[AliasSet], None]
    ) -> None:
        self._promote = promote
        self._waiting: queue.Queue[AliasSet] = queue.Queue(_WAITING)
        self._server = http.server.ThreadingHTTPServer(address, _handler(receiver, self._waiting))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def run(self) -> None:
        """Serve until `stop` is called, or the process is interrupted."""
        threading.Thread(target=self._work, name="promotes", daemon=True).start()
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()

    def stop(self) -> None:
        """End `run`; from another thread."""
        self._server.shutdown()

    def _work(self) -> None:
        while True:
            version = self._waiting.get()
            try:
                self._promote(version)
            except Exception:
                _log.exception("version %d of %r was not promoted", version.version, version.name)


def _handler(
    receiver: Receiver, waiting: "queue.Queue[AliasSet]"
) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = _PATIENCE

        def do_POST(self) -> None:
            headers = httpx.Headers(list(self.headers.items()))
            try:
                found = receiver.receive(headers, self._body())
                if found is None:
                    self._answer(HTTPStatus.OK, "nothing to be done")
                    return
                waiting.put_nowait(found)
            except RefusedError as error:
                _log.warning("refused a message from %s: %s", self.address_string(), error)
                self._answer(error.status, str(error))
            except queue.Full:
                receiver.forget(headers)
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "too many versions wait")
            else:
                self._answer(HTTPStatus.ACCEPTED, f"version {found.version} will be promoted")

        def _body(self) -> bytes:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():
                raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "say the Content-Length")
            if int(length) > LARGEST:
                raise RefusedError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LARGEST} bytes are read"
                )
            return self.rfile.read(int(length))

        def _answer(self, status: HTTPStatus, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            _log.debug(format, *args)

    return Handler
