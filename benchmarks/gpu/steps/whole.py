"""The gateway in front: exposures in, detections stored in PostgreSQL and told to NATS."""

import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from astrotriton.stack.golden import check_golden
from astrotriton.stack.parts.gateway import gateway
from astrotriton.stack.parts.nats import nats
from astrotriton.stack.parts.postgres import postgres
from astrotriton.stack.parts.triton import triton
from astrotriton.stack.process import Part, PartProcess
from astrotriton.stack.site import Site
from benchmarks.gpu.server import NAME, write_repository
from benchmarks.gpu.steps.common import Job, job
from benchmarks.speed.exposures import asked, made
from benchmarks.speed.wire import MULTIPART, multipart, post

# What the stack has beside what scoring needs, and this run has not.
_LEFT_OUT = ("MLFLOW_URI", "S3_ENDPOINT", "S3_REGION", "REPORT_URL")
_SETTINGS = {
    "ASTROTRITON_RATE_PER_MINUTE": "1000000",
    "ASTROTRITON_CONCURRENCY": "128",
    "ASTROTRITON_MAX_WAITING": "128",
    "ASTROTRITON_ASYNC_BYTES": str(1 << 30),
    "ASTROTRITON_CANARY_INTERVAL": "86400",
    "ASTROTRITON_LOG_LEVEL": "WARNING",
}
_KINDS = 4
_CLIENTS = 16
_PATIENCE = 150.0


def main() -> None:
    """Measure exposures of 512x512, and of 4096x4096 where there is a GPU."""
    asyncio.run(_measure_all(job()))


async def _measure_all(doing: Job) -> None:
    os.environ.update(_SETTINGS | {"ASTROTRITON_ENABLE_GPU": str(doing.device == "gpu").lower()})
    with tempfile.TemporaryDirectory(prefix="astrotriton-gpu-") as folder:
        # PostgreSQL's own user passes through.
        Path(folder).chmod(0o711)
        bodies = await asyncio.to_thread(_bodies, doing, Path(folder, "exposures"))
        async with _stack(doing, Path(folder)) as site:
            version = Path(folder, "repository", NAME, "1")
            largest = await check_golden(site.addresses.triton_grpc, version)
            doing.tell(form="golden tile to every instance", difference=largest)
            address = urlsplit(site.addresses.gateway_url).netloc
            for side, these in bodies.items():
                try:
                    figures = await asyncio.to_thread(_measure, doing, address, these)
                except Exception as error:  # The other size may go.
                    failed = f"{type(error).__name__}: {error}"
                    doing.tell(form=f"gateway, {side}x{side}", failed=failed)
                    continue
                doing.tell(form=f"gateway, {side}x{side}", **figures)
            doing.tell(form="stored", **await _stored(site))


def _bodies(doing: Job, folder: Path) -> dict[int, list[bytes]]:
    """Requests by the side of their exposure."""
    sides = {512: _KINDS} if doing.device == "cpu" else {512: _KINDS, 4096: 1}
    return {
        side: [
            multipart(file, request=asked(candidates))
            for file, candidates in (made(number, side, folder) for number in range(count))
        ]
        for side, count in sides.items()
    }


@asynccontextmanager
async def _stack(doing: Job, folder: Path) -> AsyncIterator[Site]:
    """PostgreSQL, NATS, Triton with the network, and the gateway."""
    from tritonclient.grpc.aio import InferenceServerClient

    repository = folder / "repository"
    write_repository(doing, repository, instances=2 if doing.device == "gpu" else None)
    site = Site(folder / "data")
    async with AsyncExitStack() as stack:
        stack.callback(site.release)

        async def start(describe: Callable[[], Part]) -> None:
            started = time.monotonic()
            process = await PartProcess.launch(describe(), site)
            stack.push_async_callback(process.stop)
            await process.until_ready()
            # Kept in the run's log.
            print(f"{process.part.name} {time.monotonic() - started:.1f} s", file=sys.stderr)

        await start(lambda: postgres(site))
        await start(lambda: nats(site))
        await start(lambda: triton(site, repository))
        async with InferenceServerClient(site.addresses.triton_grpc) as client:
            await client.load_model(NAME, client_timeout=90.0)
        await start(lambda: _alone(gateway(site, repository)))
        yield site


def _alone(part: Part) -> Part:
    """The gateway without MLflow and S3."""
    left_out = {f"ASTROTRITON_{name}" for name in _LEFT_OUT}
    kept = {name: text for name, text in part.environment.items() if name not in left_out}
    # What it compiles at its first start takes ten seconds of a core that is free.
    return replace(part, environment=kept, patience=_PATIENCE)


def _measure(doing: Job, address: str, bodies: Sequence[bytes]) -> dict[str, float]:
    """Exposures a second, asked for by several clients, counted and drained."""
    own = threading.local()
    clients = _CLIENTS if len(bodies) > 1 else 4

    def score(number: int) -> tuple[int, int]:
        answer = post(own, address, "/detections/infer", bodies[number % len(bodies)], MULTIPART)
        told = json.loads(answer)
        return told["tiles"], len(told["detections"])

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(score, range(clients)))
        started = time.perf_counter()
        list(pool.map(score, range(clients)))
        each = (time.perf_counter() - started) / clients
        count = max(clients, int(doing.seconds * 5 / each))
        started = time.perf_counter()
        answers = list(pool.map(score, range(count)))
        elapsed = time.perf_counter() - started
    return {
        "concurrency": clients,
        "exposures": count,
        "exposures_per_s": count / elapsed,
        "tiles_per_s": sum(tiles for tiles, _ in answers) / elapsed,
        "detections_per_s": sum(detections for _, detections in answers) / elapsed,
    }


async def _stored(site: Site) -> dict[str, int]:
    """What is in the database by now."""
    import asyncpg

    connection = await asyncpg.connect(site.addresses.database_url)
    try:
        return {
            f"{table}_stored": await connection.fetchval(f"SELECT count(*) FROM {table}")
            for table in ("runs", "detections")
        }
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
