"""The gateway with the real parts: PostgreSQL, NATS JetStream and Triton, each on a free port."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import nats
import numpy as np
import pytest
from cloudevents.http import from_json
from jsonschema import Draft202012Validator

from astrotriton.gateway.backends.stream import MAX_AGE
from astrotriton.gateway.services.durability import AT_RISK, DurabilityService
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.database import open_database
from astrotriton.gateway.storage.migrate import migrate
from astrotriton.gateway.storage.models import insert_model
from astrotriton.wire.models import ModelRef
from tests.integration.conftest import new_database
from tests.integration.gateway_parts import (
    NAME,
    NAN_NAME,
    SOURCES,
    exposure,
    fits_bytes,
    free_port,
    held_by,
    infer,
    npy,
    serve,
)

ODDITIES = Path(__file__).parents[3] / "shared/data/oddities"


async def test_scores_candidates_and_keeps_what_it_answered(client, settings):
    candidates = [{"id": f"c{i}", "x": x, "y": y} for i, (x, y) in enumerate(SOURCES[:2])]
    candidates += [{"id": "empty", "x": 20.0, "y": 20.0}, {"id": "twin", "x": 61.0, "y": 50.5}]
    response = await infer(
        client, npy(exposure()), {"candidates": candidates, "exposure_id": "night 1"}
    )
    assert response.status_code == 200, response.text
    run = response.json()
    assert run["model"]["name"] == "unet_astronomical"
    assert run["model"]["version"] == 3
    assert run["exposure"]["name"] == "night 1"
    assert (run["exposure"]["height"], run["exposure"]["width"]) == (256, 240)
    assert run["tiles"] == 9
    assert run["extracted"] is False

    found = {d["candidate_id"]: d for d in run["detections"]}
    assert set(found) == {"c0", "c1", "empty", "twin", None}
    for i, (x, y) in enumerate(SOURCES[:2]):
        assert np.hypot(found[f"c{i}"]["x"] - x, found[f"c{i}"]["y"] - y) < 0.2
        assert found[f"c{i}"]["is_real"]
    assert not found["empty"]["is_real"]
    assert found["twin"]["outcome"] == "merged"
    assert found["twin"]["merged_into"] == found["c0"]["id"]
    assert [d["rank"] for d in run["detections"]] == list(range(1, 6))
    assert response.headers["x-request-id"]

    for detection in run["detections"]:
        stored = (await client.get(f"/detections/{detection['id']}")).json()
        assert {**stored, **detection} == stored
        assert stored["run_id"] == run["run_id"]
        assert stored["model"] == run["model"]
        assert stored["exposure"] == run["exposure"]
        assert stored["created_at"] == run["created_at"]


async def test_extracts_candidates_when_none_are_given(client):
    run = (await infer(client, fits_bytes(None, exposure()))).json()
    assert run["extracted"] is True
    assert run["exposure"]["name"] == "night.fits"
    real = [d for d in run["detections"] if d["is_real"]]
    assert len(real) == len(SOURCES)
    assert all("no_wcs" in d["flags"] for d in real)


async def test_no_source_is_an_answer_too(client):
    run = (await infer(client, npy(exposure()[200:, 200:]), {"candidates": []})).json()
    assert run["detections"] == []
    assert run["extracted"] is False


async def counts(database: str) -> dict[str, int]:
    connection = await asyncpg.connect(database)
    try:
        return {
            table: await connection.fetchval(f"SELECT count(*) FROM {table}")
            for table in ("models", "runs", "detections", "outbox")
        }
    finally:
        await connection.close()


async def test_rows_are_what_was_answered(client, settings):
    runs = [(await infer(client, npy(exposure()))).json() for _ in range(2)]
    assert await counts(settings.database_url.get_secret_value()) == {
        "models": 1,
        "runs": 2,
        "detections": sum(len(run["detections"]) for run in runs),
        "outbox": 2,
    }


async def test_a_candidate_that_lies_nowhere_comes_back_unscored(client):
    (x, y), *_ = SOURCES
    given = [
        {"id": "here", "x": x, "y": y},
        {"id": "off", "x": 240.0, "y": 4.0},
        {"id": "nan", "x": None, "y": 4.0},
        {"id": "sky", "ra": 150.0, "dec": 2.0},
    ]
    run = (await infer(client, npy(exposure()), {"candidates": given})).json()
    found = {d["candidate_id"]: d for d in run["detections"]}
    reasons = {name: found[name]["unscored_reason"] for name in ("here", "off", "nan", "sky")}
    assert reasons == {"here": None, "off": "off_image", "nan": "not_a_number", "sky": "no_wcs"}
    assert found["here"]["is_real"]
    assert [found[name]["x"] for name in ("off", "nan", "sky")] == [240.0, None, None]
    assert (found["sky"]["ra"], found["sky"]["dec"]) == (150.0, 2.0)
    stored = (await client.get(f"/runs/{run['run_id']}")).json()["result"]
    assert stored["detections"] == run["detections"]
    wanted = {"run_id": run["run_id"], "outcome": "unscored"}
    listed = (await client.get("/detections/", params=wanted)).json()["detections"]
    assert {d["candidate_id"] for d in listed} == {"off", "nan", "sky"}
    for kind in ("application/x-votable+xml", "application/x-ecsv", "application/x-ds9"):
        written = await client.get("/detections/", params=wanted, headers={"Accept": kind})
        assert written.status_code == 200, written.text
    page = await client.get(f"/dashboard/exposures/{run['run_id']}")
    assert page.status_code == 200


async def test_a_table_of_candidates(client):
    """1-based, and by the sky, as catalogues of other programs have them."""
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0}
    header |= {"CRPIX1": 61.0, "CRPIX2": 51.0, "CDELT1": -1e-4, "CDELT2": 1e-4}
    content = fits_bytes(exposure(), header=header)
    tables = [
        b"NUMBER,X_IMAGE,Y_IMAGE\n7,61.0,51.0\n8,900,1\n",
        b"id,ra,dec\n7,150.0,2.0\n8,151.0,2.0\n",
    ]
    for table in tables:
        files = {"exposure": ("night.fits", content), "candidates": ("c.csv", table)}
        response = await client.post("/detections/infer", files=files)
        assert response.status_code == 200, response.text
        found = {d["candidate_id"]: d for d in response.json()["detections"]}
        assert found["7"]["is_real"]
        assert (round(found["7"]["x"]), round(found["7"]["y"])) == SOURCES[0]
        assert found["8"]["unscored_reason"] == "off_image"
    files["candidates"] = ("c.csv", b"flux\n1\n")
    refused = await client.post("/detections/infer", files=files)
    assert (refused.status_code, refused.json()["field"]) == (422, "candidates")
    assert "X_IMAGE" in refused.json()["detail"]


POINT = {"x": 3.0, "y": 4.0}
BAD_INPUT: dict[str, tuple[bytes, dict[str, Any] | None, int, str, str]] = {
    "empty": (b"", None, 422, "not-fits", "exposure"),
    "not FITS": (b"hello", None, 422, "not-fits", "exposure"),
    "truncated FITS": (fits_bytes(exposure())[:4000], None, 422, "unreadable-fits", "exposure"),
    "no image": (fits_bytes(None), None, 422, "no-image", "exposure"),
    "1-D": (npy(np.zeros(9)), None, 422, "wrong-dimensions", "exposure"),
    "3-D": (npy(np.zeros((3, 9, 9))), None, 422, "wrong-dimensions", "exposure"),
    "1-D FITS": (fits_bytes(np.zeros(9)), None, 422, "wrong-dimensions", "exposure"),
    "pickled": (
        npy(np.array([{}], object), allow_pickle=True),
        None,
        422,
        "unreadable-npy",
        "exposure",
    ),
    "no such HDU": (fits_bytes(exposure()), {"hdu": 4}, 422, "no-such-hdu", "hdu"),
    "too many pixels": (npy(np.zeros((2000, 600), np.uint8)), None, 413, "too-large", "exposure"),
    "too many bytes": (bytes(4_000_001), None, 413, "too-large", "exposure"),
    "not a number": (
        npy(exposure()),
        {"candidates": [POINT, POINT, POINT, {"x": "left", "y": 1.0}]},
        422,
        "invalid-request",
        "candidates[3].x",
    ),
    "no y": (
        npy(exposure()),
        {"candidates": [{"x": 1.0}]},
        422,
        "invalid-request",
        "candidates[0].y",
    ),
    "NaN": (
        npy(exposure()),
        {"candidates": [{"x": np.nan, "y": 1}]},
        422,
        "invalid-json",
        "request",
    ),
    "NUL in an id": (
        npy(exposure()),
        {"candidates": [POINT | {"id": "a\0"}]},
        422,
        "invalid-request",
        "candidates[0].id",
    ),
    "same id": (
        npy(exposure()),
        {"candidates": [POINT | {"id": "a"}, POINT | {"id": "a"}]},
        422,
        "candidate-invalid",
        "candidates[1].id",
    ),
    "unknown field": (npy(exposure()), {"candidate": []}, 422, "invalid-request", "request"),
    "threshold": (
        npy(exposure()),
        {"confidence_threshold": 1.5},
        422,
        "invalid-request",
        "confidence_threshold",
    ),
    "threshold and rate": (
        npy(exposure()),
        {"confidence_threshold": 0.5, "max_false_discovery_rate": 0.1},
        422,
        "invalid-request",
        "confidence_threshold",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT.values(), ids=BAD_INPUT.keys())
async def test_bad_input_is_refused_by_name_and_nothing_is_stored(client, settings, case):
    content, request, status, code, field = case
    response = await infer(client, content, request)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:astrotriton:problem:{code}"
    assert problem["field"] == field
    assert problem["detail"]
    stored = await counts(settings.database_url.get_secret_value())
    assert stored == dict.fromkeys(stored, 0)


async def test_all_nan_is_refused(client):
    response = await infer(client, npy(np.full((64, 64), np.nan)))
    assert response.status_code == 422, response.text
    assert response.json()["field"] == "exposure"


async def test_bodies_that_are_not_the_form(client):
    post = client.post
    bad_boundary = {"content-type": "multipart/form-data"}
    cut = {"content-type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="exposure"; filename="a"\r\n\r\nabc'
    expected = [
        (await post("/detections/infer", content=b"SIMPLE"), 415, "unsupported-media-type"),
        (
            await post("/detections/infer", content=b"x", headers=bad_boundary),
            400,
            "malformed-body",
        ),
        (await post("/detections/infer", content=part, headers=cut), 400, "malformed-body"),
        (
            await post("/detections/infer-by-reference", files={"exposure": npy(exposure())}),
            415,
            "unsupported-media-type",
        ),
        (await post("/detections/infer", files={"image": b"x"}), 422, "unknown-part"),
        (await post("/detections/infer", files={"request": b"{}"}), 422, "missing-part"),
        (
            await post("/detections/infer", files=[("exposure", b"1"), ("exposure", b"2")]),
            422,
            "repeated-part",
        ),
    ]
    for response, status, code in expected:
        assert response.status_code == status, response.text
        assert response.json()["type"] == f"urn:astrotriton:problem:{code}"


async def test_unknown_things_are_problems(client):
    for path, status in (
        (f"/detections/{uuid4()}", 404),
        ("/detections/seven", 404),
        ("/nowhere", 404),
        ("/detections/infer", 405),
    ):
        response = await client.get(path)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"].startswith("urn:astrotriton:problem:")
        assert response.headers["x-request-id"]


@pytest.mark.skipif(not ODDITIES.is_dir(), reason=f"{ODDITIES} is missing")
async def test_odd_files_end_in_detections_or_a_clear_refusal(client):
    for path in sorted(ODDITIES.iterdir()):
        response = await infer(client, path.read_bytes())
        assert response.status_code in (200, 413, 422), (path.name, response.text)
        if response.status_code != 200:
            assert response.json()["field"], path.name


async def test_ready_when_everything_is(client):
    response = await client.get("/health/ready")
    assert response.status_code == 200, response.text
    assert response.json()["status"] == "ready"
    assert (await client.get("/health/live")).status_code == 200


async def test_triton_down_is_named_and_nothing_is_stored(settings):
    away = settings.model_copy(update={"triton_grpc": f"127.0.0.1:{free_port()}"})
    async with serve(away) as client:
        response = await infer(client, npy(exposure()))
        assert response.status_code == 503
        assert response.json()["dependency"] == "triton"
        assert int(response.headers["retry-after"]) > 0
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert not ready.json()["parts"]["model"]["ready"]
        assert ready.json()["parts"]["database"]["ready"]
        assert (await client.get("/health/live")).status_code == 200
    stored = await counts(settings.database_url.get_secret_value())
    assert stored == dict.fromkeys(stored, 0)


async def test_database_down_is_named(settings):
    url = msgspec.json.decode(msgspec.json.encode("postgresql://x:x@127.0.0.1:1/x"))
    away = GatewaySettings(**settings.model_dump() | {"database_url": url})
    async with serve(away) as client:
        response = await infer(client, npy(exposure()))
        assert response.status_code == 503
        assert response.json()["dependency"] == "postgresql"
        assert not (await client.get("/health/ready")).json()["parts"]["database"]["ready"]


async def test_a_database_without_its_tables_is_not_ready(settings, empty_database):
    connection = await asyncpg.connect(empty_database)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    async with serve(settings) as client:
        part = (await client.get("/health/ready")).json()["parts"]["database"]
        assert not part["ready"]
        assert "migrate" in part["detail"]
        assert (await infer(client, npy(exposure()))).status_code == 503


async def test_only_the_model_asked_for_answers(settings):
    for config, named in (
        ({"model_name": "other"}, "other"),
        ({"model_version": "9"}, "version 9"),
    ):
        async with serve(settings, **config) as client:
            response = await infer(client, npy(exposure()))
            assert response.status_code == 503
            assert response.json()["type"].endswith("model-not-served")
            assert named in response.json()["detail"]


async def test_nan_from_the_model_is_never_stored(settings):
    async with serve(settings, model_name=NAN_NAME) as client:
        response = await infer(client, npy(exposure()))
        assert response.status_code == 502
        assert response.json()["type"].endswith("model-answer-invalid")
        assert (await client.get("/health/ready")).status_code == 503
    stored = await counts(settings.database_url.get_secret_value())
    assert stored == dict.fromkeys(stored, 0)


async def test_a_wrong_golden_tile_is_not_ready(settings, tmp_path):
    """Triton is well, but answers otherwise than the network did when it was exported."""
    copy = shutil.copytree(settings.model_repository, tmp_path / "repository")
    folder = copy / NAME / "3"
    with np.load(folder / "golden.npz") as golden:
        arrays = {"image": golden["image"], "probability": golden["probability"] + np.float32(2e-4)}
    np.savez(folder / "golden.npz", **arrays)
    elsewhere = settings.model_copy(update={"model_repository": copy})
    async with serve(elsewhere) as client:
        response = await infer(client, npy(exposure()))
        assert response.status_code == 503
        assert response.json()["dependency"] == "model_repository"

    card = json.loads((folder / "card.json").read_bytes())
    card["digests"]["golden.npz"] = sha256((folder / "golden.npz").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    async with serve(elsewhere) as client:
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert "golden tile wrong" in ready.json()["parts"]["model"]["detail"]


async def test_more_requests_than_there_is_room_for_are_told_to_come_back(settings):
    narrow = settings.model_copy(update={"max_runs": 1, "max_waiting": 1})
    async with serve(narrow) as client:
        answers = await asyncio.gather(*(infer(client, npy(exposure())) for _ in range(6)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 4
    for answer in refused:
        assert answer.json()["type"].endswith("busy")
        assert answer.headers["retry-after"]
    assert all(answer.status_code == 200 for answer in answers if answer not in refused)


async def test_more_bytes_than_there_is_room_for_are_told_to_come_back(settings):
    """Bytes count as they arrive: those of bodies that still come, too."""
    tight = settings.model_copy(update={"max_held_bytes": settings.max_body, "upload_grace": 60.0})
    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    async with serve(tight) as client:
        writers = []
        for _ in range(3):
            _, writer = await asyncio.open_connection(tight.host, tight.port)
            writer.write(
                b"POST /detections/infer HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" % tight.max_body
            )
            writer.write(part % b"candidates" + bytes(14_500_000))
            writers.append(writer)
        try:
            async with asyncio.timeout(60):
                while await held_by(client) < 3 * 14_500_000:
                    await asyncio.sleep(0.05)
            large = await infer(client, bytes(3_500_000))
            assert large.status_code == 503, large.text
            assert large.json()["type"].endswith("busy")
            assert int(large.headers["retry-after"]) > 0
            assert (await infer(client, npy(exposure()))).status_code == 200
        finally:
            for writer in writers:
                writer.close()
        async with asyncio.timeout(30):
            while await held_by(client):
                await asyncio.sleep(0.05)
        assert (await infer(client, bytes(3_500_000))).status_code == 422


async def test_a_slow_body_is_given_up(settings):
    impatient = settings.model_copy(update={"upload_timeout": 0.1})
    async with serve(impatient):
        reader, writer = await asyncio.open_connection(settings.host, settings.port)
        writer.write(
            b"POST /detections/infer HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_body_over_the_bound_is_refused(client, settings):
    response = await infer(client, bytes(settings.max_body + 1))
    assert response.status_code == 413
    assert response.json()["field"] == "exposure"


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[asyncio.Queue[nats.aio.msg.Msg]]:
    """What is published on ``detection.scored`` from now on."""
    connection = await nats.connect(url)
    messages: asyncio.Queue[nats.aio.msg.Msg] = asyncio.Queue()
    await connection.subscribe("detection.scored", cb=messages.put)
    await connection.flush()
    yield messages
    await connection.close()


async def unpublished(database: str) -> int:
    connection = await asyncpg.connect(database)
    try:
        return await connection.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
    finally:
        await connection.close()


async def until_published(database: str) -> None:
    async with asyncio.timeout(30):
        while await unpublished(database):
            await asyncio.sleep(0.05)


async def test_the_event_reaches_a_subscriber(client, settings, nats_server):
    database = settings.database_url.get_secret_value()
    async with listening(nats_server.url) as messages:
        run = (await infer(client, npy(exposure()))).json()
        message = await asyncio.wait_for(messages.get(), 30)
    event = from_json(message.data)
    assert event["specversion"] == "1.0"
    assert event["type"] == "detection.scored"
    assert event["subject"] == run["run_id"]
    assert event["datacontenttype"] == "application/json"
    schema = (await client.get(event["dataschema"])).raise_for_status()
    assert schema.headers["content-type"] == "application/schema+json"
    Draft202012Validator(schema.json()).validate(event.data)
    assert message.headers["Nats-Msg-Id"] == event["id"]
    assert message.headers["Content-Type"] == "application/cloudevents+json"
    assert event.data["model"] == run["model"]
    assert event.data["counts"]["detections"] == len(run["detections"])
    assert event.data["counts"]["real"] == len(SOURCES)
    assert [d["id"] for d in event.data["detections"]] == [d["id"] for d in run["detections"]]
    assert event.data["truncated"] is False

    await until_published(database)
    connection = await asyncpg.connect(database)
    row = await connection.fetchrow("SELECT id, published_at FROM outbox")
    await connection.close()
    assert row["id"] == UUID(event["id"])
    assert row["published_at"]


async def test_events_wait_while_nats_is_away(client, settings, nats_server):
    database = settings.database_url.get_secret_value()
    nats_server.stop()
    runs = [(await infer(client, npy(exposure()))).json() for _ in range(3)]
    assert await unpublished(database) == 3
    nats_server.start()
    await until_published(database)

    connection = await nats.connect(nats_server.url)
    stream = connection.jetstream()
    stored = [from_json((await stream.get_msg("ASTROTRITON", number)).data) for number in (1, 2, 3)]
    await connection.close()
    assert [event["subject"] for event in stored] == [run["run_id"] for run in runs]


async def test_events_that_nats_has_lost_are_published_again(client, settings, nats_server):
    database = settings.database_url.get_secret_value()
    runs = [(await infer(client, npy(exposure()))).json() for _ in range(2)]
    await until_published(database)
    nats_server.kill()
    nats_server.forget()
    nats_server.start()

    connection = await nats.connect(nats_server.url)
    stream = connection.jetstream()
    async with asyncio.timeout(60):
        while True:
            try:
                config = (info := await stream.stream_info("ASTROTRITON")).config
            except nats.js.errors.NotFoundError:
                pass
            else:
                if info.state.messages == len(runs):
                    break
            await asyncio.sleep(0.1)
    stored = [from_json((await stream.get_msg("ASTROTRITON", number)).data) for number in (1, 2)]
    await connection.close()
    assert [event["subject"] for event in stored] == [run["run_id"] for run in runs]
    assert (config.max_age, config.max_bytes) == (MAX_AGE, -1)
    await until_published(database)


async def test_what_postgresql_would_lose_is_seen(settings):
    """The server of the tests syncs nothing, because nothing of it outlives them."""
    async with open_database(settings) as database:
        assert await DurabilityService(database).look() == list(AT_RISK)


async def test_two_gateways_share_the_outbox_and_each_event_is_sent_once(settings, nats_server):
    database = settings.database_url.get_secret_value()
    second = settings.model_copy(update={"port": free_port()})
    async with (
        listening(nats_server.url) as messages,
        serve(settings) as one,
        serve(second) as other,
    ):
        answers = await asyncio.gather(
            *(infer(client, npy(exposure())) for client in (one, other) * 5)
        )
        assert [answer.text for answer in answers if answer.status_code != 200] == []
        await until_published(database)
        connection = await nats.connect(nats_server.url)
        info = await connection.jetstream().stream_info("ASTROTRITON")
        await connection.close()
        # The stream would hide an event sent twice; a plain subscriber sees it.
        sent = [from_json(messages.get_nowait().data)["subject"] for _ in range(messages.qsize())]
    assert info.state.messages == 10
    assert sorted(sent) == sorted(answer.json()["run_id"] for answer in answers)


async def test_a_version_is_added_by_many_at_once(database):
    """As several gateways do that all see a new version for the first time."""
    connections = [await asyncpg.connect(database) for _ in range(8)]
    try:
        for version in range(1, 101):
            model = ModelRef(name=NAME, version=version, digest="0" * 64)
            added = (
                insert_model(one, UUID(int=version), model, b"{}", "1" * 64) for one in connections
            )
            await asyncio.gather(*added)
        assert await connections[0].fetchval("SELECT count(*) FROM models") == 100
    finally:
        for connection in connections:
            await connection.close()


async def test_migrating_twice_at_once_is_safe(empty_database):
    await asyncio.gather(*(migrate(empty_database) for _ in range(3)))
    stored = await counts(empty_database)
    assert stored == dict.fromkeys(stored, 0)


async def test_detections_of_an_older_schema_are_found_in_the_sky(postgres, settings):
    async with new_database(postgres) as older:
        await migrate(older, "0001")
        detection = await _store_by_the_first_schema(older)
        await migrate(older)
        async with serve(
            GatewaySettings(**settings.model_dump() | {"database_url": older})
        ) as client:
            cone = {"ra": 318.1, "dec": -66, "radius": 0.01}
            page = (await client.get("/detections/", params=cone)).json()
            assert [found["id"] for found in page["detections"]] == [str(detection)]
            answer = (await client.get(f"/detections/{detection}/confidence")).json()
            assert answer["derivation"] is None


async def _store_by_the_first_schema(database: str) -> UUID:
    connection = await asyncpg.connect(database)
    digest = "0" * 64
    model, run, detection = uuid4(), uuid4(), uuid4()
    await connection.execute(
        "INSERT INTO models (id, name, version, digest, card_digest, card)"
        " VALUES ($1, 'm', 1, $2, $2, '{}')",
        model,
        digest,
    )
    await connection.execute(
        "INSERT INTO runs (id, model_id, exposure_hdu, exposure_digest, height, width, background,"
        " background_gradient, noise, masked_fraction, tiles, threshold, extracted, flags,"
        " detections, created_at)"
        " VALUES ($1, $2, 'PRIMARY', $3, 9, 9, 0, 0, 1, 0, 1, 0.5, false, '{}', 1, now())",
        run,
        model,
        digest,
    )
    await connection.execute(
        "INSERT INTO detections (id, run_id, rank, x, y, ra, dec, confidence, is_real, polarity,"
        " outcome, flags) VALUES ($1, $2, 1, 3, 4, 318.1, -66.0, 0.9, true, 1, 'kept', '{}')",
        detection,
        run,
    )
    await connection.close()
    return detection


async def test_the_commands_serve_and_log_one_json_object_a_line(
    settings, empty_database, nats_server
):
    environment = os.environ | {
        "ASTROTRITON_AUTH": "off",
        "ASTROTRITON_DATABASE_URL": empty_database,
        "ASTROTRITON_TRITON_GRPC": settings.triton_grpc,
        "ASTROTRITON_NATS_URL": nats_server.url,
        "ASTROTRITON_MODEL_REPOSITORY": str(settings.model_repository),
        "ASTROTRITON_PORT": str(settings.port),
    }
    command = [sys.executable, "-m", "astrotriton.gateway"]
    subprocess.run([*command, "migrate"], env=environment, check=True)
    process = subprocess.Popen([*command, "serve"], env=environment, stderr=subprocess.PIPE)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}") as client:
            async with asyncio.timeout(60):
                while True:
                    assert process.poll() is None
                    try:
                        ready = await client.get(
                            "/health/ready", headers={"X-Request-ID": "ready-or-not"}
                        )
                        break
                    except httpx.ConnectError:
                        await asyncio.sleep(0.1)
            assert ready.status_code == 200, ready.text
    finally:
        process.send_signal(signal.SIGTERM)
        _, logged = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in logged.decode().splitlines()]
    assert all({"time", "level", "logger", "message", "request_id"} <= set(line) for line in lines)
    assert any(
        line["logger"] == "uvicorn.access" and line["request_id"] == "ready-or-not"
        for line in lines
    )


async def test_the_openapi_document_says_the_pixel_convention(client):
    document = (await client.get("/schema/openapi.json")).json()
    assert "(0, 0)" in document["info"]["description"]
    for path, body in (
        ("/detections/infer", "multipart/form-data"),
        ("/detections/infer-by-reference", "application/json"),
    ):
        operation = document["paths"][path]["post"]
        assert set(operation["requestBody"]["content"]) == {body}
        assert set(operation["responses"]) >= {"200", "413", "415", "422", "503"}
    schemas = document["components"]["schemas"]
    assert "0-based" in schemas["CandidateIn"]["properties"]["x"]["description"]
    assert (await client.get("/schema")).status_code == 200
