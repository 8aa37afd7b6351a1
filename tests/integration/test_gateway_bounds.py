"""What hurts a gateway by the way it is sent: too much, too slowly, never to its end, or unread."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from astrotriton.gateway.http.formats import ECSV, VOTABLE
from astrotriton.gateway.keys import new_key
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.api_keys import insert_key
from tests.integration.gateway_parts import (
    NAME,
    SOURCES,
    exposure,
    held_by,
    infer,
    npy,
    serve,
)

_FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"


@pytest.fixture
def hasty(settings: GatewaySettings) -> GatewaySettings:
    """A gateway that waits for nobody long."""
    return settings.model_copy(
        update={"upload_grace": 1.5, "max_held_bytes": 3 * settings.max_body}
    )


def resident() -> int:
    """Bytes of memory of this process, which the gateway runs in."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def post(*headers: bytes, path: bytes = b"/detections/infer") -> bytes:
    return b"".join([b"POST ", path, b" HTTP/1.1\r\nHost: here\r\n", *headers, b"\r\n"])


class Raw:
    """A connection on which a test says what is sent, and when."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self._writer.write(part)
            await self._writer.drain()

    async def until(self, part: bytes) -> bytes:
        """What comes, to the end of this."""
        async with asyncio.timeout(60):
            return await self._reader.readuntil(part)

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and problem of the answer, once the gateway has closed the connection."""
        content = b""
        # One who still sends when the gateway closes is reset, after the answer.
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                while piece := await self._reader.read(65536):
                    content += piece
        head, _, body = content.partition(b"\r\n\r\n")
        return (int(head.split()[1]), json.loads(body)) if head else (0, {})


@asynccontextmanager
async def raw(settings: GatewaySettings, count: int = 1) -> AsyncIterator[list[Raw]]:
    opened = await asyncio.gather(
        *(asyncio.open_connection(settings.host, settings.port) for _ in range(count))
    )
    try:
        yield [Raw(*one) for one in opened]
    finally:
        for _, writer in opened:
            writer.close()


async def test_headers_are_bounded_in_number_and_size(hasty):
    async with serve(hasty) as client:
        many = await client.get("/health/live", headers={f"h{i}": "a" for i in range(200)})
        large = await client.get("/health/live", headers={"h": "a" * 40_000})
        # More than is read at a time, so that it is refused before it is complete.
        larger = await client.get("/health/live", headers={"h": "a" * 700_000})
        path = await client.get("/health/live?" + 40_000 * "a")
        for answer in (many, large, larger, path):
            assert answer.status_code == 431, answer.text
            assert answer.json()["type"].endswith(":headers-too-large")
            assert answer.headers["content-type"] == "application/problem+json"

        before = resident()
        # Those of a request, and those after a body that comes in chunks.
        chunked = post(b"Transfer-Encoding: chunked\r\n", _FORM) + b"0\r\n"
        for begin in (b"GET / HTTP/1.1\r\nHost: here\r\n", chunked):
            async with raw(hasty) as (connection,):
                with pytest.raises(ConnectionError):
                    await flood(connection, begin)
        # The client floods from this process, too.
        assert resident() - before < 250_000_000
        assert (await client.get("/health/live")).status_code == 200


async def flood(connection: Raw, begin: bytes) -> None:
    """500 MB of headers."""
    await connection.send(begin)
    for _ in range(5000):
        await connection.send(b"h: " + 100_000 * b"a" + b"\r\n")


async def test_headers_that_never_end_are_given_up(hasty):
    hasty = hasty.model_copy(update={"header_timeout": 1.0})
    async with serve(hasty) as client, raw(hasty, 3) as (nothing, slow, second):
        sending = asyncio.create_task(trickle(slow, b"GET / HTTP/1.1\r\nHo"))
        # The headers of a second request on the same connection.
        await second.send(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\nGET / HT")
        assert await nothing.answer() == (0, {})
        status, problem = await slow.answer()
        assert status == 408
        assert problem["type"].endswith(":header-timeout")
        async with asyncio.timeout(60):
            assert (await second._reader.read()).startswith(b"HTTP/1.1 200")
        sending.cancel()
        assert (await client.get("/health/live")).status_code == 200


async def trickle(connection: Raw, begin: bytes = b"", every: float = 0.2) -> None:
    """Send, and then a byte at a time for ever."""
    try:
        await connection.send(begin)
        while True:
            await connection.send(b"a")
            await asyncio.sleep(every)
    except ConnectionError:
        pass


async def test_of_too_many_connections_the_one_that_waits_longest_goes(settings):
    few = settings.model_copy(update={"max_connections": 5, "header_timeout": 60.0})
    async with serve(few) as client, raw(few, 9):
        assert (await client.get("/health/live")).status_code == 200


async def test_connections_made_at_once_are_no_more_than_may_be(settings):
    few = settings.model_copy(update={"max_connections": 5, "header_timeout": 600.0})
    async with serve(few) as client, raw(few, 20) as connections:
        reading = [asyncio.create_task(one.answer()) for one in connections]
        async with asyncio.timeout(60):
            while sum(one.done() for one in reading) < 15:
                await asyncio.sleep(0.02)
        assert (await client.get("/health/live")).status_code == 200
        assert sum(not one.done() for one in reading) in (4, 5)
        for one in reading:
            one.cancel()


async def test_where_the_gateway_works_for_all_connections_a_new_one_is_dropped(settings):
    few = settings.model_copy(update={"max_connections": 5, "upload_grace": 60.0})
    headers = b"Content-Length: 100000\r\n", _FORM, b"Expect: 100-continue\r\n"
    async with serve(few) as client:
        async with raw(few, 5) as connections:
            for connection in connections:
                await connection.send(post(*headers))
                await connection.until(b"100 Continue")
            async with raw(few) as (further,):
                assert await further.answer() == (0, {})
        # Those that have their answer, and do not end their body, make room.
        async with raw(few, 5) as connections:
            for connection in connections:
                await connection.send(post(*headers, path=b"/nowhere"))
                await connection.until(b"not-found")
            assert (await client.get("/health/live")).status_code == 200


async def test_bodies_that_stand_still_take_nothing_from_others(hasty):
    """They announce all that the gateway may hold, and send a few bytes."""
    patient = hasty.model_copy(update={"upload_grace": 15.0})
    async with serve(patient) as client, raw(patient, 20) as connections:
        for connection in connections:
            length = b"Content-Length: %d\r\n" % patient.max_body
            await connection.send(post(length, _FORM), b"--b\r\nContent-Disposition: form-data;")
        assert await held_by(client) < 20 * 1000
        scored = await infer(client, npy(exposure()))
        assert scored.status_code == 200, scored.text


async def test_slow_bodies_are_given_up(hasty):
    """Also those of endpoints that take JSON, and those that come a byte at a time."""
    length = b"Content-Length: 50000\r\n"
    json_of = post(length, b"Content-Type: application/json\r\n", path=b"/models/a/validate")
    async with serve(hasty) as client, raw(hasty, 3) as connections:
        still, slow, other = connections
        await still.send(post(length, _FORM), b"--b\r\n")
        sending = asyncio.create_task(trickle(slow, post(length, _FORM)))
        await other.send(json_of, b"{")
        for connection in connections:
            status, problem = await connection.answer()
            assert status == 408, problem
            assert problem["type"].endswith(":upload-timeout")
        sending.cancel()
        assert await held_by(client) == 0


async def test_one_caller_has_a_share(hasty):
    guarded = hasty.model_copy(
        update={"auth": "required", "upload_grace": 30.0, "max_caller_bytes": hasty.max_body}
    )
    greedy, other = new_key("greedy", ["infer"]), new_key("other", ["infer"])
    connection = await asyncpg.connect(guarded.database_url.get_secret_value())
    await insert_key(connection, greedy)
    await insert_key(connection, other)
    await connection.close()
    # Most of what the part may have, again and again.
    part = b'--b\r\nContent-Disposition: form-data; name="candidates"\r\n\r\n' + bytes(15_000_000)
    asked = post(
        b"Content-Length: %d\r\n" % guarded.max_body,
        b"Authorization: Bearer %s\r\n" % greedy.token.encode(),
        _FORM,
    )
    async with serve(guarded) as client, raw(guarded, 3) as connections:
        for one in connections:
            await one.send(asked, part)
        async with asyncio.timeout(60):
            while await held_by(client) < 3 * 15_000_000:
                await asyncio.sleep(0.05)
        client.headers["Authorization"] = f"Bearer {greedy.token}"
        refused = await infer(client, bytes(3_900_000))
        assert refused.status_code == 429, refused.text
        assert int(refused.headers["retry-after"]) > 0
        client.headers["Authorization"] = f"Bearer {other.token}"
        assert (await infer(client, npy(exposure()))).status_code == 200


def send_all_then_read(
    settings: GatewaySettings, parts: Sequence[bytes], buffer: int | None = None
) -> httpx.Response:
    """What a client gets that looks for an answer only once it has sent everything.

    Its system buffers so many bytes of that.
    """
    with socket.create_connection((settings.host, settings.port), timeout=60) as connection:
        if buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        for part in parts:
            connection.sendall(part)
        content = b""
        while piece := connection.recv(65536):
            content += piece
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return httpx.Response(
        int(first.split()[1]), headers=[line.split(": ", 1) for line in lines], content=body
    )


async def test_early_answers_arrive_although_all_of_the_body_is_sent_first(settings):
    narrow = settings.model_copy(update={"max_runs": 1, "max_waiting": 0, "upload_grace": 60.0})
    size = 30_000_000
    length = b"Content-Length: %d\r\n" % size
    text = b"Content-Type: text/plain\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="exposure"\r\n\r\n'
    beyond = b"Content-Length: %d\r\n" % (narrow.max_body + 1_000_000)
    async with serve(narrow) as client, raw(narrow, 2) as (occupant, other):

        async def sent(*headers: bytes, path: bytes = b"/detections/infer") -> httpx.Response:
            parts = [post(*headers, path=path), part, bytes(size - len(part))]
            if beyond in headers:
                parts.append(bytes(narrow.max_body + 1_000_000 - size))
            return await asyncio.to_thread(send_all_then_read, narrow, parts)

        for headers, path, status in (
            ((length, text), b"/detections/infer", 415),
            ((length, _FORM), b"/detections/infer", 413),
            ((beyond, _FORM), b"/detections/infer", 413),
            ((length, _FORM, b"Content-Encoding: br\r\n"), b"/detections/infer", 415),
            ((length, _FORM), b"/nowhere", 404),
        ):
            answer = await sent(*headers, path=path)
            assert answer.status_code == status, answer.text
            assert answer.headers["connection"] == "close"
            assert answer.json()["status"] == status

        # A large body that still comes has the one place.
        await occupant.send(post(length, _FORM), part, bytes(3_000_000))
        async with asyncio.timeout(60):
            while await held_by(client) < 3_000_000:
                await asyncio.sleep(0.05)
        answer = await sent(length, _FORM)
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        # Small ones that have arrived already cost nobody the connection.
        await other.send(post(b"Content-Length: 1\r\n", path=b"/nowhere") + b"a")
        head = await other.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404")
        assert b"connection:" not in head.lower()


async def test_what_is_not_http_is_answered_although_more_is_sent_first(settings):
    chunked = b"Transfer-Encoding: chunked\r\n"
    large = b"%x\r\n" % 100_000 + bytes(100_000) + b"\r\n"
    async with serve(settings):
        for sent, status, code in (
            ([post(chunked, _FORM), large, b"no size\r\n"], 400, "malformed-body"),
            ([post(b"Transfer-Encoding: gzip, chunked\r\n")], 501, "unsupported-transfer-encoding"),
            ([post(chunked, chunked)], 501, "unsupported-transfer-encoding"),
        ):
            parts = [b"".join(sent), bytes(900_000)]
            answer = await asyncio.to_thread(send_all_then_read, settings, parts, 16_384)
            assert answer.status_code == status, answer.text
            assert answer.json()["type"].endswith(f":{code}")


async def test_what_a_query_has_beyond_its_parameters_is_refused(client):
    """At every endpoint, before anything is looked up."""
    document = (await client.get("/schema/openapi.json")).json()
    asked = [
        (method.upper(), re.sub(r"\{\w*id\}", str(UUID(int=7)), path).replace("{name}", NAME))
        for path, methods in document["paths"].items()
        for method in methods
    ]
    pages = [("GET", page) for page in ("/metrics", "/dashboard", "/dashboard/exposures")]
    assert len(asked) > 15
    for method, path in [*asked, *pages, ("GET", "/schema/openapi.json")]:
        for query in ("nonsense=1", "nonsense", "nonsense="):
            answer = await client.request(method, f"{path}?{query}")
            assert answer.status_code == 422, (method, path, answer.text)
        if not path.startswith("/dashboard"):
            assert answer.json()["field"] == "nonsense"
    twice = await client.get("/detections?limit=5&limit=6")
    assert twice.status_code == 422
    assert twice.json()["field"] == "limit"


async def test_encoded_bodies_are_refused(client):
    for method, path in (
        ("POST", "/detections/infer"),
        ("POST", f"/models/{NAME}:3/validate"),
        ("PUT", f"/models/{NAME}/route"),
        ("PATCH", f"/detections/{UUID(int=7)}"),
    ):
        for encoding in ("gzip", "identity, br", "X"):
            answer = await client.request(
                method, path, content=b"{}", headers={"Content-Encoding": encoding}
            )
            assert answer.status_code == 415, (path, answer.text)
            assert answer.json()["type"].endswith(":unsupported-content-encoding")
            assert answer.headers["accept-encoding"] == "identity"
    plain = await client.post(
        "/detections/infer",
        files={"exposure": npy(exposure())},
        headers={"Content-Encoding": "identity"},
    )
    assert plain.status_code == 200


async def test_every_operation_says_that_it_may_refuse_a_request(client):
    document = (await client.get("/schema/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert {"400", "415", "422", "431"} <= set(operation["responses"]), (method, path)


async def test_bodies_of_json_are_small(client):
    path = f"/detections/{UUID(int=7)}"
    longest = json.dumps({"label": "real", "comment": 2000 * "\U0001f52d"})
    for body, status in ((longest, 404), (json.dumps({"comment": 70_000 * "a"}), 413)):
        answer = await client.patch(
            path, content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status, answer.text


async def test_formats_of_quality_0_are_not_answered(client):
    for accept, status, kind in (
        ("application/json;q=0", 406, None),
        ("application/json;q=0, */*;q=0", 406, None),
        ("application/json;q=0, */*", 200, VOTABLE),
        ("*/*;q=0.1, application/x-ecsv;q=0.2", 200, ECSV),
        (f"application/*;q=0.5, {VOTABLE};q=0.0, application/json;q=0", 200, ECSV),
        ("application/x-ecsv;q=0.001", 200, ECSV),
        ("text/html, */*;q=0.5", 200, "application/json"),
    ):
        answer = await client.get("/detections", headers={"Accept": accept})
        assert answer.status_code == status, (accept, answer.text)
        if kind is not None:
            assert answer.headers["content-type"].partition(";")[0] == kind, accept


async def test_ids_come_back_as_they_were_sent_or_are_refused(client):
    x, y = SOURCES[0]
    lost = ["a\x85", "\u2028", "a\u2029b", "a\ufffe", "\uffffa", " a", "a ", "", "a\n", "\x9f"]
    for name in lost:
        request = {"candidates": [{"id": name, "x": x, "y": y}]}
        refused = await infer(client, npy(exposure()), request)
        assert refused.status_code == 422, ascii(name)
        assert refused.json()["field"] == "candidates[0].id"
    kept = ["\u3000", "a  b", '"', "\ufeff", "a,b", "\U0001f52d", "nan", "--", "<&>", "\xa0"]
    request = {"candidates": [{"id": name, "x": x + i, "y": y} for i, name in enumerate(kept)]}
    answer = await infer(client, npy(exposure()), request)
    assert answer.status_code == 200, answer.text
    assert {one["candidate_id"] for one in answer.json()["detections"]} >= set(kept)
