"""Drift found through the gateway: samples, looks, events, metrics and reports, with faults."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import numpy as np
import psutil
import pytest

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.quality.drift import Baseline, describe
from astrotriton.detection.scoring.score import finish, prepare_exposure
from astrotriton.gateway.services.drift import reports
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.worker import WorkerError, work
from astrotriton.settings import ModelConfig
from tests.integration.gateway_parts import (
    NAME,
    TILE,
    NatsServer,
    ObjectStoreServer,
    blob_network,
    free_port,
    infer,
    npy,
    serve,
)
from tests.integration.monitoring_parts import OneTriton, predictor, publish

MODEL, BARE = f"{NAME}:3", f"{NAME}:4"
CARD = UNetModel(
    name=NAME,
    trained_at=datetime(2026, 11, 24, tzinfo=UTC),
    input=TensorSpec(name="image", shape=(-1, 1, TILE, TILE)),
    output=TensorSpec(name="probability", shape=(-1, 1, TILE, TILE)),
    overlap=32,
)


def exposure(seed: int, noise: float = 1.0) -> np.ndarray:
    """An exposure of point sources in noise that hardly changes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:TILE, :TILE]
    image = rng.normal(size=(TILE, TILE))
    for x0, y0, peak in rng.uniform((10, 10, 10), (118, 118, 40), (5, 3)):
        image += peak * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.7**2))
    return (image * noise * np.exp(0.05 * rng.normal())).astype(np.float32)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    content = blob_network().SerializeToString()
    predict = predictor(content)
    rows = [
        describe(
            finish(prepare_exposure(Exposure.from_array(exposure(i)), CARD).answer(predict, 4))
        )
        for i in range(60)
    ]
    publish(root, CARD, 3, content, baseline__npz=Baseline(np.array(rows), "60 nights").to_npz())
    publish(root, CARD, 4, content)
    return root


@pytest.fixture(scope="module")
def own_triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneTriton]:
    with OneTriton(repository, tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture(scope="module")
def store(object_store: ObjectStoreServer) -> ObjectStoreServer:
    object_store.bucket("reports")
    return object_store


@pytest.fixture
def own_settings(
    database: str,
    repository: Path,
    own_triton: OneTriton,
    nats_server: NatsServer,
    store: ObjectStoreServer,
    monkeypatch: pytest.MonkeyPatch,
) -> GatewaySettings:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    monkeypatch.setattr(reports, "_RETRY", timedelta(seconds=1))
    return GatewaySettings(
        port=free_port(),
        auth="off",
        database_url=database,
        triton_grpc=own_triton.address,
        nats_url=nats_server.url,
        model_repository=str(repository),
        outbox_poll=0.2,
        s3_endpoint=store.url,
        s3_region="us-east-1",
        s3_timeout=5,
        drift_samples=200,
        report_url="s3://reports/drift",
    )


@pytest.fixture
async def gateway(own_settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(own_settings) as client:
        yield client


async def send(client: httpx.AsyncClient, seeds: range, version: int = 3, **how: float) -> None:
    for seed in seeds:
        answer = await infer(client, npy(exposure(seed, **how)), {"model_version": version})
        assert answer.status_code == 200, answer.text


async def look(client: httpx.AsyncClient, model: str = MODEL, window: str = "1h") -> dict:
    answer = await client.post(f"/models/{model}/drift", params={"window": window})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/drift/{answer.json()['id']}"
    return answer.json()


async def reported(client: httpx.AsyncClient, check_id: str) -> dict:
    """The look, once its report is there; Evidently takes a while to start."""
    async with asyncio.timeout(300):
        while True:
            check = (await client.get(f"/drift/{check_id}")).json()
            if check["report"]["status"] == "ready":
                return check
            await asyncio.sleep(0.2)


@pytest.mark.monitoring
async def test_a_changed_camera_is_found_told_and_reported(gateway, own_settings):
    few = await look(gateway)
    assert few["status"] == "too-little-data"
    assert "20 are needed" in few["reason"]

    await send(gateway, range(1000, 1030))
    steady = await look(gateway)
    assert steady["status"] == "steady", steady["drifted"]
    assert steady["exposures"] == steady["scored"] == 30
    assert steady["baseline"] == "60 nights"
    assert len(steady["features"]) == 18
    assert steady["trend"]["exposures"] == 30

    # Another gain, and nothing else: the network sees the same, the counts do not.
    await send(gateway, range(2000, 2030), noise=3.0)
    drifted = await look(gateway)
    assert drifted["status"] == "drifted"
    assert drifted["exposures"] == 60
    print(drifted["drifted"])
    assert "noise" in drifted["drifted"][:3]
    assert not set(drifted["drifted"]) & {"confidence_mean", "seeing_fwhm", "trend"}
    again = await look(gateway)
    assert again["status"] == "drifted"

    # Told once: the second look found nothing new.
    connection = await asyncpg.connect(own_settings.database_url.get_secret_value())
    try:
        events = await connection.fetch("SELECT event FROM outbox WHERE subject = 'model.drifted'")
    finally:
        await connection.close()
    [event] = [msgspec.json.decode(row["event"]) for row in events]
    assert event["subject"] == MODEL
    assert event["data"]["drifted"] == drifted["drifted"]
    assert event["data"]["check_id"] == drifted["id"]

    # It is told between two reports, and Evidently may take minutes where others work too.
    async with asyncio.timeout(300):
        while (
            'astrotriton_drift_detected{model="unet_astronomical",version="3"} 1.0'
            not in (await gateway.get("/metrics")).text
        ):
            await asyncio.sleep(0.2)

    check = await reported(gateway, again["id"])
    page = await gateway.get(check["report"]["url"])
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert len(page.content) > 1_000_000
    assert b"root_metric_" in page.content
    listed = (await gateway.get(f"/models/{MODEL}/drift")).json()
    assert [one["id"] for one in listed[:2]] == [again["id"], drifted["id"]]
    summary = (await gateway.get(f"/models/{MODEL}/performance")).json()["drift"]
    assert summary["status"] == "drifted"
    assert summary["drifted"] == again["drifted"]


@pytest.mark.monitoring
async def test_a_person_may_call_a_camera_what_is_to_be_expected(gateway):
    url = f"/models/{MODEL}/drift/baseline"
    few = await gateway.put(url, json={"window": "1h"})
    assert few.status_code == 409
    assert "20 are needed" in few.json()["detail"]
    await send(gateway, range(100, 130), noise=5.0)
    assert (await look(gateway))["status"] == "drifted"
    accepted = await gateway.put(url, json={"window": "1h"})
    assert accepted.status_code == 200, accepted.text
    assert accepted.json()["exposures"] == 30
    await send(gateway, range(130, 160), noise=5.0)
    calm = await look(gateway)
    assert calm["status"] == "steady", calm["drifted"]
    assert "accepted by anonymous" in calm["baseline"]
    assert calm["trend"]["exposures"] == 30
    back = await gateway.put(url, json={"window": None})
    assert back.json()["description"] == "60 nights"
    assert (await look(gateway))["status"] == "drifted"
    assert (await gateway.put(url, json={"window": "1y"})).status_code == 422
    assert (await gateway.put(f"/models/{NAME}:9/drift/baseline", json={"window": None})).is_error


@pytest.mark.faults
async def test_a_report_that_fails_is_made_later_and_runs_do_not_wait(gateway, store):
    await send(gateway, range(3000, 3025))
    check = await look(gateway)
    killed = False
    async with asyncio.timeout(120):
        while not killed:
            for process in psutil.Process().children(recursive=True):
                # It ends by itself between being seen and being looked at, or not at all.
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "astrotriton.gateway.services.drift.report" in process.cmdline():
                        process.kill()
                        killed = True
            await asyncio.sleep(0.05)
    # The store does not answer either, for a while.
    os.killpg(store._process.pid, signal.SIGSTOP)
    try:
        slowest = 0.0
        for seed in range(4000, 4010):
            began = time.monotonic()
            await send(gateway, range(seed, seed + 1))
            slowest = max(slowest, time.monotonic() - began)
        print(f"slowest run while the report failed: {slowest:.2f} s")
        async with asyncio.timeout(120):
            while not (found := (await gateway.get(f"/drift/{check['id']}")).json())["report"][
                "detail"
            ]:
                await asyncio.sleep(0.2)
        assert found["report"]["status"] == "pending"
        missing = await gateway.get(f"/drift/{check['id']}/report")
        assert missing.status_code == 404
    finally:
        os.killpg(store._process.pid, signal.SIGCONT)
    await reported(gateway, check["id"])


@pytest.mark.monitoring
async def test_a_worker_makes_the_reports_of_gateways_that_do_not(own_settings, tmp_path):
    outside = own_settings.model_copy(update={"worker": "outside"})
    async with serve(outside) as client:
        await send(client, range(10_000, 10_025))
        check = await look(client)
        # The gateway has its turns, and leaves the report alone in each.
        await asyncio.sleep(12)
        assert (await client.get(f"/drift/{check['id']}")).json()["report"]["status"] == "pending"
        told = {
            f"ASTROTRITON_{name.upper()}": str(getattr(outside, name))
            for name in ("model_repository", "report_url", "s3_endpoint", "s3_region")
        } | {
            "ASTROTRITON_DATABASE_URL": outside.database_url.get_secret_value(),
            "ASTROTRITON_TRITON_GRPC": outside.triton_grpc,
            "ASTROTRITON_NATS_URL": outside.nats_url,
        }
        with (tmp_path / "log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "astrotriton.gateway", "work"],
                env=os.environ | told,
                stderr=log,
            )
        try:
            ready = await reported(client, check["id"])
            assert (await client.get(ready["report"]["url"])).status_code == 200
        finally:
            worker.terminate()
            assert worker.wait(30) == 0, (tmp_path / "log").read_text()


def test_a_worker_that_has_nothing_to_do_says_so(own_settings):
    idle = own_settings.model_copy(update={"report_url": None, "mlflow_uri": None})
    with pytest.raises(WorkerError, match="ASTROTRITON_REPORT_URL"):
        work(idle, ModelConfig())


async def test_two_gateways_add_up_and_look_once(own_settings):
    other = own_settings.model_copy(update={"port": free_port(), "drift_interval": 3600.0})
    async with serve(own_settings) as one, serve(other) as two:
        await asyncio.gather(send(one, range(5000, 5015)), send(two, range(6000, 6015)))
        # What the other one has is stored within seconds.
        async with asyncio.timeout(60):
            while (await look(one))["exposures"] < 30:
                await asyncio.sleep(0.5)
        checks = (await two.get(f"/models/{MODEL}/drift", params={"limit": 1})).json()
        assert checks[0]["exposures"] == 30


@pytest.mark.monitoring
async def test_it_is_looked_for_on_schedule(own_settings):
    often = own_settings.model_copy(update={"drift_interval": 0.5, "report_url": None})
    async with serve(often) as client:
        await send(client, range(7000, 7003))
        async with asyncio.timeout(60):
            while len((await client.get(f"/models/{MODEL}/drift")).json()) < 2:
                await asyncio.sleep(0.2)
        found = (await client.get(f"/models/{MODEL}/drift")).json()[0]
        assert found["status"] == "too-little-data"
        assert found["report"]["status"] == "off"


async def test_a_version_without_reference_says_so(gateway):
    await send(gateway, range(8000, 8002), version=4)
    found = await look(gateway, BARE)
    assert found["status"] == "no-baseline"
    assert "baseline.npz" in found["reason"]


async def test_what_cannot_be_looked_at_is_refused(gateway):
    for window in ("1y", "0d", "31d", "x"):
        answer = await gateway.post(f"/models/{MODEL}/drift", params={"window": window})
        assert answer.status_code == 422
        assert answer.json()["field"] == "window"
    assert (await gateway.post(f"/models/{NAME}:99/drift")).status_code == 404
    assert (await gateway.get(f"/models/{NAME}:99/drift")).status_code == 404
    assert (await gateway.get(f"/drift/{uuid4()}")).status_code == 404
    assert (await gateway.get(f"/drift/{uuid4()}/report")).status_code == 404


async def test_samples_beyond_the_bound_are_dropped_and_counted(own_settings):
    few = own_settings.model_copy(update={"drift_samples": 5})
    async with serve(few) as client:
        before = await dropped(client)
        await send(client, range(9000, 9012))
        found = await look(client)
        after = await dropped(client)
    # Two minutes, if one ends in between.
    assert 5 <= found["exposures"] <= 10
    assert found["scored"] == 12
    assert after - before == 12 - found["exposures"]


async def dropped(client: httpx.AsyncClient) -> float:
    text = (await client.get("/metrics")).text
    name = 'astrotriton_samples_dropped_total{kind="exposure"} '
    return sum(
        float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)
    )
