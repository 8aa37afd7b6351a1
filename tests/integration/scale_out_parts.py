"""A release of the chart with every pod on a host of its own, and what a control plane does for it.

Pods are started from the rendered manifests: arguments, environment, ports, probes, preStop and
grace periods are those of the chart. A cluster's part is played here: who is ready, and so stands
under a Service's name; what a pod is told that goes.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from astrotriton.client import InferResponse
from benchmarks.faults import Report, audit
from tests.chart.chart_parts import find, objects, pod_of
from tests.integration.chart_servers import (
    ChartGateway,
    ChartTriton,
    container_of,
    environment_of,
    put_repository,
    run,
    terminate,
    values_of,
)
from tests.integration.gateway_parts import NatsServer, ObjectStoreServer, PostgresServer
from tests.integration.hosts import Lan
from tests.integration.load_parts import load as clients
from tests.integration.load_parts import looking, until

SERVICE = "demo-astrotriton-triton"
DEADLINE = 60.0
_PROBE = 0.5
_ONE_TRY = 15.0
_PATIENCE = 120.0

Pod = ChartTriton | ChartGateway


class Release:
    """One release, its dependencies, and its control plane.

    Parameters
    ----------
    lan
        Where its hosts are.
    programs
        Folder of PostgreSQL's programs.
    repository
        The model repository that is put into the S3 store.
    folder
        For data and logs, one that every user may enter.
    """

    def __init__(self, lan: Lan, programs: Path, repository: Path, folder: Path) -> None:
        self.lan, self._folder, self._repository = lan, folder, repository
        for name in ("postgres", "store"):
            (folder / name).mkdir()
        self.postgres = PostgresServer(programs, folder / "postgres", lan.host())
        self.nats = NatsServer(folder / "nats", lan.host())
        self.store = ObjectStoreServer(folder / "store", lan.host())
        self.tritons: list[ChartTriton] = []
        self.gateways: list[ChartGateway] = []
        self.unseen: set[Pod] = set()
        self._ready: set[Pod] = set()
        self._leaving: set[Pod] = set()
        self._pods = itertools.count()
        self._turn = itertools.count()
        self._open = ExitStack()
        self.token = ""

    async def start(self) -> None:
        """Dependencies, then the migration, then two of each."""
        for server in (self.postgres, self.nats, self.store):
            await asyncio.to_thread(self._open.enter_context, server)
        put_repository(self.store, self._repository)
        self.upgrade(drainSeconds=5)
        self.secrets = {
            "url": self.postgres.url,
            "AWS_ACCESS_KEY_ID": self.store.access_key,
            "AWS_SECRET_ACCESS_KEY": self.store.secret_key,
        }
        await self.migrate()
        for _ in range(2):
            await self.add_triton()
        for _ in range(2):
            await self.add_gateway()
        scopes = [f"--scope={one}" for one in ("infer", "read", "admin")]
        key = await asyncio.to_thread(
            run,
            {
                "command": ["python", "-m", "astrotriton"],
                "args": ["keys", "create", "scale-out", *scopes],
            },
            self.gateways[0].environment,
        )
        assert key.returncode == 0, key.stderr
        self.token = key.stdout.strip()

    def close(self) -> None:
        """End all of it."""
        self._open.close()

    def upgrade(self, **gateway: Any) -> None:
        """Render the chart anew: pods that are added from now on are so."""
        values = values_of(self.store, nats={"url": self.nats.url})
        values["gateway"] |= gateway
        self.made = objects(values)

    async def migrate(self) -> None:
        """The hook that runs before pods are replaced."""
        job = container_of(find(self.made, "Job", "-migrate"))
        done = await asyncio.to_thread(run, job, environment_of(job, self.made, self.secrets))
        assert done.returncode == 0, done.stderr

    async def add_triton(self) -> ChartTriton:
        """One Triton more; it gets requests once it is ready."""
        container = container_of(find(self.made, "Deployment", "-triton"))
        environment = environment_of(container, self.made, self.secrets)
        pod = ChartTriton(container, environment, self._place("triton"), self.lan.host())
        self.tritons.append(pod)
        await self._begin(pod)
        return pod

    async def add_gateway(self) -> ChartGateway:
        """One gateway more; it gets requests once it is ready."""
        log = self._place("gateway") / "log"
        pod = ChartGateway(self.made, self.secrets, {}, log, self.lan.host())
        self.gateways.append(pod)
        await self._begin(pod)
        return pod

    async def remove(self, pod: Pod) -> int:
        """Take it out of its Service and end it as the manifest says; its exit status."""
        # Both start when a pod is deleted: its address goes, and preStop runs.
        self._leaving.add(pod)
        of = "-triton" if isinstance(pod, ChartTriton) else "-gateway"
        spec = pod_of(find(self.made, "Deployment", of))
        assert spec is not None
        status = await asyncio.to_thread(terminate, pod, spec)
        for pods in (self.tritons, self.gateways):
            if pod in pods:
                pods.remove(pod)  # type: ignore[arg-type]
        self._leaving.discard(pod)
        return status

    async def until_ready(self, pod: Pod) -> None:
        """Wait until a pod gets requests."""
        await until(lambda: pod in self._ready, _PATIENCE)

    def next_gateway(self) -> ChartGateway | None:
        """The gateway whose turn it is, of those that are ready."""
        ready = [pod for pod in self.gateways if pod in self._ready and pod not in self._leaving]
        return ready[next(self._turn) % len(ready)] if ready else None

    async def look(self) -> None:
        """Ask every pod whether it is ready, and publish the answers as names."""
        pods: list[Pod] = [*self.tritons, *self.gateways]

        async def ask(pod: Pod) -> None:
            # A node that is cut off is not seen to be: its kubelet's last word counts.
            if pod in self.unseen:
                return
            try:
                ready = await asyncio.to_thread(pod.probe, "readinessProbe")
            except RuntimeError:
                ready = False
            (self._ready.add if ready else self._ready.discard)(pod)

        await asyncio.gather(*(ask(pod) for pod in pods))
        ready = [
            one.host.address
            for one in self.tritons
            if one in self._ready and one not in self._leaving
        ]
        self.lan.resolve({SERVICE: ready})

    def controlled(self) -> AbstractAsyncContextManager[None]:
        """Keep looking while the block runs."""
        return looking(self.look, _PROBE)

    def _place(self, kind: str) -> Path:
        folder = self._folder / f"{kind}-{next(self._pods)}"
        folder.mkdir()
        return folder

    async def _begin(self, pod: Pod) -> None:
        await asyncio.to_thread(self._open.enter_context, pod)
        await self.look()


@dataclass
class Phase:
    """What clients saw during one fault, and what was found after it."""

    name: str
    sent: int = 0
    tries: Counter[str] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    report: Report = field(default_factory=Report)

    @property
    def answered(self) -> int:
        return len(self.report.answers)

    @property
    def retried(self) -> int:
        return self.tries.total() - self.sent

    @staticmethod
    def head() -> str:
        return (
            f"{'':<34}{'sent':>6}{'answered':>10}{'retried':>9}{'lost':>6}{'broken':>8}"
            f"{'longest (s)':>13}"
        )

    def __str__(self) -> str:
        others = {name: count for name, count in self.tries.items() if name != "200"}
        return (
            f"{self.name:<34}{self.sent:>6}{self.answered:>10}{self.retried:>9}{len(self.lost):>6}"
            f"{len(self.report.broken):>8}{self.report.longest_wait:>13.1f}  {others or ''}"
        )


@asynccontextmanager
async def load(release: Release, phase: Phase) -> AsyncIterator[None]:
    """Keep clients asking while the block runs, each again until it is answered."""

    async def ask(name: str, content: bytes) -> None:
        started = time.monotonic()
        phase.sent += 1
        # What became of a try that was not answered isn't known: the key says that it is the same.
        headers = {"Authorization": f"Bearer {release.token}", "Idempotency-Key": name}
        while time.monotonic() - started < DEADLINE:
            gateway = release.next_gateway()
            if gateway is None:
                await asyncio.sleep(0.1)
                continue
            try:
                async with httpx.AsyncClient(trust_env=False, timeout=_ONE_TRY) as client:
                    response = await client.post(
                        f"{gateway.url}/detections/infer",
                        files={"exposure": content},
                        headers=headers,
                    )
            except httpx.TransportError as error:
                phase.tries[type(error).__name__] += 1
            else:
                phase.tries[f"{response.status_code}"] += 1
                if response.status_code == 200:
                    run = msgspec.json.decode(response.content, type=InferResponse)
                    phase.report.answered(run, time.monotonic() - started)
                    phase.versions[run.model.version] += 1
                    return
                # The same key while its first try still runs elsewhere is a conflict.
                if response.status_code not in (409, 503):
                    phase.lost.append(f"{name}: {response.status_code} {response.text}")
                    return
            await asyncio.sleep(0.2)
        phase.lost.append(f"{name}: not within {DEADLINE:g} s")

    async with clients(ask, phase.name.replace(" ", "-")):
        yield


async def answered_more(phase: Phase, number: int) -> None:
    """Wait for so many answers more."""
    enough = phase.answered + number
    await until(lambda: phase.answered >= enough, _PATIENCE)


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so that takes a question to a server."""
    async with asyncio.timeout(_PATIENCE):
        while not await condition():
            await asyncio.sleep(0.2)


@asynccontextmanager
async def audited(
    release: Release,
    phase: Phase,
    database: str,
    broker: str,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Phase]:
    """Keep clients asking while the block runs, audit what was kept of it, and print the phase."""
    try:
        async with load(release, phase):
            yield phase
        await audit(database, broker, phase.report)
    finally:
        with capsys.disabled():
            print(phase, flush=True)
