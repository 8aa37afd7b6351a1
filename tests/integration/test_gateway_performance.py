"""How a version does, as the gateways and Triton measured it."""

import asyncio
import time
from contextlib import AsyncExitStack

import asyncpg
import httpx
import numpy as np
import pytest

from astrotriton.gateway.settings import GatewaySettings
from tests.integration.gateway_parts import NAME, exposure, free_port, infer, npy, serve

VERSION = f"{NAME}:3"
EXPOSURE = npy(exposure())


async def performance(client: httpx.AsyncClient, window: str = "1h", model: str = VERSION) -> dict:
    answer = await client.get(f"/models/{model}/performance", params={"window": window})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.monitoring
async def test_two_gateways_add_up_to_exact_percentiles(settings: GatewaySettings) -> None:
    # What each gateway spent on each run, taken where it tells its recorder.
    exact: list[float] = []
    from astrotriton.gateway.services.recorder import Recorder

    told = Recorder.run_stored

    def run_stored(self, run, seconds):
        exact.append(seconds["request"])
        told(self, run, seconds)

    other = settings.model_copy(update={"port": free_port()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "run_stored", run_stored)
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(serve(one)) for one in (settings, other)]

            async def ask(client: httpx.AsyncClient, count: int) -> None:
                for _ in range(count):
                    assert (await infer(client, EXPOSURE)).status_code == 200

            # Several at once on one of them, so that the two differ.
            await asyncio.gather(*(ask(clients[0], 20) for _ in range(4)), ask(clients[1], 40))
            # The gateway that is asked has what the other one has stored.
            async with asyncio.timeout(60):
                while (found := await performance(clients[0]))["latency"]["request"]["count"] < 120:
                    await asyncio.sleep(0.2)
    assert len(exact) == 120
    request = found["latency"]["request"]
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        true = float(np.quantile(exact, share, method="lower"))
        print(f"{name}: {request[name]:.4f} s merged, {true:.4f} s exact")
        assert request[name] == pytest.approx(true, rel=0.02)
    assert request["mean"] == pytest.approx(np.mean(exact), rel=1e-6)
    parts = [found["latency"][part]["mean"] for part in ("prepare", "infer", "finish", "store")]
    assert sum(parts) < request["mean"]
    assert found["throughput"]["runs"]["value"] == pytest.approx(120 / 3600)
    assert sum(point["runs"] for point in found["series"]) == 120


async def test_every_figure_says_its_window_its_count_and_its_source(
    client: httpx.AsyncClient,
) -> None:
    # The counts of Triton are read when the gateway starts, and when it is asked.
    await performance(client)
    for _ in range(12):
        assert (await infer(client, EXPOSURE)).status_code == 200
    found = await performance(client, "15m")
    assert found["model"] == {"name": NAME, "version": 3}
    assert found["window"]["seconds"] == 900

    request = found["latency"]["request"]
    assert request["count"] == 12
    assert request["p50"] > 0
    assert request["p99"] is None
    assert "12 runs are too few for" in request["reason"]

    assert set(found["triton"]) == {"queue", "compute_input", "compute_infer", "compute_output"}
    for figure in found["triton"].values():
        assert figure["count"] >= 12
        assert figure["value"] > 0
        assert figure["source"] == "Triton's statistics"
    assert found["batches"]["mean"]["value"] >= 1
    sizes = {name: one["value"] for name, one in found["batches"].items() if name != "mean"}
    assert sum(int(name) * count for name, count in sizes.items()) == 12 * 9
    assert found["errors"]["share"]["value"] == 0
    memory = found["memory"]["host_memory_used"]
    assert memory["value"] is None
    assert "METRICS_PORT" in memory["reason"]
    assert sum(found["confidence"]["counts"]) == found["confidence"]["count"] == 36
    assert found["validation"] is None
    # A scheduled look may have been faster.
    assert found["drift"]["status"] in ("never-checked", "no-baseline")
    assert found["labels"]["agreement"]["value"] is None


async def test_labels_tell_whether_the_confidence_holds(
    client: httpx.AsyncClient, settings: GatewaySettings
) -> None:
    for _ in range(14):
        assert (await infer(client, EXPOSURE)).status_code == 200
    page = (await client.get("/detections/", params={"limit": 100})).json()["detections"]
    assert len(page) == 42
    # People find that few are real, which the confidence does not say.
    for place, detection in enumerate(page):
        label = {"label": "real" if place % 10 == 0 else "artefact"}
        answer = await client.patch(f"/detections/{detection['id']}", json=label)
        assert answer.status_code == 200
    labels = (await performance(client))["labels"]
    assert labels["agreement"]["count"] == 42
    assert labels["agreement"]["value"] == pytest.approx(5 / 42)
    assert labels["ece"]["value"] > 0.5
    assert labels["recalibrate"]
    assert "fit it anew" in labels["reason"]


async def test_what_cannot_be_answered_is_refused(client: httpx.AsyncClient) -> None:
    for window in ("1y", "", "-1h", "0h", "31d", "1", "99999d", "1h30m"):
        answer = await client.get(f"/models/{VERSION}/performance", params={"window": window})
        assert answer.status_code == 422, window
        assert answer.json()["field"] == "window"
    for model in (f"{NAME}:99", "x", f"{NAME}@challenger"):
        assert (await client.get(f"/models/{model}/performance")).status_code == 404


async def test_failures_are_counted_and_minutes_wait_for_the_database(
    client: httpx.AsyncClient, settings: GatewaySettings
) -> None:
    """A run that the model answers wrong is an error of its version; nothing is counted twice."""
    from astrotriton.gateway.backends.triton import Triton
    from astrotriton.gateway.errors import ModelAnswerError

    assert (await infer(client, EXPOSURE)).status_code == 200

    async def wrong(*_: object) -> None:
        raise ModelAnswerError("expected probabilities")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Triton, "infer", wrong)
        assert (await infer(client, EXPOSURE)).status_code == 502
    found = await performance(client)
    assert found["errors"]["model-answer-invalid"]["value"] == 1
    assert found["errors"]["share"]["value"] == pytest.approx(0.5)
    assert sum(point["errors"] for point in found["series"]) == 1

    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        await connection.execute("ALTER TABLE performance RENAME TO away")
        began = time.monotonic()
        assert (await infer(client, EXPOSURE)).status_code == 200
        print(f"a run took {time.monotonic() - began:.2f} s while its figures could not be stored")
        assert (await client.get(f"/models/{VERSION}/performance")).status_code == 503
        await connection.execute("ALTER TABLE away RENAME TO performance")
    finally:
        await connection.close()
    assert (await performance(client))["latency"]["request"]["count"] == 2
