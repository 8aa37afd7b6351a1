"""What this gateway measures, and the Tritons count, on its way into PostgreSQL."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import httpx
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException
from uuid_utils.compat import uuid7

from astrotriton.gateway.backends.replicas import Replica
from astrotriton.gateway.backends.triton import Triton
from astrotriton.gateway.observability.metrics import SAMPLES_DROPPED, TRITON_QUEUE
from astrotriton.gateway.observability.sketches import Sketch
from astrotriton.gateway.periodic import Seldom, repeat
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.performance import (
    Counted,
    MeasuredMinute,
    forget_measured,
    store_counted,
    store_measured,
)
from astrotriton.wire.runs import InferResponse

#: How long what was measured is kept.
KEPT = timedelta(days=30)

_PAUSE = 5.0
_HOUR = 3600.0
_MOST_MINUTES = 120
_PATIENCE = 3.0
_MEMORY = {
    "nv_cpu_memory_used_bytes": "host_memory_used",
    "nv_pinned_memory_pool_used_bytes": "pinned_memory_used",
    "nv_gpu_memory_used_bytes": "gpu_memory_used",
    "nv_gpu_memory_total_bytes": "gpu_memory_total",
}

_log = logging.getLogger(__name__)

_Key = tuple[datetime, int, str]


class Recorder:
    """Adds runs up by the minute, and stores the minutes in the background.

    A minute is stored whole each time, so that one that was stored before it failed is not counted
    twice. While PostgreSQL is away, minutes wait; beyond two hours the oldest are dropped, and
    counted.

    Parameters
    ----------
    name
        The model's.
    database, triton
        Where minutes go, and whose counts are read.
    metrics_port
        Of each Triton's metrics; None: its memory is not known.
    """

    def __init__(
        self, name: str, database: Database, triton: Triton, metrics_port: int | None
    ) -> None:
        self._name = name
        self._database = database
        self._triton = triton
        self._metrics_port = metrics_port
        self._gateway = uuid7()
        self._sketches: dict[_Key, Sketch] = {}
        self._dirty: set[_Key] = set()
        self._lock = asyncio.Lock()
        self._hourly = Seldom(_HOUR)
        self._queued: dict[int, tuple[int, int]] = {}
        #: Bytes by server and kind, as last read, and why there are none.
        self.memory: dict[str, dict[str, float]] = {}
        self.no_memory: str | None = (
            "ASTROTRITON_TRITON_METRICS_PORT is not set" if metrics_port is None else "not read yet"
        )

    def run_stored(self, run: InferResponse, seconds: Mapping[str, float]) -> None:
        """Count a run that was answered.

        Parameters
        ----------
        seconds
            What it took, by part; ``request`` the whole.
        """
        version = run.model.version
        for part, value in seconds.items():
            self._sketch(version, part).add(value)
        self._sketch(version, "tiles").add(float(run.tiles))
        kept = [d.confidence for d in run.detections if d.confidence is not None]
        self._sketch(version, "confidence").add_confidences(kept)

    def run_failed(self, version: int, code: str, seconds: float) -> None:
        """Count a run that was not answered, by the code of its problem."""
        self._sketch(version, f"error.{code}").add(seconds)

    async def run(self) -> None:
        """Store minutes and read Triton's counts until cancelled; once more in the end."""
        try:
            await repeat(self._store, _PAUSE, what="figures wait", log=_log, at_once=True)
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self.flush()
            except Exception as error:
                _log.warning("the last figures are lost: %s: %s", type(error).__name__, error)
            raise

    async def _store(self) -> None:
        await self.flush()
        await self.read_triton()
        await self._hourly.do(self._forget)

    async def _forget(self) -> None:
        async with self._database.transaction() as connection:
            await forget_measured(connection, KEPT)

    async def flush(self) -> None:
        """Store what has changed.

        Raises
        ------
        DependencyError
            If PostgreSQL is away; nothing is lost then.
        """
        async with self._lock:
            changed, self._dirty = self._dirty, set()
            measured = []
            for key in sorted(changed):
                sketch = self._sketches[key]
                bins, counts = list(sketch.counts), list(sketch.counts.values())
                measured.append(MeasuredMinute(*key, bins, counts, sketch.total))
            if not measured:
                return
            try:
                async with self._database.transaction() as connection:
                    await store_measured(connection, self._gateway, self._name, measured)
            except BaseException:
                self._dirty |= changed & self._sketches.keys()
                raise
            now = _minute()
            for key in changed - self._dirty:
                if key[0] < now:
                    del self._sketches[key]

    async def read_triton(self) -> None:
        """Store what every Triton has counted, and read its memory.

        Raises
        ------
        DependencyError
            If PostgreSQL is away.
        """
        found: dict[int, list[Counted]] = {}
        replicas = await self._triton.replicas()
        for answer in await asyncio.gather(*(self._counted(one) for one in replicas)):
            for version, counted in answer.items():
                found.setdefault(version, []).append(counted)
        async with self._database.transaction() as connection:
            for version, of_version in sorted(found.items()):
                of_version.sort(key=lambda one: one.server)
                await store_counted(connection, self._name, version, of_version)
        for version, of_version in found.items():
            requests = sum(one.counts["requests"] for one in of_version)
            queue = sum(one.counts["queue_ns"] for one in of_version)
            before = self._queued.get(version, (0, 0))
            if requests > before[0]:
                mean = (queue - before[1]) / (requests - before[0]) / 1e9
                TRITON_QUEUE.labels(version).set(max(mean, 0.0))
            self._queued[version] = (requests, queue)
        if self._metrics_port is not None:
            await self._read_memory(replicas, self._metrics_port)

    async def _counted(self, replica: Replica) -> dict[int, Counted]:
        try:
            answer = await replica.client.get_inference_statistics(
                self._name, client_timeout=_PATIENCE
            )
        except InferenceServerException as error:
            _log.debug("no statistics of %s: %s", replica.address, error)
            return {}
        now = datetime.now(UTC)
        found = {}
        for model in answer.model_stats:
            if model.name != self._name or not model.version.isdecimal():
                continue
            stats = model.inference_stats
            counts = {
                "requests": stats.success.count,
                "request_ns": stats.success.ns,
                "failed": stats.fail.count,
                "queue_ns": stats.queue.ns,
                "compute_input_ns": stats.compute_input.ns,
                "compute_infer_ns": stats.compute_infer.ns,
                "compute_output_ns": stats.compute_output.ns,
                "tiles": model.inference_count,
                "executions": model.execution_count,
            }
            for batch in model.batch_stats:
                counts[f"batch.{batch.batch_size}"] = batch.compute_infer.count
            found[int(model.version)] = Counted(replica.address, now, counts)
        return found

    async def _read_memory(self, replicas: Iterable[Replica], port: int) -> None:
        memory: dict[str, dict[str, float]] = {}
        # Plain HTTP: to load certificates would only take time.
        async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False, verify=False) as client:
            for replica in replicas:
                host = replica.address.rpartition(":")[0]
                try:
                    answer = await client.get(f"http://{host}:{port}/metrics")
                    answer.raise_for_status()
                    memory[replica.address] = _memory(answer.text)
                except (httpx.HTTPError, ValueError) as error:
                    self.no_memory = f"{host}:{port} does not say: {type(error).__name__}"
        self.memory = memory

    def _sketch(self, version: int, measure: str) -> Sketch:
        key = (_minute(), version, measure)
        if key not in self._sketches:
            self._make_room(key[0])
            self._sketches[key] = Sketch()
        self._dirty.add(key)
        return self._sketches[key]

    def _make_room(self, now: datetime) -> None:
        oldest = now - timedelta(minutes=_MOST_MINUTES)
        for key in [key for key in self._sketches if key[0] < oldest]:
            SAMPLES_DROPPED.labels("minute").inc()
            del self._sketches[key]
            self._dirty.discard(key)


def _minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)


def _memory(text: str) -> dict[str, float]:
    """Bytes by kind, of all GPUs together."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if (kind := _MEMORY.get(sample.name)) is not None:
                found[kind] = found.get(kind, 0.0) + sample.value
    return found
