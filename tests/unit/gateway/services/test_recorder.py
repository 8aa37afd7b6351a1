"""What a gateway measures: added up by the minute, stored whole, kept while it cannot be stored."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest

from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.services import recorder as module
from astrotriton.gateway.services.recorder import Recorder
from tests.unit.gateway import gateway_samples
from tests.unit.gateway.services.stand_ins import NAME, Server

MINUTE = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)


@pytest.fixture
def minute(monkeypatch):
    """The minute that it is, which is moved by hand."""
    now = SimpleNamespace(time=MINUTE)
    monkeypatch.setattr(module, "_minute", lambda: now.time)
    return now


@pytest.fixture
def recorder(memory, triton) -> Recorder:
    return Recorder(NAME, memory, triton, None)


def run(detections: int = 2, version: int = 3):
    made = gateway_samples.run(detections)
    return msgspec.structs.replace(
        made, model=msgspec.structs.replace(made.model, version=version), tiles=4
    )


def stored(memory) -> dict[tuple[int, str], tuple[int, float]]:
    """Count and total by version and measure, of all minutes."""
    found: dict[tuple[int, str], tuple[int, float]] = {}
    for one in memory.measured.values():
        count, total = found.get((one.version, one.measure), (0, 0.0))
        found[one.version, one.measure] = (count + sum(one.counts), total + one.total)
    return found


async def test_runs_and_failures_are_added_up_by_version(recorder, memory, minute):
    recorder.run_stored(run(), {"request": 0.5, "infer": 0.25})
    recorder.run_stored(run(), {"request": 1.5, "infer": 0.25})
    recorder.run_stored(run(version=4), {"request": 1.0})
    recorder.run_failed(3, "busy", 2.0)
    await recorder.flush()
    found = stored(memory)
    assert found[3, "request"] == (2, pytest.approx(2.0))
    assert found[3, "infer"] == (2, pytest.approx(0.5))
    assert found[3, "tiles"] == (2, pytest.approx(8.0))
    assert found[3, "confidence"][0] == 4
    assert found[3, "error.busy"] == (1, pytest.approx(2.0))
    assert found[4, "request"] == (1, pytest.approx(1.0))


async def test_a_minute_is_stored_whole_each_time(recorder, memory, minute):
    recorder.run_stored(run(), {"request": 1.0})
    await recorder.flush()
    recorder.run_stored(run(), {"request": 1.0})
    await recorder.flush()
    await recorder.flush()
    # Not counted twice: the second time replaced the first.
    assert stored(memory)[3, "request"] == (2, pytest.approx(2.0))
    minute.time += timedelta(minutes=1)
    recorder.run_stored(run(), {"request": 1.0})
    await recorder.flush()
    assert stored(memory)[3, "request"] == (3, pytest.approx(3.0))


async def test_while_the_database_is_away_minutes_wait(recorder, memory, minute):
    memory.away = True
    for _ in range(3):
        recorder.run_stored(run(), {"request": 1.0})
        with pytest.raises(DependencyError):
            await recorder.flush()
        minute.time += timedelta(minutes=1)
    memory.away = False
    await recorder.flush()
    assert stored(memory)[3, "request"] == (3, pytest.approx(3.0))
    assert len({minute for _, minute, _, _ in memory.measured}) == 3


async def test_beyond_two_hours_the_oldest_are_dropped(recorder, memory, minute):
    recorder.run_stored(run(), {"request": 1.0})
    minute.time += timedelta(hours=2, minutes=1)
    recorder.run_stored(run(), {"request": 1.0})
    await recorder.flush()
    assert stored(memory)[3, "request"] == (1, pytest.approx(1.0))


def counts(version: int, requests: int, queue_ns: int = 0) -> SimpleNamespace:
    def part(count=requests, ns=0):
        return SimpleNamespace(count=count, ns=ns)

    inference = SimpleNamespace(
        success=part(),
        fail=part(0),
        queue=part(ns=queue_ns),
        **{name: part() for name in ("compute_input", "compute_infer", "compute_output")},
    )
    return SimpleNamespace(
        name=NAME,
        version=str(version),
        inference_stats=inference,
        inference_count=2 * requests,
        execution_count=requests,
        batch_stats=[SimpleNamespace(batch_size=2, compute_infer=part())],
    )


async def test_what_every_triton_counted_is_stored_by_version(recorder, memory, triton):
    triton.servers = [Server("b:8001"), Server("a:8001")]
    for server in triton.servers:
        server.counts = {3: counts(3, 10), 4: counts(4, 5)}
    await recorder.read_triton()
    assert [(version, one.server) for version, one in memory.counted] == [
        *((3, "a:8001"), (3, "b:8001"), (4, "a:8001"), (4, "b:8001"))
    ]
    (_, first), *_ = memory.counted
    assert (first.counts["requests"], first.counts["tiles"], first.counts["batch.2"]) == (
        10,
        20,
        10,
    )


async def test_other_models_are_not_counted(recorder, memory, triton):
    (server,) = triton.servers
    other = counts(3, 10)
    other.name = "other"
    draft = counts(3, 10)
    draft.version = "draft"
    server.counts = {3: other, 4: draft}
    await recorder.read_triton()
    assert memory.counted == []


def test_without_its_metrics_nobody_knows_triton_s_memory(recorder):
    assert recorder.memory == {}
    assert "ASTROTRITON_TRITON_METRICS_PORT" in recorder.no_memory
