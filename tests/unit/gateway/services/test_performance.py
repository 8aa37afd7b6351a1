"""How a version does, out of what was measured: windows, percentiles, shares, labels."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.observability.sketches import Sketch
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.services.performance import PerformanceService, read_window
from astrotriton.gateway.services.recorder import Recorder
from astrotriton.gateway.storage.performance import Counted, MeasuredMinute
from tests.unit.gateway.services.stand_ins import NAME

VERSION = f"{NAME}:3"


@pytest.fixture
def recorder(memory, triton) -> Recorder:
    return Recorder(NAME, memory, triton, None)


@pytest.fixture
def service(memory, models, recorder) -> PerformanceService:
    return PerformanceService(memory, CatalogueService(memory, models), recorder)


def measure(memory, measure: str, values, minutes_ago: int = 5, version: int = 3) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    sketch = Sketch()
    if measure == "confidence":
        sketch.add_confidences(values)
    else:
        for value in values:
            sketch.add(value)
    memory.measured[uuid4(), minute, version, measure] = MeasuredMinute(
        *(minute, version, measure, list(sketch.counts), list(sketch.counts.values())),
        sketch.total,
    )


@pytest.mark.parametrize(("text", "seconds"), [("15m", 900), ("24h", 86400), ("7d", 604800)])
def test_a_window_ends_now_or_when_it_is_said(text, seconds):
    until = datetime(2026, 11, 24, tzinfo=UTC)
    window = read_window(text, until)
    assert (window.until, window.seconds) == (until, seconds)
    assert window.since == until - timedelta(seconds=seconds)
    assert abs((read_window(text).until - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.parametrize("text", ["", "x", "1y", "0h", "-1h", "31d", "99999d", "1h30m", "1.5h"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(InputError) as refused:
        read_window(text)
    assert refused.value.field == "window"


async def test_gateways_add_up(service, memory):
    rng = np.random.default_rng(1)
    one, other = rng.lognormal(0.0, 0.3, 200), rng.lognormal(0.5, 0.3, 100)
    measure(memory, "request", one)
    measure(memory, "request", other)
    measure(memory, "request", [100.0] * 50, version=4)
    measure(memory, "request", [100.0] * 50, minutes_ago=90)
    measure(memory, "tiles", [4.0] * 300)
    found = await service.get(VERSION, "1h")
    request = found.latency["request"]
    both = np.concatenate([one, other])
    assert request.count == 300
    assert request.mean == pytest.approx(both.mean(), rel=1e-6)
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        true = np.quantile(both, share, method="lower")
        assert getattr(request, name) == pytest.approx(true, rel=0.01)
    assert found.throughput["runs"].value == pytest.approx(300 / 3600)
    assert found.throughput["tiles"].value == pytest.approx(1200 / 3600)
    assert sum(point.runs for point in found.series) == 300


async def test_a_few_runs_have_no_far_percentile(service, memory):
    measure(memory, "request", [1.0] * 12)
    request = (await service.get(VERSION, "1h")).latency["request"]
    assert request.p50 == pytest.approx(1.0, rel=0.01)
    assert request.p99 is None
    assert request.reason == "12 runs are too few for p95, p99"


async def test_nothing_measured_is_no_zero(service):
    found = await service.get(VERSION, "1h")
    assert found.latency["request"].mean is None
    assert found.errors["share"].value is None
    assert found.errors["share"].reason == "there were no runs"
    assert found.confidence.reason == "there were no detections"
    assert found.triton["queue"].value is None
    assert found.validation is None
    assert found.drift.status == "never-checked"
    assert "METRICS_PORT" in (found.memory["host_memory_used"].reason or "")


async def test_failures_are_a_share_of_all(service, memory):
    measure(memory, "request", [1.0] * 6)
    measure(memory, "error.busy", [1.0] * 3)
    measure(memory, "error.deadline-exceeded", [1.0])
    found = await service.get(VERSION, "1h")
    assert found.errors["share"].value == pytest.approx(0.4)
    assert found.errors["busy"].value == 3
    assert sum(point.errors for point in found.series) == 4


async def test_of_triton_s_counts_the_difference_tells(service, memory):
    def counted(requests: int, queue: float, at: int) -> Counted:
        counts = {"requests": requests, "queue_ns": int(queue * 1e9), "tiles": 2 * requests}
        counts |= {"executions": requests, "batch.2": requests}
        counts |= {f"{part}_ns": 0 for part in ("compute_input", "compute_infer", "compute_output")}
        return Counted("one", datetime.now(UTC) - timedelta(minutes=at), counts)

    memory.counted = [(3, counted(100, 10.0, 9)), (3, counted(120, 12.0, 1))]
    found = await service.get(VERSION, "1h")
    assert found.triton["queue"].value == pytest.approx(0.1)
    assert found.triton["queue"].count == 20
    assert found.batches["mean"].value == pytest.approx(2.0)
    assert found.batches["2"].value == 20


async def test_confidences_are_counted_in_bins(service, memory):
    measure(memory, "confidence", [0.01, 0.52, 0.53, 1.0])
    bins = (await service.get(VERSION, "1h")).confidence
    assert (sum(bins.counts), bins.count, len(bins.edges)) == (4, 4, len(bins.counts) + 1)
    assert bins.counts[10] == 2
    assert bins.counts[-1] == 1


async def test_labels_tell_whether_the_confidence_holds(service, memory):
    rng = np.random.default_rng(2)
    confidence = rng.uniform(size=400)
    real = rng.uniform(size=400) < confidence
    memory.labelled = [
        (float(c), bool(c >= 0.5), "real" if r else "artefact")
        for c, r in zip(confidence, real, strict=True)
    ]
    labels = (await service.get(VERSION, "1h")).labels
    assert labels.agreement.value == pytest.approx(np.mean((confidence >= 0.5) == real))
    assert not labels.recalibrate
    memory.labelled = [(c, said, "artefact") for c, said, _ in memory.labelled]
    labels = (await service.get(VERSION, "1h")).labels
    assert labels.recalibrate
    assert "less often right than it says" in labels.reason
    memory.labelled = memory.labelled[:29]
    labels = (await service.get(VERSION, "1h")).labels
    assert labels.ece.value is None
    assert "29 labelled detections are too few" in labels.reason
    assert not labels.recalibrate


async def test_what_there_is_not_is_not_found(service):
    with pytest.raises(NotFoundError):
        await service.get(f"{NAME}:9", "1h")
    with pytest.raises(InputError):
        await service.get(VERSION, "1y")
