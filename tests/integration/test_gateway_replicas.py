"""Two gateways and two Tritons on one database: they share the work, and each may go."""

import asyncio
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from astrotriton.client import InferResponse
from astrotriton.gateway.settings import GatewaySettings
from benchmarks.faults import Report, audit
from tests.integration.gateway_parts import (
    TritonServer,
    free_port,
    gateway_process,
)
from tests.integration.load_parts import load, tiles_of, until

pytestmark = pytest.mark.faults

PROBE = 0.2
DRAIN = 5.0
PATIENCE = 180.0
ENOUGH = 25


@dataclass
class Gateway:
    """A gateway in a process of its own, which can be started again on its port."""

    settings: GatewaySettings
    folder: Path
    process: Any = None
    ready: bool = False
    answered: int = 0
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.url = f"http://127.0.0.1:{self.settings.port}"

    def start(self) -> None:
        self.process = gateway_process(
            self.settings, self.folder, ASTROTRITON_DRAIN_DELAY=str(DRAIN)
        )

    async def leave(self) -> int:
        """Ask it to end, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Service:
    """One name for several gateways, as a Kubernetes Service is.

    Each is asked for `/health/ready` every 0.2 s; a request goes over a new connection to the next
    in turn of those whose last answer was 200.
    """

    def __init__(self, gateways: list[Gateway]) -> None:
        self.gateways = gateways
        self._turn = itertools.count()

    def next(self) -> Gateway | None:
        ready = [gateway for gateway in self.gateways if gateway.ready]
        return ready[next(self._turn) % len(ready)] if ready else None

    async def post(self, **request: Any) -> httpx.Response:
        """A request sent once. No answer is a `httpx.TransportError`."""
        gateway = self.next()
        if gateway is None:
            raise httpx.ConnectError("no gateway is ready")
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            response = await client.post(f"{gateway.url}/detections/infer", **request)
        gateway.answered += response.status_code == 200
        return response

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        async def probe(gateway: Gateway) -> None:
            async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
                while True:
                    try:
                        response = await client.get(f"{gateway.url}/health/ready")
                        gateway.ready = response.status_code == 200
                    except httpx.TransportError:
                        gateway.ready = False
                    await asyncio.sleep(PROBE)

        probes = [asyncio.create_task(probe(gateway)) for gateway in self.gateways]
        try:
            yield
        finally:
            for task in probes:
                task.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    async def until_all_ready(self) -> None:
        await until(lambda: all(gateway.ready for gateway in self.gateways), PATIENCE)


@pytest.fixture
def second_triton(model_repository: Path, tmp_path: Path) -> Iterator[TritonServer]:
    (tmp_path / "triton").mkdir()
    with TritonServer(model_repository, tmp_path / "triton") as server:
        yield server


@pytest.fixture
async def service(
    settings: GatewaySettings, second_triton: TritonServer, tmp_path: Path
) -> AsyncIterator[Service]:
    both = {"triton_grpc": f"{settings.triton_grpc},{second_triton.address}"}
    gateways = [
        Gateway(settings.model_copy(update={**both, "port": free_port()}), tmp_path / name)
        for name in ("one", "other")
    ]
    try:
        for gateway in gateways:
            gateway.start()
        service = Service(gateways)
        async with service.probing():
            await service.until_all_ready()
            yield service
    finally:
        for gateway in gateways:
            gateway.kill()


async def test_one_of_each_may_be_killed_under_load(service, settings, second_triton, capsys):
    report = Report()
    one, other = service.gateways

    async def ask(name: str, content: bytes) -> None:
        """Send it until it is answered, under one key: what became of the last try is not known."""
        started = time.monotonic()
        async with asyncio.timeout(120):
            while True:
                try:
                    response = await service.post(
                        files={"exposure": content}, headers={"Idempotency-Key": name}
                    )
                except httpx.TransportError as error:
                    report.outcomes[type(error).__name__] += 1
                else:
                    report.outcomes[f"{response.status_code}"] += 1
                    if response.status_code == 200:
                        run = msgspec.json.decode(response.content, type=InferResponse)
                        report.answered(run, time.monotonic() - started)
                        return
                    assert response.status_code == 503, response.text
                await asyncio.sleep(0.1)

    async def answered_more() -> None:
        enough = len(report.answers) + ENOUGH
        await until(lambda: len(report.answers) >= enough, PATIENCE)

    async with load(ask):
        await answered_more()
        tiles = [
            await tiles_of(address) for address in (settings.triton_grpc, second_triton.address)
        ]
        shares = (one.answered, other.answered)
        second_triton.kill()
        await answered_more()
        one.kill()
        await answered_more()
    await audit(settings.database_url.get_secret_value(), settings.nats_url, report)
    with capsys.disabled():
        print(f"\nanswered by each gateway: {shares}, tiles by each Triton: {tiles}\n{report}")
    assert min(shares) >= ENOUGH // 4
    assert min(tiles) >= ENOUGH // 4
    assert report.broken == []


async def test_gateways_are_restarted_in_turn_and_no_request_fails(service, capsys):
    outcomes: Counter[str] = Counter()

    async def ask(name: str, content: bytes) -> None:
        try:
            response = await service.post(files={"exposure": content})
        except httpx.TransportError as error:
            outcomes[repr(error)] += 1
        else:
            outcomes[f"{response.status_code}"] += 1

    async with load(ask):
        for gateway in service.gateways:
            assert await gateway.leave() in (0, -signal.SIGTERM)
            assert not gateway.ready
            gateway.start()
            await service.until_all_ready()
        enough = outcomes["200"] + ENOUGH
        await until(lambda: outcomes["200"] >= enough, PATIENCE)
    shares = [gateway.answered for gateway in service.gateways]
    with capsys.disabled():
        print(f"\nboth gateways restarted: {dict(outcomes)}, {shares} by each")
    assert set(outcomes) == {"200"}
