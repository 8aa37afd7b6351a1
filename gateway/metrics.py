"""What Prometheus is told."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from gateway.telemetry import tracing

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
READY = Gauge("astrotriton_ready", "Whether the gateway was ready when it was last asked.")
OUTBOX_WAITING = Gauge("astrotriton_outbox_waiting_events", "Events that wait to be published.")
OUTBOX_LAG = Gauge("astrotriton_outbox_lag_seconds", "How long the oldest of them has waited.")
OUTBOX_PUBLISHED = Counter("astrotriton_outbox_published_events", "Events published.")


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Measure and trace a part of a run; only what succeeds is measured."""
    started = time.perf_counter()
    with tracing.span(name):
        yield
    STAGES.labels(name).observe(time.perf_counter() - started)
