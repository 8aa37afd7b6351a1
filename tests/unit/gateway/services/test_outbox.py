"""The publisher: what is published, noted, and tried again."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import PubAck, RawStreamMsg, StreamConfig, StreamInfo, StreamState
from nats.js.errors import NotFoundError

from astrotriton.gateway.backends.stream import MAX_AGE, STREAM, SUBJECTS, Retention
from astrotriton.gateway.services import outbox
from astrotriton.gateway.services.outbox import OutboxPublisher, StreamFellBackError
from tests.unit.gateway.services.memory import Event
from tests.unit.gateway.services.stand_ins import running, until


class Stream:
    """Stands in for a NATS client and its JetStream."""

    def __init__(self) -> None:
        self.config: StreamConfig | None = None
        self.made_at = datetime(2026, 1, 1, tzinfo=UTC)
        self.held: dict[int, str] = {}
        self.first = 1
        self.last = 0
        self.readable = True
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

    async def stream_info(self, name: str) -> StreamInfo:
        if self.config is None:
            raise NotFoundError
        state = StreamState(len(self.held), 0, self.first, self.last, consumer_count=0)
        return StreamInfo(config=self.config, state=state, created=self.made_at)

    async def add_stream(self, **config: object) -> StreamInfo:
        return await self.update_stream(StreamConfig(**config, retention="limits"))

    async def update_stream(self, config: StreamConfig) -> StreamInfo:
        assert config.name == STREAM
        self.config = config
        return await self.stream_info(STREAM)

    async def get_msg(self, name: str, sequence: int) -> RawStreamMsg:
        if not self.readable:
            raise NatsTimeoutError
        if sequence not in self.held:
            raise NotFoundError
        return RawStreamMsg(seq=sequence, headers={"Nats-Msg-Id": self.held[sequence]})

    def lose(self, after: int) -> None:
        """What a power cut does to a server that had not synced the rest."""
        self.held = {place: one for place, one in self.held.items() if place <= after}
        self.last = after

    async def publish(self, subject: str, content: bytes, **options: object) -> PubAck:
        if self.refuse_after is not None and len(self.sent) >= self.refuse_after:
            raise NatsTimeoutError
        headers = options["headers"]
        assert isinstance(headers, dict)
        self.sent.append((subject, headers["Nats-Msg-Id"]))
        self.last += 1
        self.held[self.last] = headers["Nats-Msg-Id"]
        return PubAck(STREAM, self.last)


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
    await publisher.repeat_lost(stream)
    assert [await publisher.publish_waiting(stream) for _ in range(4)] == [100, 100, 50, 0]
    assert [sent for _, sent in stream.sent] == ids
    assert len(memory.published) == 250


async def test_what_was_acknowledged_before_a_fault_is_noted(publisher, memory, stream):
    ids = wait(memory, 5)
    stream.refuse_after = 2
    await publisher.repeat_lost(stream)
    with pytest.raises(NatsTimeoutError):
        await publisher.publish_waiting(stream)
    assert [str(one) for one in memory.published] == ids[:2]
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
        assert memory.published == {}
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

    async def publish(*_: object, **__: object) -> PubAck:
        stream.publish = broken
        raise ZeroDivisionError

    stream.publish = publish
    async with running(publisher.run()):
        await until(lambda: len(memory.published) == 1)


@pytest.mark.parametrize("subjects", [None, ["detection.>"], ["mine", *SUBJECTS], ["mine"]])
async def test_of_an_operator_s_stream_subjects_are_only_added(publisher, stream, subjects):
    if subjects is not None:
        stream.config = StreamConfig(name=STREAM, subjects=subjects, max_age=90.0, max_bytes=1)
    task = asyncio.create_task(publisher.run())
    await until(lambda: publisher.fault is None)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert set(stream.config.subjects) == {*(subjects or ()), *SUBJECTS}
    bounds = (stream.config.max_age, stream.config.max_bytes)
    assert bounds == ((MAX_AGE, -1) if subjects is None else (90.0, 1))


@pytest.mark.parametrize("there", [False, True])
async def test_the_settings_say_what_the_stream_keeps(memory, stream, there):
    if there:
        stream.config = StreamConfig(name=STREAM, subjects=SUBJECTS, max_age=90.0, max_bytes=1)
    publisher = OutboxPublisher(
        memory, url="nats://here", timeout=1.0, poll=30.0, retention=Retention(7200.0, 1 << 30)
    )
    await publisher.repeat_lost(stream)
    assert (stream.config.max_age, stream.config.max_bytes) == (7200.0, 1 << 30)


async def published(publisher, memory, stream, count: int) -> list[str]:
    """Events that the stream has acknowledged, and their ids."""
    ids = wait(memory, count)
    await publisher.repeat_lost(stream)
    while await publisher.publish_waiting(stream):
        pass
    stream.sent.clear()
    return ids


async def republished(publisher, stream) -> list[str]:
    """What a publisher sends again on a new connection."""
    await publisher.repeat_lost(stream)
    while await publisher.publish_waiting(stream):
        pass
    return [sent for _, sent in stream.sent]


async def test_what_a_stream_lost_that_fell_back_is_published_again(
    publisher, memory, stream, caplog
):
    ids = await published(publisher, memory, stream, 250)
    assert await republished(publisher, stream) == []
    stream.lose(after=120)
    with caplog.at_level(logging.WARNING):
        assert await republished(publisher, stream) == ids[120:]
    assert "has lost 130 events" in caplog.text
    assert [stream.held[place] for place in range(1, 251)] == ids
    assert await republished(publisher, stream) == ids[120:]  # nothing more


async def test_a_stream_made_anew_is_told_everything_again(publisher, memory, stream):
    ids = await published(publisher, memory, stream, 5)
    stream.lose(after=0)
    stream.made_at += timedelta(seconds=1)
    stream.held = dict(enumerate(["somebody", "else", "was", "here", "before", "us"], 1))
    stream.last = 6
    assert await republished(publisher, stream) == ids


async def test_others_may_have_taken_the_places_of_what_was_lost(publisher, memory, stream):
    ids = await published(publisher, memory, stream, 250)
    stream.lose(after=100)
    for place in range(101, 301):
        stream.held[place] = "somebody else's"
    stream.last = 300
    assert await republished(publisher, stream) == ids[100:]


async def test_gaps_are_filled_as_far_back_as_there_are_some(publisher, memory, stream):
    ids = await published(publisher, memory, stream, 250)
    del stream.held[249], stream.held[140]
    assert await republished(publisher, stream) == [ids[139], ids[248]]


async def test_what_has_gone_as_it_should_is_not_published_again(publisher, memory, stream):
    await published(publisher, memory, stream, 5)
    stream.held, stream.first = {5: stream.held[5]}, 5  # too old, or too many
    assert await republished(publisher, stream) == []
    stream.held, stream.first = {}, 1
    stream.config = replace(stream.config, retention="workqueue")
    assert await republished(publisher, stream) == []
    stream.config = replace(stream.config, retention="limits", max_msgs_per_subject=1)
    assert await republished(publisher, stream) == []


async def test_a_stream_that_may_not_be_read_says_what_to_allow(publisher, memory, stream):
    stream.readable = False
    await published(publisher, memory, stream, 1)
    async with running(publisher.run()):
        await until(lambda: "allow the gateway's user" in (publisher.fault or ""))


async def test_a_stream_that_falls_back_while_connected_is_looked_at(publisher, memory, stream):
    ids = await published(publisher, memory, stream, 5)
    stream.lose(after=1)
    wait(memory, 1, first=5)
    with pytest.raises(StreamFellBackError, match="from 5 to 2"):
        await publisher.publish_waiting(stream)
    assert len(memory.published) == 6
    assert (await republished(publisher, stream))[1:] == ids[1:]
