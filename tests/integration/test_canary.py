"""A canary that ends by itself, at gateways that are killed, under a client that never stops."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from mlflow import MlflowClient

from astrotriton.detection.quality.canary import TESTS
from astrotriton.gateway.services.routing import _share
from astrotriton.gateway.settings import GatewaySettings
from benchmarks.clients import asking
from tests.integration.gateway_parts import (
    NAME,
    TritonServer,
    blob_network,
    exposure,
    free_port,
    gateway_process,
    infer,
    npy,
    serve,
    until_live,
    write_model,
    write_model_repository,
)

FRACTIONS = [0.01, 0.05, 0.25, 0.5, 1.0]
SHORT = {
    "ASTROTRITON_CANARY_PAIRS": "1",
    "ASTROTRITON_CANARY_EXPOSURES": "6",
    # So many the challenger answers in a step only where the test asks it to, until the last one.
    "ASTROTRITON_CANARY_RUNS": "4",
    "ASTROTRITON_CANARY_LEAST_SECONDS": "0",
    "ASTROTRITON_CANARY_INTERVAL": "0.2",
}
# Names of exposures that the challenger answers from the first step on, and in the last one alone.
EARLY, LATE = (
    [name for i in range(3000) if wanted(_share(NAME, name := f"night {i}"))]
    for wanted in (lambda share: share < FRACTIONS[0], lambda share: share > FRACTIONS[-2])
)


@pytest.fixture(scope="module")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 4 answers as version 3 does; version 5 finds nothing."""
    repository = write_model_repository(tmp_path_factory.mktemp("model_repository"))
    write_model(repository, NAME, 4, blob_network())
    write_model(repository, NAME, 5, blob_network(60.0))
    return repository


@pytest.fixture(scope="module")
def triton(
    model_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    with TritonServer(model_repository, tmp_path_factory.mktemp("triton")) as server:
        yield server


@dataclass
class Site:
    """Two gateways on one database, and a client that asks whichever is there."""

    settings: GatewaySettings
    folder: Path
    environment: dict[str, str]
    ports: list[int] = field(default_factory=lambda: [free_port(), free_port()])
    processes: list[subprocess.Popen[bytes] | None] = field(default_factory=lambda: [None, None])
    clients: list[httpx.AsyncClient] = field(default_factory=list)
    answers: list[tuple[int, int | None]] = field(default_factory=list)

    def start(self, which: int) -> None:
        folder = self.folder / str(which)
        folder.mkdir(exist_ok=True)
        settings = self.settings.model_copy(update={"port": self.ports[which]})
        self.processes[which] = gateway_process(settings, folder, **self.environment)

    async def until_live(self, which: int) -> None:
        process = self.processes[which]
        assert process is not None
        await until_live(self.clients[which], process)

    def kill(self, which: int) -> None:
        process, self.processes[which] = self.processes[which], None
        assert process is not None
        process.kill()
        process.wait()

    async def ask(self, name: str) -> int:
        """Score an exposure; a gateway that is gone is no answer, and another is asked."""
        async with asyncio.timeout(120):
            for which in (turn % 2 for turn in range(10_000)):
                if self.processes[which] is None:
                    continue
                try:
                    response = await infer(
                        self.clients[which], npy(exposure()), {"exposure_id": name}
                    )
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                version = response.json().get("model", {}).get("version")
                self.answers.append((response.status_code, version))
                return int(version)
        raise AssertionError("unreachable")

    async def canary(self) -> dict[str, Any]:
        while True:
            for which in (0, 1):
                if self.processes[which] is None:
                    continue
                try:
                    response = await self.clients[which].get(f"/models/{NAME}/canary")
                except httpx.TransportError:
                    continue
                assert response.status_code == 200, response.text
                return response.json()
            await asyncio.sleep(0.05)

    async def begin(self, version: int) -> None:
        trial = {"version": version, "mode": "canary", "fraction": 1, "automatic": True}
        response = await self.clients[0].put(
            f"/models/{NAME}/route", json={"champion": 3, "challenger": trial}
        )
        assert response.status_code == 200, response.text
        assert response.json()["challenger"]["fraction"] == FRACTIONS[0]

    async def route(self) -> dict[str, Any]:
        return (await self.clients[0].get(f"/models/{NAME}/route")).json()


@pytest.fixture
async def site(settings: GatewaySettings, tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(settings, tmp_path, SHORT)
    made.clients = [
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        for port in made.ports
    ]
    try:
        for which in (0, 1):
            made.start(which)
        for which in (0, 1):
            await made.until_live(which)
        yield made
    finally:
        for which, process in enumerate(made.processes):
            if process is not None:
                made.kill(which)
        for client in made.clients:
            await client.aclose()


async def events_of(settings: GatewaySettings) -> list[dict[str, Any]]:
    """The events of canaries, once all are on the stream."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        async with asyncio.timeout(60):
            while await connection.fetchval(
                "SELECT count(*) FROM outbox WHERE published_at IS NULL"
            ):
                await asyncio.sleep(0.1)
        rows = await connection.fetch(
            "SELECT event -> 'data' AS data FROM outbox WHERE subject = 'model.canary' ORDER BY id"
        )
    finally:
        await connection.close()
    return [json.loads(row["data"]) for row in rows]


@pytest.mark.promotion
async def test_it_goes_through_though_a_gateway_is_killed_at_each_step(site: Site) -> None:
    async def ask(number: int, turn: int) -> None:
        await site.ask(LATE[turn % len(LATE)])

    killed = []
    await site.begin(4)
    async with asyncio.timeout(300), asking(ask, clients=1):
        # Any gateway may have it. Both are killed, in turn, and the other one goes on.
        for number, fraction in enumerate(FRACTIONS):
            while (canary := await site.canary())["fraction"] < fraction:
                assert canary["status"] == "running", canary["reason"]
                for name in EARLY[:2]:
                    await site.ask(name)
            killed.append((canary["step"], canary["status"]))
            which = number % 2
            site.kill(which)
            assert (await site.canary())["step"] >= number + 1
            site.start(which)
            assert await site.ask(EARLY[2]) == 4
            await site.until_live(which)
        while (canary := await site.canary())["status"] == "running":
            await asyncio.sleep(0.1)

    assert killed[:4] == [(step, "running") for step in (1, 2, 3, 4)]
    assert canary["status"] == "promoted", canary["reason"]
    assert canary["pairs"] >= 5 * 6
    route = await site.route()
    assert (route["champion"], route["previous_champion"]) == (4, 3)
    assert route["challenger"] is None
    assert {status for status, _ in site.answers} == {200}
    assert {version for _, version in site.answers} == {3, 4}

    told = await events_of(site.settings)
    assert [(one["step"]["what"], one["step"]["fraction"]) for one in told] == [
        ("began", 0.01),
        *[("went-on", fraction) for fraction in FRACTIONS[1:]],
        ("promoted", 1.0),
    ]
    assert all(one["step"]["reason"] for one in told)


@pytest.mark.promotion
async def test_one_that_is_worse_is_sent_back_and_another_change_ends_it(site: Site) -> None:
    async def ask(number: int, turn: int) -> None:
        await site.ask(LATE[turn % len(LATE)])

    await site.begin(5)
    async with asyncio.timeout(120), asking(ask, clients=1):
        while (canary := await site.canary())["status"] == "running":
            await asyncio.sleep(0.1)
        assert canary["status"] == "sent-back"
        assert canary["step"] == 1
        assert "lost: the challenger does not call real what the champion does" in canary["reason"]

        await site.begin(4)
        response = await site.clients[1].put(f"/models/{NAME}/route", json={"champion": 3})
        assert response.status_code == 200
        canary = await site.canary()
    assert (canary["status"], canary["challenger"]) == ("ended", 4)
    assert "the route was changed" in canary["reason"]
    assert (await site.route())["challenger"] is None
    assert {status for status, _ in site.answers} == {200}
    assert {version for _, version in site.answers} <= {3}
    whats = [one["step"]["what"] for one in await events_of(site.settings)]
    assert whats == ["began", "sent-back", "began", "ended"]


@pytest.mark.promotion
async def test_each_step_is_a_line_and_metrics_in_mlflow(
    settings: GatewaySettings, mlflow_server
) -> None:
    logging = {"mlflow_uri": mlflow_server.url, "tracking_interval": 0.5}
    async with serve(settings.model_copy(update=logging)) as client:
        trial = {"version": 4, "mode": "canary", "fraction": 1, "automatic": True}
        for route in ({"champion": 3, "challenger": trial}, {"champion": 3}):
            response = await client.put(f"/models/{NAME}/route", json=route)
            assert response.status_code == 200, response.text
        canary = (await client.get(f"/models/{NAME}/canary")).json()
        assert [one["what"] for one in canary["steps"]] == ["began", "ended"]
        assert [one["name"] for one in canary["tests"]] == list(TESTS)

        mlflow = MlflowClient(mlflow_server.url)
        wanted = f"tags.`astrotriton.canary_id` = '{canary['id']}'"
        async with asyncio.timeout(120):
            while True:
                experiment = mlflow.get_experiment_by_name(f"{NAME}-serving")
                found = mlflow.search_runs([experiment.experiment_id], wanted) if experiment else []
                if found and found[0].info.status == "KILLED":
                    break
                await asyncio.sleep(0.5)
    (run,) = found
    assert run.data.params == {"champion": "3", "challenger": "4"}
    first, last = run.data.tags["mlflow.note.content"].splitlines()
    assert "began: it answers 1% of the runs" in first
    assert "ended: the route was changed" in last
    history = mlflow.get_metric_history(run.info.run_id, "fraction")
    assert [(one.step, one.value) for one in history] == [(0, 0.01), (1, 0.0)]
    assert run.data.metrics["lost_e_value"] == 1.0
