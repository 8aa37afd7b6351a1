"""A connection with bounds: on the size of what heads a request, and on the time that it takes."""

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from astrotriton.gateway.errors import (
    GatewayError,
    HeadersTooLargeError,
    HeaderTimeoutError,
    MalformedBodyError,
    TransferError,
)
from astrotriton.gateway.http.problems import problem_answer

# What is still read of a request that could not be understood, so that the answer arrives: closing
# at once would make the caller's system throw the answer away.
_LINGER = 5.0
_LINGER_BYTES = 1024 * 1024
_LAST_LOOK = 0.05
_UNREAD = 30.0  # seconds in which a caller must take some of an answer that waits for it


class Connection(H11Protocol):
    """uvicorn's connection, which h11 bounds in size, with what both lack.

    A request's line and headers must be complete some seconds after the connection was made, or
    after their first byte on one that is used again. Where there are too many connections, one that
    has its answer and still sends is dropped for the new one, or else the one whose headers have
    been missing longest; where the gateway works for all of them, the new one is dropped. A request
    that cannot be understood is answered with problem details. A caller who takes nothing of its
    answer for a while is dropped, too.

    Parameters
    ----------
    header_timeout
        Seconds for a request's line and headers.
    max_connections
        Most connections at a time.
    given
        What uvicorn gives its protocols.
    """

    def __init__(self, *, header_timeout: float, max_connections: int, **given: Any) -> None:
        super().__init__(**given)
        self._header_timeout = header_timeout
        self._max_connections = max_connections
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._refused = False
        self._thrown_away = 0

    @property
    def awaited_until(self) -> float | None:
        """When a request must be there, on the loop's clock; None while one is worked on."""
        # It has its answer, and what it still sends is thrown away.
        if self.conn.our_state is h11.SEND_BODY and self.conn.their_state is h11.SEND_BODY:
            return 0.0
        timer = self._timer or self.timeout_keep_alive_task
        return None if timer is None else timer.when()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Await a request, in the place of another connection if need be."""
        if len(self.connections) >= self._max_connections and not self._make_room():
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._timer = self.loop.call_later(self._header_timeout, self._look_again)

    def _make_room(self) -> bool:
        """Drop another connection, if there is one that nobody works for."""
        awaited = [
            (one.awaited_until, one)
            for one in self.connections
            if isinstance(one, Connection) and one.awaited_until is not None
        ]
        if not awaited:
            return False
        _, slowest = min(awaited, key=lambda pair: pair[0])
        # The loop tells it later that it is lost, and more may be made until then.
        self.connections.discard(slowest)
        slowest.transport.abort()
        return True

    def data_received(self, data: bytes) -> None:
        """Take what has come, and see whether a request's headers are complete by now."""
        if self._refused:
            self._thrown_away += len(data)
            if self._thrown_away > _LINGER_BYTES:
                self.transport.abort()
            return
        super().data_received(data)
        if self._refused:
            return
        # Done is a connection whose answer came before the end of the request.
        if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
            if self._timer is None:
                self._timer = self.loop.call_later(self._header_timeout, self._look_again)
        else:
            self._forget_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget_timer()
        self._forget_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See to it that the caller takes what waits for it."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Write on."""
        self._forget_unread()
        super().resume_writing()

    def _watch_reader(self) -> None:
        self._unread = self.loop.call_later(
            _UNREAD, self._see_it_read, self.transport.get_write_buffer_size()
        )

    def _see_it_read(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._watch_reader()
        else:
            self.transport.abort()

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """Answer a request that h11 cannot understand, or that is larger than h11 takes."""
        error = sys.exception()
        hint = getattr(error, "error_status_hint", 400)
        if hint == HeadersTooLargeError.status:
            most = self.config.h11_max_incomplete_event_size
            self._refuse(HeadersTooLargeError(f"the request's headers have over {most} bytes"))
        elif hint == TransferError.status:
            self._refuse(TransferError("send the body with Content-Length, or chunked and no more"))
        else:
            self._refuse(MalformedBodyError(f"not HTTP/1.1: {error or msg}"))

    def _look_again(self) -> None:
        # If this process was busy, what has come meanwhile is read before this is called back.
        self._timer = self.loop.call_later(_LAST_LOOK, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(
                HeaderTimeoutError(f"the headers took over {self._header_timeout:g} s: send faster")
            )
        else:
            self.transport.close()

    def _refuse(self, error: GatewayError) -> None:
        """Answer, and close once the caller has had time to read it."""
        self._refused = True
        self._forget_timer()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        headers, body = problem_answer(error)
        headers.append((b"connection", b"close"))
        for event in (
            h11.Response(status_code=error.status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        # A large body may have paused it.
        self.flow.resume_reading()
        self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER, self.transport.abort)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
