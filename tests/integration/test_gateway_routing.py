"""Which version answers: routes, canaries, challengers in the shadow, and changes under load."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import numpy as np
import pytest

from astrotriton.gateway.settings import GatewaySettings
from benchmarks.clients import asking
from tests.integration.gateway_parts import (
    NAME,
    TritonServer,
    blob_network,
    exposure,
    free_port,
    infer,
    npy,
    serve,
    write_model,
    write_model_repository,
)

ROUTE = f"/models/{NAME}/route"


@pytest.fixture(scope="module")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 3, 4 and 5 answer each in its own way; 6 is not what was exported."""
    repository = write_model_repository(tmp_path_factory.mktemp("model_repository"))
    for version, level in ((4, 1.6), (5, 2.4), (6, 2.0)):
        write_model(repository, NAME, version, blob_network(level))
    folder = repository / NAME / "6"
    with np.load(folder / "golden.npz") as golden:
        arrays = {"image": golden["image"], "probability": golden["probability"] + np.float32(1e-3)}
    np.savez(folder / "golden.npz", **arrays)
    card = json.loads((folder / "card.json").read_bytes())
    card["digests"]["golden.npz"] = hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    return repository


@pytest.fixture(scope="module")
def triton(
    model_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    with TritonServer(model_repository, tmp_path_factory.mktemp("triton")) as server:
        yield server


async def version_of(client: httpx.AsyncClient, **request: object) -> int:
    response = await infer(client, npy(exposure()), {"candidates": [], **request})
    assert response.status_code == 200, response.text
    return int(response.json()["model"]["version"])


async def test_the_route_decides_and_can_be_turned_back(client, settings):
    assert (await client.get(ROUTE)).status_code == 404
    assert await version_of(client) == 6  # `latest`, which the settings ask for

    first = await client.put(ROUTE, json={"champion": 3})
    assert first.status_code == 200, first.text
    assert first.json()["champion"] == 3
    assert first.json()["previous_champion"] is None
    assert await version_of(client) == 3

    second = (await client.put(ROUTE, json={"champion": 4})).json()
    assert (second["champion"], second["previous_champion"]) == (4, 3)
    assert (await client.get(ROUTE)).json() == second
    assert await version_of(client) == 4
    assert await version_of(client, model_version=3) == 3
    assert await version_of(client, model_version="champion") == 4

    again = (await client.put(ROUTE, json={"champion": 4})).json()
    assert again["previous_champion"] == 3
    back = (await client.put(ROUTE, json={"champion": 3})).json()
    assert (back["champion"], back["previous_champion"]) == (3, 4)
    assert await version_of(client) == 3

    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    events = await connection.fetch(
        "SELECT event -> 'data' AS data FROM outbox WHERE subject = 'model.promoted' ORDER BY id"
    )
    await connection.close()
    assert [json.loads(event["data"])["champion"] for event in events] == [3, 4, 3]


@pytest.mark.parametrize(
    ("body", "status", "code", "named"),
    [
        ({"champion": 9}, 409, "version-not-routable", "champion"),
        ({"champion": 6}, 409, "version-not-routable", "champion"),
        (
            {"champion": 3, "challenger": {"version": 6, "mode": "shadow", "fraction": 1}},
            409,
            "version-not-routable",
            "challenger.version",
        ),
        (
            {"champion": 3, "challenger": {"version": 3, "mode": "shadow", "fraction": 1}},
            422,
            "challenger-is-champion",
            "challenger.version",
        ),
        (
            {"champion": 3, "challenger": {"version": 4, "mode": "canary", "fraction": 0}},
            422,
            "invalid-request",
            "challenger.fraction",
        ),
        ({"champion": "three"}, 422, "invalid-request", "champion"),
        ({}, 422, "invalid-request", None),
    ],
)
async def test_a_version_that_cannot_answer_is_refused_by_name(client, body, status, code, named):
    assert (await client.put(ROUTE, json={"champion": 4})).status_code == 200
    response = await client.put(ROUTE, json=body)
    assert response.status_code == status, response.text
    problem = response.json()
    assert problem["type"] == f"urn:astrotriton:problem:{code}"
    if named:
        assert problem["field"] == named
    assert (await client.get(ROUTE)).json()["champion"] == 4


async def test_another_model_has_no_route_here(client):
    for response in (
        await client.get("/models/other/route"),
        await client.put("/models/other/route", json={"champion": 1}),
    ):
        assert response.status_code == 404


async def test_versions_that_may_not_answer_are_not_answered(client):
    await client.put(ROUTE, json={"champion": 3})
    for asked in (4, 9, "challenger"):
        response = await infer(client, npy(exposure()), {"model_version": asked})
        assert response.status_code == 422, response.text
        assert response.json()["field"] == "model_version"


async def test_a_canary_answers_its_share_and_always_the_same_exposures(client):
    trial = {"version": 4, "mode": "canary", "fraction": 0.5}
    await client.put(ROUTE, json={"champion": 3, "challenger": trial})
    names = [f"night {i}" for i in range(20)]
    first = [await version_of(client, exposure_id=name) for name in names]
    assert {3, 4} == set(first)
    assert first == [await version_of(client, exposure_id=name) for name in names]
    assert await version_of(client, model_version="challenger") == 4
    await client.put(ROUTE, json={"champion": 3, "challenger": {**trial, "fraction": 1.0}})
    assert {await version_of(client, exposure_id=name) for name in names} == {4}


async def test_a_shadow_is_compared_and_never_answered(client, settings):
    trial = {"version": 4, "mode": "shadow", "fraction": 1.0}
    await client.put(ROUTE, json={"champion": 3, "challenger": trial})
    response = await infer(client, npy(exposure()))
    assert response.json()["model"]["version"] == 3
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    async with asyncio.timeout(30):
        while not (rows := await connection.fetch("SELECT * FROM shadow_runs")):
            await asyncio.sleep(0.05)
    versions = await connection.fetch("SELECT version FROM models ORDER BY version")
    runs = await connection.fetchval("SELECT count(*) FROM runs")
    await connection.close()
    assert [row["version"] for row in versions] == [3, 4]
    assert runs == 1
    assert str(rows[0]["run_id"]) == response.json()["run_id"]
    assert rows[0]["matched"] >= 3
    assert rows[0]["largest_difference"] > 0.0


async def test_two_versions_are_compared_on_what_both_have_scored(client):
    def agreement(one, other):
        return client.get(f"/models/{NAME}:{one}/agreement", params={"with": f"{NAME}:{other}"})

    trial = {"version": 4, "mode": "canary", "fraction": 1.0}
    await client.put(ROUTE, json={"champion": 3, "challenger": trial})
    assert (await infer(client, npy(exposure()))).json()["model"]["version"] == 4
    await client.put(ROUTE, json={"champion": 3})
    none = (await agreement(3, 4)).json()
    assert (none["exposures"], none["agreement"]) == (0, None)
    assert "no exposure was scored by versions 3 and 4" in none["reason"]

    # The same exposure, by callers' wish and then in the shadow of the other.
    assert (await infer(client, npy(exposure()))).json()["model"]["version"] == 3
    asked = (await agreement(3, 4)).json()
    assert (asked["exposures"], asked["shadowed"]) == (1, 0)
    assert asked["matched"] >= 3
    assert asked["largest_difference"] > 0.0
    await client.put(ROUTE, json={"champion": 3, "challenger": {**trial, "mode": "shadow"}})
    await infer(client, npy(np.flipud(exposure())))
    async with asyncio.timeout(30):
        while not (both := (await agreement(3, 4)).json())["shadowed"]:
            await asyncio.sleep(0.05)
    assert both["exposures"] == 2
    assert both["matched"] > asked["matched"]
    turned = (await agreement(4, 3)).json()
    assert (turned["only_model"], turned["only_other"]) == (both["only_other"], both["only_model"])
    assert turned["matched"] == both["matched"]

    assert (await agreement(3, 3)).status_code == 422
    assert (await agreement(3, 99)).status_code == 404
    assert (await client.get(f"/models/{NAME}:3/agreement")).status_code == 422


async def test_where_versions_disagree_is_a_list_of_its_own(client):
    """At a threshold that lies between what they say of the same source."""
    trial = {"version": 4, "mode": "canary", "fraction": 0.5}
    await client.put(ROUTE, json={"champion": 3, "challenger": trial})

    async def scored(version: int, **more: float) -> dict[str, Any]:
        answer = await infer(client, npy(exposure()), {"model_version": version, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    ours, theirs = await scored(3), await scored(4)
    one, other = max(
        (
            (a, b)
            for a in ours["detections"]
            for b in theirs["detections"]
            if np.hypot(a["x"] - b["x"], a["y"] - b["y"]) < 1.0
        ),
        key=lambda pair: abs(pair[0]["confidence"] - pair[1]["confidence"]),
    )
    between = (one["confidence"] + other["confidence"]) / 2
    runs = [await scored(version, confidence_threshold=between) for version in (3, 4)]

    async def disputed(run: dict[str, Any], said: bool) -> list[dict[str, Any]]:
        query = {"run_id": run["run_id"], "disputed": said}
        answer = await client.get("/detections/", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["detections"]

    async with asyncio.timeout(30):
        while not await disputed(runs[1], said=True):
            await asyncio.sleep(0.05)
    for run, its in zip(runs, (one, other), strict=True):
        found = await disputed(run, said=True)
        assert its["rank"] in [detection["rank"] for detection in found]
        rest = await disputed(run, said=False)
        assert len(found) + len(rest) == len(run["detections"])
        page = (await client.get(f"/dashboard/detections/{found[0]['id']}")).text
        assert "Versions disagree" in page
    every = (await client.get("/detections/?disputed=true")).json()["detections"]
    assert {detection["run_id"] for detection in every} == {run["run_id"] for run in runs}
    following = await client.get(f"/dashboard/next?run_id={runs[0]['run_id']}&disputed=true")
    assert following.headers["location"].startswith("/dashboard/detections/")
    assert (await client.get("/detections/stream?disputed=true")).status_code == 422


@pytest.mark.faults
async def test_changes_under_load_fail_no_request_and_store_no_retired_version(client, settings):
    await client.put(ROUTE, json={"champion": 3})
    answers: list[httpx.Response] = []

    async def ask(number: int, turn: int) -> None:
        answers.append(await infer(client, npy(exposure()), {"candidates": []}))

    connection = await asyncpg.connect(settings.database_url.get_secret_value())

    async def stored_of_others(champion: int) -> int:
        return await connection.fetchval(
            "SELECT count(*) FROM runs r JOIN models m ON m.id = r.model_id WHERE m.version <> $1",
            champion,
        )

    async with asking(ask):
        for champion in (4, 5, 3, 5):
            await asyncio.sleep(0.7)
            assert (await client.put(ROUTE, json={"champion": champion})).status_code == 200
            before = await stored_of_others(champion)
            await asyncio.sleep(0.7)
            assert await stored_of_others(champion) == before
    assert {answer.status_code for answer in answers} == {200}
    assert await connection.fetchval("SELECT count(*) FROM runs") == len(answers)
    await connection.close()


async def test_a_change_at_another_gateway_counts_here_at_once(client, settings):
    await client.put(ROUTE, json={"champion": 3})
    assert await version_of(client) == 3
    async with serve(settings.model_copy(update={"port": free_port()})) as other:
        # This one has just read the route.
        for champion in (4, 5):
            await other.put(ROUTE, json={"champion": champion})
            assert await version_of(client) == champion
        trial = {"version": 3, "mode": "shadow", "fraction": 0.5}
        await other.put(ROUTE, json={"champion": 5, "challenger": trial})
        assert await version_of(client, model_version="challenger") == 3


@pytest.mark.faults
async def test_two_tritons_share_the_work_and_one_may_go(
    settings: GatewaySettings, model_repository: Path, triton: TritonServer, tmp_path: Path
):
    (tmp_path / "second").mkdir()
    with TritonServer(model_repository, tmp_path / "second") as other:
        both = settings.model_copy(
            update={"triton_grpc": f"{triton.address},{other.address}", "port": free_port()}
        )
        async with serve(both) as client:
            assert (await client.put(ROUTE, json={"champion": 3})).status_code == 200
            detail = (await client.get("/health/ready")).json()["parts"]["model"]["detail"]
            assert "2 of 2 servers" in detail
            assert {await version_of(client) for _ in range(4)} == {3}
            other.stop()
            assert {await version_of(client) for _ in range(6)} == {3}
            ready = await client.get("/health/ready")
            assert ready.status_code == 200
            assert "1 of 2 servers" in ready.json()["parts"]["model"]["detail"]
            refused = await client.put(ROUTE, json={"champion": 4})
            assert refused.status_code == 409
            assert other.address in refused.json()["detail"]


async def test_augmentation_asks_every_served_version(client):
    assert (await client.put(ROUTE, json={"champion": 3})).status_code == 200
    request = {"candidates": [], "tta": True}

    full = (await infer(client, npy(exposure()), request)).json()
    plain = (await infer(client, npy(exposure()), {"candidates": []})).json()

    kept = [d for d in full["detections"] if d["outcome"] == "kept"]
    assert kept
    # The versions were made to answer differently.
    assert all(d["ensemble_std"] > 0.0 for d in kept)
    assert all(d["tta_std"] is not None for d in kept)
    assert all(d["ensemble_std"] is None for d in plain["detections"])
