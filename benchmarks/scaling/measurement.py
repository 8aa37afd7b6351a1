"""Two Tritons and a gateway on this machine: what an exposure costs, and how a load goes.

The costs are those of an exposure for each core at a time; the load is many at once. So what the
simulation makes of the costs can be compared with what happened.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import numpy as np
import psutil
from tritonclient.grpc.aio import InferenceServerClient

from astrotriton.stack.parts.triton import triton
from astrotriton.stack.process import alone
from benchmarks.faults import Victim
from benchmarks.scaling.simulation import Costs, Outcome
from benchmarks.speed.exposures import asked
from benchmarks.speed.processes import Processes, cpu_seconds, of_triton, tree

NAME = "unet_astronomical"
_START = 120.0

#: A FITS file, and the candidates in it: x and y, pixels.
Exposure = tuple[bytes, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Trial:
    """Servers under measurement: the gateway's URL, and the processes of each part."""

    url: str
    processes: Processes


@asynccontextmanager
async def second_triton(victim: Victim, folder: Path) -> AsyncIterator[str]:
    """A Triton beside the stack's, with the same models: its address."""
    repository = victim.data / "model_repository"
    async with alone(partial(triton, repository=repository), folder) as site:
        address = site.addresses.triton_grpc
        async with InferenceServerClient(address) as client:
            await client.load_model(NAME)
        yield address


@contextmanager
def gateway(victim: Victim, tritons: Sequence[str], port: int) -> Iterator[Trial]:
    """A gateway of its own on the stack's database and events, and on these Tritons."""
    environment = victim.part("gateway").environ() | {
        "ASTROTRITON_PORT": str(port),
        "ASTROTRITON_TRITON_GRPC": ",".join(tritons),
    }
    # Beside the load there is nothing but the load.
    environment.pop("ASTROTRITON_MLFLOW_URI", None)
    log = victim.data / f"gateway-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "astrotriton.gateway", "serve"],
            env=os.environ | environment,
            stdout=output,
            stderr=output,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _until_ready(url, process, log)
        yield Trial(
            url,
            {
                "client": [psutil.Process()],
                "gateway": [psutil.Process(process.pid)],
                "triton": [_serving(address) for address in tritons],
                "database": [victim.part("postgres"), victim.part("nats")],
            },
        )
    finally:
        process.terminate()
        process.wait(120)


def _until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/ready", trust_env=False, timeout=30).is_success:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the gateway is not ready:\n{log.read_text()[-2000:]}")


def _serving(address: str) -> psutil.Process:
    flag = f"--grpc-port={address.rpartition(':')[2]}"
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if flag in process.cmdline() and process.name() == "tritonserver":
                return process
    raise RuntimeError(f"no Triton serves {address}")


def cpu(processes: Processes) -> dict[str, float]:
    """Seconds of CPU of each part so far; the model's instances are a part of their own."""
    parts = {
        # This process has other servers for children.
        part: list(roots) if part == "client" else [one for root in roots for one in tree(root)]
        for part, roots in processes.items()
    }
    return cpu_seconds(parts | of_triton(parts["triton"]))


async def costs_of(trial: Trial, exposures: Sequence[Exposure], number: int) -> Costs:
    """What an exposure of one tile costs, measured on ``number`` of them.

    As many at a time as there are cores: two that share a physical core, as a virtual machine's
    may, are slower together than each alone, and under load they are never alone.
    """
    cores = len(os.sched_getaffinity(0))
    await load_of(trial, exposures, cores, 2 * cores)
    before = cpu(trial.processes)
    took = (await load_of(trial, exposures, cores, number)).latencies
    after = cpu(trial.processes)
    mean = {name: (after[name] - before[name]) / number for name in after}
    return Costs(
        client=mean["client"],
        # Where the one ends and the other begins makes no difference where cores are shared.
        before=mean["gateway"] / 2,
        after=mean["gateway"] / 2,
        inference=[mean["stubs"]],
        server=mean["triton"],
        database=mean["database"],
        spread=(took / took.mean()).tolist(),
    )


async def load_of(
    trial: Trial, exposures: Sequence[Exposure], clients: int, number: int
) -> Outcome:
    """How ``number`` exposures go that so many clients send, each one after the other."""
    latencies: list[float] = []
    left = iter(range(number))

    async def ask(client: httpx.AsyncClient) -> None:
        for turn in left:
            started = time.perf_counter()
            await _score(client, exposures[turn % len(exposures)])
            latencies.append(time.perf_counter() - started)

    async with _client(trial) as client:
        started = time.perf_counter()
        await asyncio.gather(*(ask(client) for _ in range(clients)))
        return Outcome(np.array(latencies), time.perf_counter() - started)


async def stored_bytes(database_url: str) -> tuple[float, float]:
    """Bytes of a stored detection, and of an exposure's cut-outs, indexes included."""
    database = await asyncpg.connect(database_url)
    try:
        row = await database.fetchrow(
            """
            SELECT pg_total_relation_size('detections') / count(*) AS detection,
                   pg_total_relation_size('cutouts') / (SELECT count(*) FROM runs) AS cutouts
            FROM detections
            """
        )
    finally:
        await database.close()
    assert row is not None
    return float(row["detection"]), float(row["cutouts"])


def _client(trial: Trial) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=trial.url, trust_env=False, timeout=120)


async def _score(client: httpx.AsyncClient, exposure: Exposure) -> None:
    file, candidates = exposure
    answer = await client.post(
        "/detections/infer", files={"exposure": file}, data={"request": asked(candidates)}
    )
    answer.raise_for_status()
