"""A gateway with something to look at, and a browser to look with."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import numpy as np
from playwright.async_api import Browser, async_playwright
from uuid_utils.compat import uuid7

from astrotriton.detection.card import TensorSpec
from astrotriton.detection.quality.drift import BASELINE_FILE, DESCRIPTORS, Baseline
from astrotriton.detection.quality.labelled import VALIDATION_FILE, LabelledField, ValidationSet
from astrotriton.gateway.keys import SCOPES, Scope, new_key
from astrotriton.gateway.observability.sketches import Sketch
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.api_keys import insert_key
from astrotriton.gateway.storage.drift import Sample, insert_samples
from astrotriton.gateway.storage.migrate import migrate
from astrotriton.gateway.storage.performance import MeasuredMinute, store_measured
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.recipe import Recipe
from astrotriton.training.calibrate import transients_of
from astrotriton.training.weights import load_card
from tests.integration.conftest import new_database
from tests.integration.gateway_parts import (
    NAME,
    TILE,
    NatsServer,
    ObjectStoreServer,
    blob_network,
    fits_bytes,
    free_port,
    gateway_process,
    installed,
    until_live,
)
from tests.integration.monitoring_parts import OneTriton, publish

SKY = Recipe(
    shape=(300, 420),
    transients=(12, 18),
    snr=(4.0, 40.0),
    stars=(20, 40),
    galaxies=(4, 8),
    cosmic_rays=(3, 6),
)
_FIELDS = 6
_SAMPLES = 40


class Site(NamedTuple):
    """The gateway, its log, a key that may do everything, and one that may look.

    ``crowded`` is the run of an exposure of 1000 detections, and ``failed`` one that failed.
    """

    url: str
    log: Path
    every: str
    reader: str
    crowded: str = ""
    failed: str = ""


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    program = installed(Path("/usr/bin/chromium"), "chromium")
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield found
        finally:
            await found.close()


@asynccontextmanager
async def site(postgres: str, folder: Path) -> AsyncIterator[Site]:
    """A gateway by its own command line, with two versions, runs, validations and drift."""
    repository = await asyncio.to_thread(_repository, folder / "repository")
    for name in ("triton", "s3"):
        (folder / name).mkdir()
    triton = OneTriton(repository, folder / "triton")
    nats = NatsServer(folder / "nats")
    store = ObjectStoreServer(folder / "s3")
    async with AsyncExitStack() as held:
        for server in (triton, nats, store):
            held.callback(server.stop)
        await asyncio.gather(
            *(asyncio.to_thread(server.__enter__) for server in (triton, nats, store))
        )
        store.bucket("reports")
        url = await held.enter_async_context(new_database(postgres))
        await migrate(url)
        settings = GatewaySettings(
            port=free_port(),
            auth="required",
            database_url=url,
            triton_grpc=triton.address,
            nats_url=nats.url,
            model_repository=repository,
        )
        process = gateway_process(
            settings,
            folder,
            ASTROTRITON_TRITON_METRICS_PORT=str(triton.metrics_port),
            ASTROTRITON_RATE_PER_MINUTE="100000",
            ASTROTRITON_S3_ENDPOINT=store.url,
            ASTROTRITON_S3_REGION="us-east-1",
            ASTROTRITON_REPORT_URL="s3://reports/drift",
            AWS_ACCESS_KEY_ID=store.access_key,
            AWS_SECRET_ACCESS_KEY=store.secret_key,
        )
        try:
            yield await _fill(settings, process, folder / "gateway.log")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _repository(folder: Path) -> Path:
    """Two versions of a small network with the reference network's calibration."""
    shape = (-1, 1, TILE, TILE)
    card = msgspec.structs.replace(
        load_card(),
        input=TensorSpec(name="image", shape=shape),
        output=TensorSpec(name="probability", shape=shape),
        polarities=(1,),
        overlap=32,
    )
    fields = [
        LabelledField(one.difference, transients_of(one))
        for one in (simulate(100 + i, SKY) for i in range(_FIELDS))
    ]
    more = {
        VALIDATION_FILE: ValidationSet(fields, f"{_FIELDS} simulated fields").to_fits(),
        BASELINE_FILE: Baseline(_rows(1, 200), "200 simulated fields").to_npz(),
    }
    travelling = {name.replace(".", "__"): content for name, content in more.items()}
    for version, level in ((3, 2.0), (4, 3.5)):
        publish(folder, card, version, blob_network(level).SerializeToString(), **travelling)
    return folder


def _rows(seed: int, count: int, seeing: float = 3.6) -> np.ndarray:
    """Exposures as they are described, of a camera that does not exist."""
    rng = np.random.default_rng(seed)
    middle = dict.fromkeys(DESCRIPTORS, 1.0) | {
        "noise": 10.0,
        "seeing_fwhm": seeing,
        "seeing_source": "assumed" if seeing is None else "measured",
        "confidence_mean": 0.5,
    }
    centre = np.array([middle[name] for name in DESCRIPTORS])
    return centre * (1.0 + 0.05 * rng.normal(size=(count, len(DESCRIPTORS))))


async def _fill(settings: GatewaySettings, process: Any, log: Path) -> Site:
    connection = await asyncpg.connect(settings.database_url.get_secret_value())

    async def key(*scopes: Scope) -> str:
        made = new_key("test", list(scopes))
        await insert_key(connection, made)
        return made.token

    found = Site(
        url=f"http://{settings.host}:{settings.port}",
        log=log,
        every=await key(*SCOPES),
        reader=await key("read"),
    )
    await _remember(connection)
    async with httpx.AsyncClient(
        base_url=found.url,
        timeout=60,
        trust_env=False,
        headers={"Authorization": f"Bearer {found.every}"},
    ) as client:
        await until_live(client, process)
        route = {"champion": 3, "challenger": {"version": 4, "mode": "shadow", "fraction": 0.1}}
        await _asked(client.put(f"/models/{NAME}/route", json=route))
        for i in range(6):
            field = simulate(200 + i, SKY)
            request = json.dumps({"model_version": 4 if i == 2 else 3})
            files: dict[str, Any] = {
                "exposure": (f"night-{i:03}.fits", fits_bytes(field.difference)),
                "request": (None, request, "application/json"),
            }
            if i == 5:
                files["science"] = fits_bytes(field.science)
                files["template"] = fits_bytes(field.template)
            await _asked(client.post("/detections/infer", files=files))
        grid = [{"x": x, "y": y} for x in range(8, 412, 10) for y in range(6, 294, 11)][:1000]
        crowded = await _asked(
            client.post(
                "/detections/infer",
                files={
                    "exposure": ("crowded.fits", fits_bytes(simulate(300, SKY).difference)),
                    "request": (None, json.dumps({"candidates": grid}), "application/json"),
                },
            )
        )
        failed = await client.post(
            "/detections/infer",
            files={"exposure": ("broken.fits", b"not FITS")},
            headers={"Prefer": "respond-async"},
        )
        begun = [
            await _asked(client.post(f"/models/{NAME}:{version}/validate", json=asked))
            for version, asked in ((3, {}), (4, {"compare_with": f"{NAME}:3"}), (3, {}))
        ]
        for version in (3, 4):
            await _asked(client.post(f"/models/{NAME}:{version}/drift"))
        async with asyncio.timeout(300):
            for one in begun:
                while (await client.get(f"/validations/{one['id']}")).json()["finished_at"] is None:
                    await asyncio.sleep(0.1)
    await connection.close()
    return found._replace(
        crowded=crowded["run_id"], failed=failed.headers["location"].rpartition("/")[2]
    )


async def _asked(request: Awaitable[httpx.Response]) -> Any:
    answer = await request
    assert answer.is_success, answer.text
    return answer.json()


async def _remember(connection: asyncpg.Connection) -> None:
    """A day in which both versions have answered, and version 4 sees a worse seeing."""
    rng = np.random.default_rng(5)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    for version, slowness in ((3, 1.0), (4, 1.3)):
        measured = []
        for minutes in range(20, 24 * 60, 20):
            minute = now - timedelta(minutes=minutes)
            runs = int(rng.poisson(60 * (1.2 + np.sin(minutes / 250)) / slowness**4))
            for part, share in (("request", 1.0), ("infer", 0.7), ("store", 0.05)):
                sketch = Sketch()
                for value in rng.lognormal(-0.7, 0.4, runs):
                    sketch.add(slowness * share * value)
                measured.append(_measured(minute, version, part, sketch))
            confidences = Sketch()
            confidences.add_confidences(rng.beta(0.4, 0.5, runs))
            measured.append(_measured(minute, version, "confidence", confidences))
            if minutes % 160 == 0:
                failed = Sketch()
                for value in rng.uniform(1, 5, 4):
                    failed.add(value)
                measured.append(_measured(minute, version, "error.busy", failed))
        await store_measured(connection, uuid4(), NAME, measured)
    for version, seeing in ((3, 3.6), (4, 4.4)):
        samples = [
            Sample(
                uuid7(),
                version,
                now - timedelta(minutes=minutes),
                dict(zip(DESCRIPTORS, row.tolist(), strict=True)),
            )
            for minutes, row in enumerate(_rows(version, _SAMPLES, seeing), start=1)
        ]
        await insert_samples(connection, NAME, samples)


def _measured(minute: datetime, version: int, measure: str, sketch: Sketch) -> MeasuredMinute:
    bins, counts = list(sketch.counts), list(sketch.counts.values())
    return MeasuredMinute(minute, version, measure, bins, counts, sketch.total)


def keep(pictures: Path) -> None:
    """Copy screenshots to where $ASTROTRITON_SCREENSHOTS says, if it does."""
    if folder := os.environ.get("ASTROTRITON_SCREENSHOTS"):
        shutil.copytree(pictures, folder, dirs_exist_ok=True)
