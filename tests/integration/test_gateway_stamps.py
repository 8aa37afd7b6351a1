"""A cube of stamps through a real gateway: a run for each, as if each were sent alone."""

import asyncio
import io

import asyncpg
import httpx
import msgspec
import numpy as np
from astropy.io import fits

from astrotriton.client import AsyncClient, InferStamps, InferStampsResponse, StampIn
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.wire.runs import InferResponse
from tests.integration.gateway_parts import npy, serve

SIDE = 63


def stamps(count: int) -> np.ndarray:
    """Difference stamps with unlike noise, of which every other one has a source."""
    rng = np.random.default_rng(3)
    rows, columns = np.indices((SIDE, SIDE)) - SIDE // 2
    source = np.exp(-(rows**2 + columns**2) / 5.0)
    made = [
        rng.normal(100.0 * i, 1.0 + i, (SIDE, SIDE)) + (60.0 * (1.0 + i) * source if i % 2 else 0.0)
        for i in range(count)
    ]
    return np.array(made, np.float32)


async def post(
    client: httpx.AsyncClient, content: bytes, request: object = None, key: str | None = None
) -> httpx.Response:
    files = {"stamps": ("stamps", content)}
    if request is not None:
        files["request"] = ("request.json", msgspec.json.encode(request))
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post("/detections/infer-stamps", files=files, headers=headers)


def verdicts(run: InferResponse) -> list[tuple[object, ...]]:
    return [
        (d.candidate_id, d.x, d.y, d.is_real, d.outcome, d.snr, d.flux, d.flags)
        for d in run.detections
    ]


async def test_every_stamp_is_answered_as_alone(client: httpx.AsyncClient) -> None:
    cube = stamps(20)
    answer = await post(client, npy(cube))
    assert answer.status_code == 200, answer.text
    found = msgspec.json.decode(answer.content, type=InferStampsResponse)
    assert [one.id for one in found.stamps] == [str(i) for i in range(20)]
    assert len(set(found.run_ids)) == 20
    for i, one in enumerate(found.stamps):
        alone = await client.post(
            "/detections/infer",
            files={
                "exposure": npy(cube[i]),
                "request": msgspec.json.encode({"candidates": [{"id": str(i), "x": 31, "y": 31}]}),
            },
        )
        same = msgspec.json.decode(alone.content, type=InferResponse)
        assert one.run is not None
        assert verdicts(one.run) == verdicts(same)
        assert one.run.image == same.image
        assert one.candidate is not None
        assert one.candidate.is_real == (i % 2 == 1)


async def test_stored_once_under_a_key_with_the_senders_names_and_places(
    client: httpx.AsyncClient, settings: GatewaySettings
) -> None:
    cube = stamps(5)
    cube[2] = np.nan
    request = InferStamps(
        stamps=[
            StampIn(id=f"alert-{i}", ra=10.0 + i, dec=-5.0, filter="r", mjd_mid=60000.0 + i)
            for i in range(5)
        ]
    )
    stream = io.BytesIO()
    fits.PrimaryHDU(cube).writeto(stream)
    first = await post(client, stream.getvalue(), request, "night-1")
    again = await post(client, stream.getvalue(), request, "night-1")
    assert first.status_code == 200, first.text
    one, two = (
        msgspec.json.decode(answer.content, type=InferStampsResponse) for answer in (first, again)
    )
    assert one.run_ids == two.run_ids
    assert len(one.run_ids) == 4
    for answer in (one, two):
        assert answer.stamps[2].problem is not None
        assert answer.stamps[2].problem.field == "stamps[2]"
        assert answer.stamps[2].problem.type.endswith("no-usable-pixels")
    run = one.stamps[3].run
    assert run is not None
    assert (run.exposure.name, run.exposure.filter, run.exposure.mjd_mid) == (
        *("alert-3", "r"),
        60003.0,
    )
    other = await post(client, npy(stamps(5)), request, "night-1")
    assert other.status_code == 409 or other.json()["type"].endswith("key-reused")
    near = await client.get("/detections/", params={"ra": 13.0, "dec": -5.0, "radius": 0.01})
    assert [d["candidate_id"] for d in near.json()["detections"]] == ["alert-3"]
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        assert await connection.fetchval("SELECT count(*) FROM runs") == 4
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 4
    finally:
        await connection.close()


async def test_what_is_no_cube_is_refused(client: httpx.AsyncClient) -> None:
    flat = await post(client, npy(stamps(1)[0]))
    assert flat.status_code == 422
    assert (flat.json()["field"], "cube" in flat.json()["detail"]) == ("stamps", True)
    few = await post(client, npy(stamps(3)), {"stamps": [{"id": "only"}]})
    assert (few.status_code, few.json()["field"]) == (422, "request.stamps")
    half = await post(client, npy(stamps(1)), {"stamps": [{"x": 3.0}]})
    assert (half.status_code, half.json()["field"]) == (422, "stamps[0].y")
    nothing = await client.post("/detections/infer-stamps", files={"request": b"{}"})
    assert (nothing.status_code, nothing.json()["field"]) == (422, "stamps")


async def test_the_client_sends_a_cube(settings: GatewaySettings) -> None:
    async with serve(settings), AsyncClient(f"http://127.0.0.1:{settings.port}") as client:
        both = await asyncio.gather(
            *(client.score_stamps(npy(stamps(4)), idempotency_key="same") for _ in range(2))
        )
    assert both[0].run_ids == both[1].run_ids
    assert len(both[0].run_ids) == 4
