"""What a caller may do to a connection."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from astrotriton.gateway.http import connection
from astrotriton.gateway.http.connection import Connection


class Transport(asyncio.Transport):
    """Has as much to write as it is told, one look after the other."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self._sizes = list(sizes)
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self._sizes.pop(0)

    def abort(self) -> None:
        self.aborted.set()

    def is_closing(self) -> bool:
        return False


async def app(scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Answers more than any system buffers."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1000):
        await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setattr(connection, "_UNREAD", 0.01)
    config = uvicorn.Config(app, log_config=None)
    return Connection(
        config=config,
        server_state=ServerState(),
        app_state={},
        header_timeout=600.0,
        max_connections=10,
    )


async def test_a_caller_who_takes_nothing_of_its_answer_is_dropped(made: Connection) -> None:
    """One who takes some is waited for."""
    transport = Transport(100, 50, 50, 49, 49, 49)
    made.connection_made(transport)
    made.pause_writing()
    async with asyncio.timeout(60):
        await transport.aborted.wait()
    assert transport._sizes == []
    made.connection_lost(ConnectionAbortedError())


async def test_a_caller_who_takes_its_answer_is_left_alone(made: Connection) -> None:
    transport = Transport(100)
    made.connection_made(transport)
    made.pause_writing()
    made.resume_writing()
    assert made._unread is None
    made.connection_lost(ConnectionAbortedError())
    assert not transport.aborted.is_set()


async def test_a_connection_whose_answer_is_not_read_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_UNREAD", 0.1)
    http = partial(Connection, header_timeout=600.0, max_connections=10)
    config = uvicorn.Config(app, port=0, http=http, ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        while not server.server_state.total_requests and not server.server_state.tasks:
            await asyncio.sleep(0.01)
        while server.server_state.connections or server.server_state.tasks:
            await asyncio.sleep(0.01)
    writer.close()
    server.should_exit = True
    await serving
