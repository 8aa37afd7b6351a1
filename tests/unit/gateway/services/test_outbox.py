"""The publisher: what is published, noted, and tried again."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from uuid import UUID

import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import NotFoundError

from astrotriton.gateway.services import outbox
from astrotriton.gateway.services.outbox import STREAM, SUBJECTS, OutboxPublisher
from tests.unit.gateway.services.memory import Event
from tests.unit.gateway.services.stand_ins import running, until


class Stream:
    """Stands in for a NATS client and its JetStream."""

    def __init__(self, subjects: list[str] | None = None) -> None:
        self.subjects = subjects
        self.sent: list[tuple[str, str]] = []
        self.refuse_after: int | None = None
        self.connected = 0
        self.away = False

    async def connect(self, url: str, **_: object) -> "Stream":
        if self.away:
            raise OSError("connection refused")
        self.connected += 1
        return self

    async def close(self) -> None:
        pass

    def jetstream(self, **_: object) -> "Stream":
        return self

    async def stream_info(self, name: str) -> SimpleNamespace:
        if self.subjects is None:
            raise NotFoundError
        return SimpleNamespace(config=SimpleNamespace(subjects=self.subjects))

    async def add_stream(self, name: str, subjects: list[str]) -> None:
        assert name == STREAM
        self.subjects = subjects

    async def update_stream(self, config: SimpleNamespace) -> None:
        self.subjects = config.subjects

    async def publish(self, subject: str, content: bytes, **options: object) -> None:
        if self.refuse_after is not None and len(self.sent) >= self.refuse_after:
            raise NatsTimeoutError
        headers = options["headers"]
        assert isinstance(headers, dict)
        self.sent.append((subject, headers["Nats-Msg-Id"]))


@pytest.fixture
def stream(monkeypatch) -> Stream:
    made = Stream()
    monkeypatch.setattr(outbox.nats, "connect", made.connect)
    monkeypatch.setattr(outbox, "_SHORTEST_PAUSE", 0.001)
    return made


@pytest.fixture
def publisher(memory) -> OutboxPublisher:
    return OutboxPublisher(memory, url="nats://here", timeout=1.0, poll=30.0)


def wait(memory, count: int, first: int = 0) -> list[str]:
    """Events that wait, and their ids."""
    made = [Event(UUID(int=first + i + 1), "detection.scored", {"i": i}) for i in range(count)]
    memory.outbox += made
    return [str(one.id) for one in made]


async def test_the_oldest_are_published_and_noted(publisher, memory, stream):
    ids = wait(memory, 250)
    assert [await publisher.publish_waiting(stream) for _ in range(4)] == [100, 100, 50, 0]
    assert [sent for _, sent in stream.sent] == ids
    assert len(memory.published) == 250


async def test_what_was_acknowledged_before_a_fault_is_noted(publisher, memory, stream):
    ids = wait(memory, 5)
    stream.refuse_after = 2
    with pytest.raises(NatsTimeoutError):
        await publisher.publish_waiting(stream)
    assert {str(one) for one in memory.published} == set(ids[:2])
    stream.refuse_after = None
    assert await publisher.publish_waiting(stream) == 3
    assert [sent for _, sent in stream.sent] == ids


async def test_it_sends_when_it_is_woken(publisher, memory, stream):
    async with running(publisher.run()):
        await until(lambda: publisher.fault is None)
        wait(memory, 3)
        publisher.wake()
        await until(lambda: len(stream.sent) == 3)


async def test_it_looks_without_being_told(memory, stream):
    publisher = OutboxPublisher(memory, url="nats://here", timeout=1.0, poll=0.001)
    async with running(publisher.run()):
        await until(lambda: publisher.fault is None)
        wait(memory, 1)
        await until(lambda: len(stream.sent) == 1)


async def test_while_nats_is_away_events_wait_and_it_says_so(publisher, memory, stream):
    stream.away = True
    wait(memory, 2)
    async with running(publisher.run()):
        await until(lambda: publisher.fault == "OSError: connection refused")
        assert memory.published == set()
        stream.away = False
        await until(lambda: len(memory.published) == 2)
        await until(lambda: publisher.fault is None)


async def test_a_connection_that_breaks_is_made_anew(publisher, memory, stream):
    stream.refuse_after = 1
    wait(memory, 2)
    async with running(publisher.run()):
        await until(lambda: publisher.fault is not None and stream.connected > 1)
        stream.refuse_after = None
        await until(lambda: len(memory.published) == 2)


async def test_a_fault_that_nobody_foresaw_does_not_end_it(publisher, memory, stream):
    wait(memory, 1)
    broken = stream.publish

    async def publish(*_: object, **__: object) -> None:
        stream.publish = broken
        raise ZeroDivisionError

    stream.publish = publish
    async with running(publisher.run()):
        await until(lambda: len(memory.published) == 1)


@pytest.mark.parametrize("subjects", [None, ["detection.>"], ["mine", *SUBJECTS], ["mine"]])
async def test_of_an_operator_s_stream_subjects_are_only_added(publisher, stream, subjects):
    stream.subjects = None if subjects is None else list(subjects)
    task = asyncio.create_task(publisher.run())
    await until(lambda: publisher.fault is None)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert set(stream.subjects) == {*(subjects or ()), *SUBJECTS}
