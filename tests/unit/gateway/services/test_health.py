"""What is told of the service's parts, and which servers are left out."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from astrotriton.gateway.services import health
from astrotriton.gateway.services.health import HealthService
from tests.unit.gateway.services.memory import Event
from tests.unit.gateway.services.stand_ins import Server, routing_service


@pytest.fixture
def now(monkeypatch):
    """A clock that is moved by hand."""
    clock = SimpleNamespace(time=100.0)
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: clock.time))
    return clock


@pytest.fixture
def service(memory, models, triton, outbox) -> HealthService:
    routing = routing_service(memory, models, outbox)
    return HealthService(
        database=memory, models=models, routing=routing, triton=triton, outbox=outbox, interval=60.0
    )


async def test_it_is_ready_when_database_and_model_are(service):
    found = await service.ready()
    assert found.status == "ready"
    assert set(found.parts) == {"database", "model"}
    assert "golden tile within" in found.parts["model"].detail


async def test_a_database_that_is_away_or_older_is_named(service, memory):
    memory.away = True
    found = await service.ready()
    assert (found.status, found.parts["database"].ready) == ("not ready", False)
    memory.away = False
    for revision, ready in (("0001", False), (None, False), ("9999", True)):
        memory.revision = revision
        part = (await service.ready()).parts["database"]
        assert part.ready is ready
        assert ready or "migrate" in part.detail


async def test_one_that_leaves_says_so(service):
    service.drain()
    found = await service.ready()
    assert found.status == "not ready"
    assert found.parts["gateway"].detail == "it is shutting down"


async def test_a_server_that_is_wrong_is_left_out_and_taken_back(service, triton, now):
    wrong = Server("wrong:8001", off=1e-3)
    triton.servers.append(wrong)
    part = (await service.ready()).parts["model"]
    assert part.ready
    assert "1 of 2 servers do; wrong:8001" in part.detail
    assert wrong.ejected
    wrong.off = 0.0
    now.time += 61.0
    assert "2 of 2 servers" in (await service.ready()).parts["model"].detail
    assert not wrong.ejected


async def test_nobody_right_is_not_ready(service, triton):
    triton.servers[0].away = True
    part = (await service.ready()).parts["model"]
    assert not part.ready
    assert "it does not answer" in part.detail


async def test_an_answer_counts_for_a_while_unless_a_request_fails(service, triton, now):
    assert (await service.ready()).status == "ready"
    triton.away = True
    assert (await service.ready()).status == "ready"
    # A request has failed since: that is looked into soon.
    triton.faults += 1
    now.time += 1.0
    assert (await service.ready()).status == "ready"
    now.time += 2.0
    assert (await service.ready()).status == "not ready"
    triton.away = False
    assert (await service.ready()).status == "not ready"
    now.time += 2.0
    assert (await service.ready()).status == "ready"


async def test_many_that_ask_at_once_are_one_probe(service, triton):
    asked = 0
    real = triton.prove

    async def counted(*what):
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return await real(*what)

    triton.prove = counted
    found = await asyncio.gather(*(service.ready() for _ in range(8)))
    assert {one.status for one in found} == {"ready"}
    assert asked == 1


async def test_a_server_that_falls_silent_is_left_out_though_its_last_proof_counts(
    service, triton, now
):
    triton.servers.append(Server("silent:8001"))
    assert (await service.ready()).status == "ready"
    triton.servers[1].silent = True
    part = (await service.ready()).parts["model"]
    assert part.ready
    assert "silent:8001: it is silent" in part.detail
    assert triton.servers[1].ejected
    assert not (await service.dependencies()).parts["triton silent:8001"].ready
    triton.servers[0].silent = True
    part = (await service.ready()).parts["model"]
    assert not part.ready
    assert "one:8001: it is silent; silent:8001: it is silent" in part.detail
    triton.servers[0].silent = triton.servers[1].silent = False
    assert (await service.ready()).status == "ready"


async def test_a_database_that_answers_nobody_new_is_named(service, memory, now):
    memory.deaf = True
    part = (await service.ready()).parts["database"]
    assert not part.ready
    assert "nobody who connects" in part.detail
    memory.deaf = False
    assert (await service.ready()).status == "ready"
    # Whoever asks again and again does not make it connect each time.
    memory.deaf = True
    assert (await service.ready()).status == "ready"
    now.time += 1.0
    assert (await service.ready()).status == "not ready"


async def test_a_database_that_says_nothing_is_not_waited_for(service, memory, monkeypatch):
    monkeypatch.setattr(health, "_SILENCE", 0.01)
    come = asyncio.Event()
    real = health.current_revision

    async def late(connection):
        await come.wait()
        return await real(connection)

    monkeypatch.setattr(health, "current_revision", late)
    part = (await service.ready()).parts["database"]
    assert (part.ready, part.detail) == (False, "postgresql: no answer within 0.01 s")
    come.set()
    monkeypatch.setattr(health, "_SILENCE", 30.0)
    assert (await service.ready()).status == "ready"


async def test_a_pool_without_a_free_connection_is_no_database_that_hangs(
    service, memory, now, monkeypatch
):
    assert (await service.ready()).status == "ready"
    monkeypatch.setattr(health, "_SILENCE", 0.01)
    free = asyncio.Event()
    real = memory.connection

    @asynccontextmanager
    async def busy():
        await free.wait()
        async with real() as connection:
            yield connection

    monkeypatch.setattr(memory, "connection", busy)
    for pause in (0.0, 13.0):
        now.time += pause
        assert (await service.ready()).status == "ready"
    # Whoever connects may find that it hangs all the same.
    memory.deaf = True
    now.time += 1.0
    assert "nobody who connects" in (await service.ready()).parts["database"].detail
    memory.deaf = False
    now.time += 1.0
    part = (await service.ready()).parts["database"]
    assert (part.ready, "no connection of the pool is free" in part.detail) == (False, True)
    free.set()
    monkeypatch.setattr(health, "_SILENCE", 30.0)
    assert (await service.ready()).status == "ready"


async def test_a_slow_probe_leaves_the_one_before_in_force_for_a_while(
    service, triton, now, monkeypatch
):
    assert (await service.ready()).status == "ready"
    monkeypatch.setattr(health, "_SILENCE", 0.01)
    come = asyncio.Event()
    real = triton.prove

    async def late(*what):
        await come.wait()
        return await real(*what)

    triton.prove = late
    now.time += 61.0
    assert (await service.ready()).status == "ready"
    now.time += 15.0
    assert "no answer to the golden tile" in (await service.ready()).parts["model"].detail
    come.set()
    monkeypatch.setattr(health, "_SILENCE", 30.0)
    assert (await service.ready()).status == "ready"


async def test_a_probe_that_waits_for_a_silent_server_says_nothing_of_the_others(
    service, triton, now, monkeypatch
):
    triton.servers.append(Server("silent:8001"))
    assert (await service.ready()).status == "ready"
    triton.servers[1].silent = True

    async def never(*_):
        await asyncio.Event().wait()

    triton.prove = never
    for pause in (61.0, 15.0, 60.0):
        now.time += pause
        part = (await service.ready()).parts["model"]
        assert part.ready
        assert "1 of 2 servers do; silent:8001: it is silent" in part.detail
    # Where nobody is silent, the answer itself is what lacks.
    triton.servers[1].silent = False
    monkeypatch.setattr(health, "_SILENCE", 0.01)
    assert "no answer to the golden tile" in (await service.ready()).parts["model"].detail


async def test_a_probe_that_does_not_come_back_is_not_waited_for(service, triton, monkeypatch):
    monkeypatch.setattr(health, "_PATIENCE", 0.0)
    come = asyncio.Event()
    real = triton.prove

    async def late(*what):
        await come.wait()
        return await real(*what)

    triton.prove = late
    assert "no answer to the golden tile" in (await service.ready()).parts["model"].detail
    come.set()
    monkeypatch.setattr(health, "_PATIENCE", 30.0)
    assert (await service.ready()).status == "ready"


async def test_a_probe_that_fails_in_any_way_says_so(service, triton, now):
    async def broken(*_):
        raise ZeroDivisionError

    real, triton.prove = triton.prove, broken
    assert "ZeroDivisionError" in (await service.ready()).parts["model"].detail
    triton.prove = real
    now.time += 2.0
    assert (await service.ready()).status == "ready"


async def test_what_hangs_ends_with_the_service(service, triton, memory, now, monkeypatch):
    monkeypatch.setattr(health, "_SILENCE", 0.01)
    hanging, ended = set(), set()

    def hangs(name):
        async def hang(*_):
            hanging.add(name)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.add(name)

        return hang

    triton.prove, triton.find_silent = hangs("probe"), hangs("signs of life")
    monkeypatch.setattr(health, "current_revision", hangs("schema"))
    monkeypatch.setattr(health, "measure_waiting", hangs("outbox"))
    assert (await service.dependencies()).status == "not ready"
    # This one ends by itself, and is waited for.
    monkeypatch.setattr(memory, "check_connecting", hangs("connecting"))
    now.time += 1.0
    asked = asyncio.create_task(service.ready())
    async with asyncio.timeout(60):
        while "connecting" not in hanging:
            await asyncio.sleep(0.01)
    asked.cancel()
    assert len(hanging) == 5
    await service.aclose()
    assert ended == hanging


async def test_dependencies_are_told_one_by_one(service, triton, memory, outbox, now):
    triton.servers.append(Server("other:8001"))
    found = await service.dependencies()
    assert set(found.parts) == {
        *("database", "model", "triton one:8001", "triton other:8001", "nats", "outbox")
    }
    assert all(part.ready for part in found.parts.values())
    outbox.fault = "not connected yet"
    memory.outbox.append(Event(None, "detection.scored", {}))
    found = await service.dependencies()
    # None of these keeps the service from its work.
    assert found.status == "ready"
    assert not found.parts["nats"].ready
    assert found.parts["outbox"].detail == "1 events wait, the oldest for 90 s"
    assert not found.parts["outbox"].ready
    memory.away = True
    assert not (await service.dependencies()).parts["outbox"].ready
