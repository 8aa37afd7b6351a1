"""Those who follow along: from where, each detection once, and until when."""

import asyncio
from contextlib import ExitStack, aclosing
from uuid import UUID, uuid4

import msgspec
import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.errors import BusyError, DependencyError, LimitError
from astrotriton.gateway.services import following
from astrotriton.gateway.services.detections import DetectionService
from astrotriton.gateway.services.following import BEGINNING, FollowService
from astrotriton.gateway.storage.listing import Filter
from astrotriton.wire.detections import DetectionPage
from tests.unit.gateway.gateway_samples import run

ANY = Filter()


def service_of(memory, **changes) -> FollowService:
    bounds = {"poll": 0.001, "heartbeat": 60.0, "longest": 60.0, "most": 3, "most_of_one": 2}
    return FollowService(DetectionService(memory), **{**bounds, **changes})


def store(memory, detections: int) -> list[UUID]:
    """A further run; the ids of its detections."""
    answered = run(detections)
    renamed = [msgspec.structs.replace(one, id=uuid4()) for one in answered.detections]
    answered = msgspec.structs.replace(answered, run_id=uuid4(), detections=renamed)
    memory.runs[answered.run_id] = answered
    return [one.id for one in renamed]


def ids(page: DetectionPage) -> list[UUID]:
    return [one.id for one in page.detections]


@pytest.fixture
async def looked_after(memory):
    """A service that looks for what is new."""
    service = service_of(memory)
    task = asyncio.create_task(service.run())
    with service.place("me"):
        yield service
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_stream_begins_with_what_comes_now_or_where_it_is_told(memory):
    service = service_of(memory)
    nothing = await service.begin(ANY, None)
    assert (nothing.detections, nothing.next) == ([], BEGINNING)
    stored = store(memory, 3)
    now = await service.begin(ANY, None)
    assert (now.detections, now.next) == ([], stored[-1])
    for after, rest in ((BEGINNING, stored), (stored[0], stored[1:]), (stored[-1], [])):
        first = await service.begin(ANY, after)
        assert (ids(first), first.next) == (rest, stored[-1])
    with pytest.raises(InputError) as refused:
        await service.begin(ANY, uuid4())
    assert refused.value.field == "after"


async def test_each_detection_comes_once(memory, looked_after, monkeypatch):
    monkeypatch.setattr(following, "_PAGE", 2)
    before = store(memory, 3)
    first = await looked_after.begin(ANY, before[0])
    seen: list[UUID] = []
    async with aclosing(looked_after.follow(ANY, first)) as pages:
        async for page in pages:
            seen += ids(page)
            assert page.next not in (None, BEGINNING)
            if len(seen) == 2:
                later = store(memory, 5)
            if len(seen) == 7:
                break
    assert seen == [*before[1:], *later]


async def test_what_does_not_match_moves_the_cursor(memory):
    service = service_of(memory, heartbeat=0.001)
    other, cursor = run(1).run_id, store(memory, 2)[-1]
    async with aclosing(
        service.follow(Filter(run_id=other), await service.begin(ANY, None))
    ) as all_:
        assert (await anext(all_)).next == cursor
        later = store(memory, 2)
        assert await anext(all_) == DetectionPage(detections=[], next=later[-1])


async def test_a_stream_lives_on_while_the_database_is_away(memory, looked_after, monkeypatch):
    monkeypatch.setattr(following, "_AGAIN", 0.001)
    find, failures = DetectionService.find, iter([True, True])

    async def sometimes(self, *arguments):
        if next(failures, False):
            raise DependencyError("postgresql", "away")
        return await find(self, *arguments)

    async with aclosing(looked_after.follow(ANY, await looked_after.begin(ANY, None))) as pages:
        await anext(pages)
        monkeypatch.setattr(DetectionService, "find", sometimes)
        stored = store(memory, 1)
        assert ids(await anext(pages)) == stored


async def test_a_stream_ends_in_time_and_when_the_gateway_does(memory):
    brief = service_of(memory, longest=0.0)
    assert len([page async for page in brief.follow(ANY, await brief.begin(ANY, None))]) == 1
    service = service_of(memory)
    pages = service.follow(ANY, await service.begin(ANY, None))
    await anext(pages)
    waiting = asyncio.create_task(anext(pages, None))
    await asyncio.sleep(0)
    service.close()
    assert await waiting is None
    with pytest.raises(BusyError), service.place("me"):
        pass


def test_there_are_so_many_places(memory):
    service = service_of(memory)
    with ExitStack() as held:
        for caller in ("me", "me"):
            held.enter_context(service.place(caller))
        with pytest.raises(LimitError), service.place("me"):
            pass
        held.enter_context(service.place("you"))
        with pytest.raises(BusyError), service.place("they"):
            pass
    with service.place("they"):
        pass
