"""What Prometheus is told."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prometheus_client import Counter, Gauge, Histogram

from astrotriton.gateway.observability.telemetry import tracing

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

REQUESTS = Histogram(
    "astrotriton_http_request_duration_seconds",
    "From the first byte of a request to the first of its answer.",
    ("method", "path", "status"),
    buckets=_SECONDS,
)
STAGES = Histogram(
    "astrotriton_run_stage_duration_seconds",
    "Parts of a run: wait, prepare, infer, finish, store.",
    ("stage",),
    buckets=_SECONDS,
)
TRITON_REQUESTS = Histogram(
    "astrotriton_triton_request_duration_seconds",
    "Requests to Triton, by how they ended.",
    ("status",),
    buckets=_SECONDS,
)
BATCHES = Histogram(
    "astrotriton_triton_request_tiles",
    "Tiles in a request to Triton.",
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
RUNS = Counter("astrotriton_runs", "Runs stored.", ("version",))
DETECTIONS = Counter("astrotriton_detections", "Detections stored.", ("outcome", "real"))
CONFIDENCES = Histogram(
    "astrotriton_detection_confidence",
    "Confidence of the detections kept.",
    buckets=[i / 20 for i in range(1, 21)],
)
PROBLEMS = Counter("astrotriton_problems", "Requests not answered as asked.", ("code",))
RETRIES = Counter("astrotriton_triton_retries", "Requests sent to Triton once more.")
EJECTIONS = Counter("astrotriton_triton_ejections", "Times that a Triton was left out.")
SHADOW_RUNS = Counter(
    "astrotriton_shadow_runs", "Runs of a challenger in the shadow.", ("outcome",)
)
INSIDE = Gauge("astrotriton_requests_inside", "Exposures being scored, or waiting for it.")
HELD = Gauge("astrotriton_held_bytes", "Bytes of the files being scored, or waiting for it.")
STREAMS = Gauge("astrotriton_streams", "Callers who follow new detections.")
READY = Gauge("astrotriton_ready", "Whether the gateway was ready when it was last asked.")
OUTBOX_WAITING = Gauge("astrotriton_outbox_waiting_events", "Events that wait to be published.")
OUTBOX_LAG = Gauge("astrotriton_outbox_lag_seconds", "How long the oldest of them has waited.")
OUTBOX_PUBLISHED = Counter("astrotriton_outbox_published_events", "Events published.")
OUTBOX_REPEATED = Counter(
    "astrotriton_outbox_repeated_events",
    "Events published again, because the stream had lost them.",
)
SAMPLES_DROPPED = Counter(
    "astrotriton_samples_dropped", "What was measured and not kept, by kind.", ("kind",)
)
TRITON_QUEUE = Gauge(
    "astrotriton_triton_queue_seconds", "Mean time of late in Triton's queue.", ("version",)
)
DRIFTED = Gauge(
    "astrotriton_drift_detected", "Whether the last look found drift.", ("model", "version")
)
DRIFT_DISTANCE = Gauge(
    "astrotriton_drift_distance",
    "Kolmogorov-Smirnov distance of a descriptor from the reference, at the last look.",
    ("model", "version", "descriptor"),
)
VALIDATION_ECE = Gauge(
    "astrotriton_validation_calibration_error",
    "Expected calibration error at the last validation.",
    ("model", "version"),
)
VALIDATION_PASSED = Gauge(
    "astrotriton_validation_passed", "Whether the last validation passed.", ("model", "version")
)

READERS = Gauge("astrotriton_readers", "Processes that read files.", ("state",))
READER_ENDS = Counter("astrotriton_reader_ends", "Readers that ended, by the reason.", ("reason",))

MEMORY = Gauge("astrotriton_memory_bytes", "Memory of its own, by process.", ("process",))

_run: ContextVar[dict[str, float] | None] = ContextVar("parts of the run", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Measure and trace a part of a run; only what succeeds is measured."""
    started = time.perf_counter()
    with tracing.span(name):
        yield
    seconds = time.perf_counter() - started
    STAGES.labels(name).observe(seconds)
    if (parts := _run.get()) is not None:
        parts[name] = parts.get(name, 0.0) + seconds


def observe_memory(process: str, find: Callable[[], float]) -> None:
    """Say how to find the bytes of memory of a process, whenever Prometheus asks."""
    MEMORY.labels(process).set_function(find)


def measure_parts() -> dict[str, float]:
    """Seconds of each part of the run that begins in this task, as they become known."""
    parts: dict[str, float] = {}
    _run.set(parts)
    return parts
