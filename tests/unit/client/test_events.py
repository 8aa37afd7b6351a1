"""Streams as they arrive: cut anywhere, broken off, and asked for again."""

import json
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from astrotriton.client import AsyncClient, Client, FoundDetection, ProblemError, Retries
from astrotriton.client.events import Event, Events
from tests.unit.gateway.gateway_samples import run

STREAM = (
    b": hello\r\nid: 1\r\nretry: 20\r\n\r\n"
    b'event: detection\r\nid: 2\r\ndata: {"name": "\xe2\x80\xa8"}\r\n\r\n'
    b": \r\nid: 3\r\n\r\n"
    b"data: a\ndata:b\n\n"
)
TOLD = [Event("detection", '{"name": "\u2028"}'.encode()), Event("message", b"a\nb")]
QUICK = Retries(attempts=3, first_pause=0.01, longest_pause=0.01)


def read(events: Events, *chunks: bytes) -> list[Event]:
    return [event for chunk in chunks for event in events.read(chunk)]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    events = Events()
    chunks = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert read(events, *chunks) == TOLD
    assert (events.last, events.pause) == ("3", 0.02)


def test_what_was_incomplete_comes_again() -> None:
    events = Events()
    assert events.begin() == {"Accept": "text/event-stream"}
    assert read(events, b"id: 1\n\nid: 2\nevent: x\ndata: a\n") == []
    assert events.begin() == {"Accept": "text/event-stream", "Last-Event-ID": "1"}
    assert read(events, b"data: b\n\n") == [Event("message", b"b")]
    assert events.last == "1"


ANSWERED = run(3)


def event(index: int) -> bytes:
    """A detection of a run, as a gateway sends it."""
    one = FoundDetection(
        **msgspec.structs.asdict(ANSWERED.detections[index]),
        run_id=ANSWERED.run_id,
        exposure=ANSWERED.exposure,
        model=ANSWERED.model,
        created_at=ANSWERED.created_at,
        threshold=ANSWERED.threshold,
        label=None,
    )
    return b"event: detection\nid: %s\ndata: %s\n\n" % (
        str(one.id).encode(),
        msgspec.json.encode(one),
    )


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        raise httpx.RemoteProtocolError("it broke off")

    async def __aiter__(self):
        for chunk in self:
            yield chunk


class Gateway(httpx.MockTransport):
    """Answers with streams one after the other, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.asked: list[httpx.Request] = []
        self.answers = [
            httpx.Response(200, stream=Broken(b"id: begin\nretry: 0\n\n", event(0), event(1)[:-1])),
            httpx.Response(503, headers={"Retry-After": "0"}),
            httpx.Response(200, content=event(1)),
            httpx.Response(200, content=event(2)),
            httpx.Response(401, content=json.dumps({"title": "no"}).encode()),
        ]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answers.pop(0)


def check(gateway: Gateway, found: list[FoundDetection]) -> None:
    ids = [one.id for one in ANSWERED.detections]
    assert [one.id for one in found] == ids
    cursors = [request.headers.get("last-event-id") for request in gateway.asked]
    assert cursors == [None, *(str(one) for one in (ids[0], ids[0], ids[1], ids[2]))]
    assert {request.url.params["is_real"] for request in gateway.asked} == {"true"}


def test_a_client_goes_on_behind_what_came_last() -> None:
    gateway, found = Gateway(), []
    with Client("http://gateway", retries=QUICK) as client:
        client._http = httpx.Client(base_url="http://gateway", transport=gateway)
        with pytest.raises(ProblemError, match="401"):  # noqa: PT012
            for one in client.follow(is_real=True):
                found.append(one)  # noqa: PERF402
    check(gateway, found)


async def test_an_asynchronous_client_does_too() -> None:
    gateway, found = Gateway(), []
    async with AsyncClient("http://gateway", retries=QUICK) as client:
        client._http = httpx.AsyncClient(base_url="http://gateway", transport=gateway)
        with pytest.raises(ProblemError, match="401"):  # noqa: PT012
            async for one in client.follow(is_real=True):
                found.append(one)  # noqa: PERF401
    check(gateway, found)
