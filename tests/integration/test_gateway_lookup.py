"""Runs in the background, repeated requests, and finding, explaining and labelling detections."""

import asyncio
import csv
import io
import json
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS
from PIL import Image
from regions import Regions
from uuid_utils.compat import uuid7

from astrotriton.client import AsyncClient
from astrotriton.detection.card import UNetModel
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.listing import Filter, listing
from astrotriton.wire.columns import columns_of
from astrotriton.wire.detections import ScoredDetection
from tests.integration.gateway_parts import (
    NAME,
    ROOT,
    SOURCES,
    exposure,
    gateway_process,
    infer,
    npy,
    serve,
    until_live,
)

RA, DEC = 318.1, -66.0
PIXEL = 0.26 / 3600


@pytest.fixture
async def deaf_triton() -> AsyncIterator[str]:
    """An address where somebody listens and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def calibrated(model_repository: Path, tmp_path: Path) -> Path:
    """The same version, with the reference network's calibration in its card."""
    copy = shutil.copytree(model_repository, tmp_path / "repository")
    reference = UNetModel.from_json((ROOT / "astrotriton/training/weights/card.json").read_bytes())
    path = copy / NAME / "3/card.json"
    card = msgspec.structs.replace(
        UNetModel.from_json(path.read_bytes()),
        confidence=reference.confidence,
        confidence_tta=reference.confidence_tta,
    )
    path.write_bytes(card.to_json())
    return copy


def with_wcs(ra: float = RA, dec: float = DEC) -> bytes:
    """The exposure, its pixel (0, 0) at a position."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [ra, dec], [1, 1], [-PIXEL, PIXEL]
    file = io.BytesIO()
    fits.PrimaryHDU(exposure(), wcs.to_header()).writeto(file)
    return file.getvalue()


async def found(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    response = await client.get("/detections/", params=query)
    assert response.status_code == 200, response.text
    return response.json()["detections"]


async def until_ended(client: httpx.AsyncClient, location: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            run = (await client.get(location)).json()
            if run["finished_at"]:
                return run
            await asyncio.sleep(0.05)


async def test_a_run_in_the_background_ends_as_one_that_is_waited_for(client):
    response = await client.post(
        "/detections/infer",
        files={"exposure": ("night.fits", with_wcs())},
        headers={"Prefer": "respond-async", "Idempotency-Key": "a"},
    )
    assert response.status_code == 202, response.text
    assert response.json()["status"] in ("queued", "running")
    run = await until_ended(client, response.headers["location"])
    assert run["status"] == "complete"
    assert run["progress"] == 1.0
    assert run["result"]["run_id"] == run["run_id"] == response.json()["run_id"]
    waited_for = (await infer(client, with_wcs())).json()
    again = (await client.get(f"/runs/{waited_for['run_id']}")).json()
    assert again["status"] == "complete"
    assert again["result"] == waited_for
    same = ("candidate_id", "x", "y", "ra", "dec", "confidence")
    for one, other in zip(run["result"]["detections"], waited_for["detections"], strict=True):
        assert [one[name] for name in same] == [other[name] for name in same]


async def test_a_run_in_the_background_that_fails_says_why(client, settings):
    response = await client.post(
        "/detections/infer",
        files={"exposure": b"not FITS"},
        headers={"Prefer": "respond-async", "Idempotency-Key": "b"},
    )
    assert response.status_code == 202
    run = await until_ended(client, response.headers["location"])
    assert run["status"] == "failed"
    assert run["problem"]["type"] == "urn:astrotriton:problem:not-fits"
    assert run["problem"]["field"] == "exposure"
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == 0
    await connection.close()


async def test_runs_are_listed_whether_they_are_done_under_way_or_failed(client, settings):
    done = (await infer(client, with_wcs(), {"exposure_id": "one", "filter": "r"})).json()
    background = {"Prefer": "respond-async"}
    failing = await client.post(
        "/detections/infer", files={"exposure": ("two.fits", b"no")}, headers=background
    )
    await until_ended(client, failing.headers["location"])
    last = await client.post(
        "/detections/infer", files={"exposure": ("three.fits", with_wcs())}, headers=background
    )
    await until_ended(client, last.headers["location"])
    under_way = uuid7()
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    # As another gateway's is.
    await connection.execute(
        "INSERT INTO jobs (id, status, done, of, caller, exposure_name)"
        " VALUES ($1, 'running', 1, 4, 'anonymous', 'four')",
        UUID(str(under_way)),
    )
    await connection.close()

    async def listed(**query: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            response = await client.get("/runs/", params={"limit": 1, **query})
            assert response.status_code == 200, response.text
            rows += response.json()["runs"]
            if response.json()["next"] is None:
                return rows
            query["after"] = response.json()["next"]

    every = await listed()
    assert [(run["exposure_name"], run["status"]) for run in every] == [
        ("four", "running"),
        ("three.fits", "complete"),
        ("two.fits", "failed"),
        ("one", "complete"),
    ]
    running, _, failed, one = every
    assert (running["progress"], running["run_id"]) == (0.25, str(under_way))
    assert failed["problem"]["type"].endswith("not-fits")
    assert (one["detections"], one["real"]) == (
        len(done["detections"]),
        sum(d["is_real"] for d in done["detections"]),
    )
    assert one["exposure"] == done["exposure"]
    for query, expected in (
        ({"status": "failed"}, [failed]),
        ({"status": "complete"}, [every[1], one]),
        ({"filter": "r"}, [one]),
        ({"exposure": "four"}, [running]),
        ({"night": "2020-01-01"}, []),
        ({"flag": "no_wcs"}, []),
        ({"since": "2020-01-01T00:00:00Z"}, every),
    ):
        assert await listed(**query) == expected, query

    async with AsyncClient(str(client.base_url)) as own:
        runs = [str(run.run_id) async for run in own.runs(limit=1)]
        assert runs == [run["run_id"] for run in every]
        failures = [run.exposure_name async for run in own.runs(status="failed", filter=None)]
        assert failures == ["two.fits"]
        real = [str(d.id) async for d in own.detections(is_real=True, filter="r", limit=1)]
        assert real == [d["id"] for d in done["detections"] if d["is_real"]]
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        assert [d async for d in own.detections(since=tomorrow)] == []
        stored = [d async for d in own.detections(sort="committed", limit=2)]
        assert len(stored) == one["detections"] + every[1]["detections"]

    ended = await client.post(f"/runs/{one['run_id']}/cancel")
    assert (ended.status_code, ended.json()["type"]) == (409, "urn:astrotriton:problem:run-ended")
    cancelled = await client.post(f"/runs/{under_way}/cancel")
    assert (cancelled.json()["status"], cancelled.json()["problem"]["title"]) == (
        "failed",
        "The run was cancelled",
    )
    unknown = await client.post(f"/runs/{uuid4()}/cancel")
    assert unknown.status_code == 404


async def test_large_exposures_are_always_scored_in_the_background(settings: GatewaySettings):
    async with serve(settings.model_copy(update={"async_bytes": 1000})) as client:
        response = await infer(client, with_wcs())
        assert response.status_code == 202
        assert (await until_ended(client, response.headers["location"]))["status"] == "complete"


async def test_a_key_gets_the_first_answer_again(client, settings):
    key = {"Idempotency-Key": "night-1"}
    files = {"exposure": ("night.fits", with_wcs())}
    both = await asyncio.gather(
        *(client.post("/detections/infer", files=files, headers=key) for _ in range(2))
    )
    again = await client.post("/detections/infer", files=files, headers=key)
    assert [r.status_code for r in (*both, again)] == [200, 200, 200]
    assert both[0].json() == both[1].json() == again.json()

    other = await client.post("/detections/infer", files={"exposure": npy(exposure())}, headers=key)
    assert other.status_code == 422
    assert other.json()["type"] == "urn:astrotriton:problem:idempotency-key-reused"
    failed = await client.post("/detections/infer", files={"exposure": b""}, headers={**key})
    assert failed.status_code == 422
    bad = await client.post("/detections/infer", files=files, headers={"Idempotency-Key": "a b"})
    assert bad.json()["field"] == "Idempotency-Key"
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    assert await connection.fetchval("SELECT count(*) FROM runs") == 1
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1
    await connection.close()


@pytest.mark.faults
async def test_a_run_whose_gateway_is_killed_fails_and_can_be_sent_again(
    settings, tmp_path, deaf_triton
):
    database = settings.database_url.get_secret_value()
    process = gateway_process(settings, tmp_path, ASTROTRITON_TRITON_GRPC=deaf_triton)
    headers = {"Prefer": "respond-async", "Idempotency-Key": "a"}
    files = {"exposure": ("night.fits", with_wcs())}
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{settings.port}", trust_env=False
        ) as client:
            await until_live(client, process)
            accepted = await client.post("/detections/infer", files=files, headers=headers)
            assert accepted.status_code == 202
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE jobs SET heartbeat_at = heartbeat_at - interval '1 minute'")
    await connection.close()
    async with serve(settings) as client:
        run = await until_ended(client, accepted.headers["location"])
        assert run["status"] == "failed"
        assert run["problem"]["type"].endswith("run-given-up")
        again = await client.post("/detections/infer", files=files, headers=headers)
        assert (await until_ended(client, again.headers["location"]))["status"] == "complete"


async def test_detections_are_found_by_what_they_are(client):
    first = (await infer(client, with_wcs(), {"exposure_id": "one"})).json()
    between = datetime.now(UTC) + timedelta(milliseconds=5)
    await asyncio.sleep(0.01)
    second = (await infer(client, npy(exposure()), {"exposure_id": "two"})).json()
    everything = [d["id"] for d in first["detections"] + second["detections"]]

    assert {d["id"] for d in await found(client)} == set(everything)
    for query, run in (
        ({"run_id": first["run_id"]}, first),
        ({"exposure": "two"}, second),
        ({"until": between.isoformat()}, first),
        ({"since": between.isoformat()}, second),
    ):
        ids = {d["id"] for d in await found(client, **query)}
        assert ids == {d["id"] for d in run["detections"]}, query
    real = {d["id"] for d in first["detections"] if d["is_real"]}
    assert {d["id"] for d in await found(client, run_id=first["run_id"], is_real=True)} == real
    assert await found(client, model_version=4) == []
    assert all(d["confidence"] >= 0.9 for d in await found(client, min_confidence=0.9))


async def test_pages_hold_every_detection_once(client):
    named = {"exposure_id": "night&day+.fits"}
    runs = [(await infer(client, with_wcs(), named)).json() for _ in range(3)]
    seen, url = [], "/detections/?limit=4&min_confidence=0&exposure=night%26day%2B.fits"
    while url:
        response = await client.get(url)
        page = response.json()
        seen += [d["id"] for d in page["detections"]]
        link = response.headers.get("link", "")
        assert bool(link) == (page["next"] is not None)
        url = link.partition(">")[0].strip("<")
    assert seen == [d["id"] for run in reversed(runs) for d in run["detections"]]


_SORTED = [
    *(("confidence", "confidence", 1), ("-confidence", "confidence", -1)),
    *(("snr", "snr", 1), ("-snr", "snr", -1), ("mag", "mag", 1), ("-mag", "mag", -1)),
    *(("entropy", "entropy", 1), ("-entropy", "entropy", -1)),
]


async def pages(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    """All pages of a list, followed by `next`."""
    found: list[dict[str, Any]] = []
    while True:
        page = (await client.get("/detections/", params=query)).json()
        found += page["detections"]
        if page["next"] is None:
            return found
        query["after"] = page["next"]


async def test_lists_are_sorted_and_filtered_by_what_was_measured(client):
    times = ("2026-11-24T11:59:59Z", "2026-11-24T12:00:00Z", "2026-11-25T11:59:59Z")
    runs = [
        (
            await infer(
                client,
                with_wcs(),
                {"mjd_mid": Time(time).mjd, "zero_point": 25.0, "filter": name},
            )
        ).json()
        for time, name in zip(times, ("g", "r", "r"), strict=True)
    ]
    every = [d for run in runs for d in run["detections"]]
    for sort, name, way in _SORTED:
        known = [d for d in every if d[name] is not None]
        seen = await pages(client, sort=sort, limit=3)
        assert sorted(d["id"] for d in seen) == sorted(d["id"] for d in known), sort
        values = [way * d[name] for d in seen]
        assert values == sorted(values), sort
    for sort, ordered in (("observed_at", runs), ("-observed_at", runs[::-1])):
        seen = await pages(client, sort=sort, limit=3)
        assert [d["id"] for d in seen] == [d["id"] for run in ordered for d in run["detections"]]

    middle = sorted(d["snr"] for d in every if d["snr"] is not None)[len(every) // 2]
    bright = sorted(d["mag"] for d in every if d["mag"] is not None)[len(every) // 2]
    flag = next(flag for d in every for flag in d["flags"])
    night = {d["id"] for run in runs[1:] for d in run["detections"]}
    first = every[0]["id"]
    await client.patch(f"/detections/{first}", json={"label": "unsure"})
    queries: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
        ({"min_snr": middle}, lambda d: d["snr"] is not None and d["snr"] >= middle),
        ({"max_snr": middle}, lambda d: d["snr"] is not None and d["snr"] <= middle),
        ({"min_mag": bright}, lambda d: d["mag"] is not None and d["mag"] >= bright),
        ({"max_mag": bright}, lambda d: d["mag"] is not None and d["mag"] <= bright),
        ({"max_confidence": 0.5}, lambda d: d["confidence"] is not None and d["confidence"] <= 0.5),
        ({"polarity": 1}, lambda d: d["polarity"] == 1),
        ({"polarity": -1}, lambda d: d["polarity"] == -1),
        ({"flag": flag}, lambda d: flag in d["flags"]),
        ({"flag": f"{flag}, trail"}, lambda d: {flag, "trail"} <= set(d["flags"])),
        ({"without_flag": flag}, lambda d: flag not in d["flags"]),
        ({"night": "2026-11-24"}, lambda d: d["id"] in night),
        ({"night": "2026-11-26"}, lambda d: False),
        ({"filter": "r"}, lambda d: d["id"] in night),
        ({"label": "none"}, lambda d: d["id"] != first),
        ({"label": "unsure"}, lambda d: d["id"] == first),
    ]
    for query, matches in queries:
        wanted = {d["id"] for d in every if matches(d)}
        assert {d["id"] for d in await pages(client, limit=4, **query)} == wanted, query
        known = {d["id"] for d in every if matches(d) and d["snr"] is not None}
        by_snr = await pages(client, limit=4, sort="-snr", **query)
        assert {d["id"] for d in by_snr} == known, query
        near = {"ra": RA, "dec": DEC, "radius": 0.1}
        assert {d["id"] for d in await pages(client, limit=4, **query, **near)} == wanted, query


async def test_columns_are_those_that_were_asked_for(client):
    await infer(client, with_wcs())
    page = (await client.get("/detections/?columns=id,ra,exposure&limit=1")).json()
    assert list(page["detections"][0]) == ["id", "ra", "exposure"]
    table = await client.get(
        "/detections/?columns=snr,exposure,id&limit=2", headers={"Accept": "text/csv"}
    )
    assert table.text.splitlines()[0] == "snr,exposure,id"
    refused = await client.get("/detections/?columns=id,password")
    assert (refused.status_code, refused.json()["field"]) == (422, "columns")
    assert "'password'" in refused.json()["detail"]


async def test_who_follows_the_order_of_commits_misses_nothing(client, settings):
    first = (await infer(client, with_wcs())).json()
    page = (await client.get("/detections/?sort=committed&limit=1000")).json()
    assert [d["id"] for d in page["detections"]] == [d["id"] for d in first["detections"]]

    # A transaction that has begun to store is still under way while another one commits.
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT pg_current_xact_id()")
    second = (await infer(client, with_wcs())).json()
    query = {"sort": "committed", "after": page["next"]}
    held = (await client.get("/detections/", params=query)).json()
    assert (held["detections"], held["next"]) == ([], page["next"])
    assert second["detections"][0]["id"] == (await found(client))[0]["id"]
    early, own = uuid7(), uuid7()
    for table, names in (
        ("runs", {"id": f"'{early}'", "committed_in": "pg_current_xact_id()"}),
        (
            "detections",
            {"id": f"'{own}'", "run_id": f"'{early}'", "candidate_id": "'x'", "rank": "1"},
        ),
    ):
        columns = await connection.fetchval(
            "SELECT array_agg(attname::text) FROM pg_attribute WHERE attnum > 0"
            f" AND NOT attisdropped AND attrelid = '{table}'::regclass"
        )
        values = ", ".join(names.get(name, f'"{name}"') for name in columns)
        columns = [f'"{name}"' for name in columns]
        source = "id" if table == "runs" else "rank = 1 AND run_id"
        await connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}"
            f" WHERE {source} = '{first['run_id']}'"
        )
    await transaction.commit()
    await connection.close()
    ids = [d["id"] for d in await committed(client, page["next"])]
    assert ids == [str(own), *(d["id"] for d in second["detections"])]


async def committed(client: httpx.AsyncClient, after: str) -> list[dict[str, Any]]:
    """What has been committed since, in pages of two."""
    rows: list[dict[str, Any]] = []
    while True:
        query: dict[str, Any] = {"sort": "committed", "after": after, "limit": 2}
        page = (await client.get("/detections/", params=query)).json()
        rows += page["detections"]
        if page["next"] == after or not page["detections"]:
            return rows
        after = page["next"]


async def test_a_cone_finds_what_lies_in_it_and_nothing_else(client, settings):
    for ra, dec in ((RA, DEC), (0.0, 0.0), (120.0, 89.99)):
        run = (await infer(client, with_wcs(ra, dec))).json()
        target = next(d for d in run["detections"] if d["is_real"])
        near = await found(client, ra=target["ra"], dec=target["dec"], radius=1 / 3600)
        assert [d["id"] for d in near] == [target["id"]]
        wide = await found(client, ra=ra, dec=dec, radius=0.1, limit=1000)
        assert {d["id"] for d in wide} == {d["id"] for d in run["detections"]}
    assert await found(client, ra=10.0, dec=10.0, radius=1.0) == []
    missing = await client.get("/detections/", params={"ra": 1.0, "dec": 1.0})
    assert missing.status_code == 422
    assert missing.json()["field"] == "radius"

    # In a table of ten million a range of cells must be planned to hold little of it: what is taken
    # to hold a ninth is no longer looked for by the index.
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    statement, values = listing(Filter(cone=(RA, DEC, 0.1)), None, 100)
    async with connection.transaction():
        await connection.execute(
            "UPDATE pg_class SET reltuples = 1e7, relpages = 1 WHERE relname = 'detections'"
        )
        plan = [row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *values)]
    await connection.close()
    (scan,) = (line for line in plan if "Scan using detections_cell" in line)
    assert int(re.findall(r"rows=(\d+)", scan)[0]) < 100_000


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"ra": 360, "dec": 0, "radius": 1}, "ra"),
        ({"ra": 0, "dec": 91, "radius": 1}, "dec"),
        ({"ra": 0, "dec": 0, "radius": "nan"}, "radius"),
        ({"ra": 0, "dec": 0, "radius": 11}, "radius"),
        ({"run_id": "x"}, "run_id"),
        ({"label": "maybe"}, "label"),
        ({"since": "yesterday"}, "since"),
        ({"min_confidence": 2}, "min_confidence"),
        ({"flag": "edge,bright"}, "flag"),
        ({"night": "24 November"}, "night"),
        ({"night": "9999-12-31"}, "night"),
        ({"polarity": 0}, "polarity"),
        ({"min_snr": "nan"}, "min_snr"),
        ({"sort": "name"}, "sort"),
        ({"columns": ""}, "columns"),
        ({"after": str(uuid4())}, "after"),
    ],
)
async def test_bad_queries_are_named(client, query, field):
    response = await client.get("/detections/", params=query)
    assert response.status_code == 422, response.text
    assert response.json()["field"] == field


async def test_every_declared_field_of_a_detection_has_its_column(client, settings):
    kinds = {
        "float64": {"double precision"},
        "int32": {"integer"},
        "int16": {"integer", "smallint"},
        "bool": {"boolean"},
        "str": {"text", "uuid", "ARRAY"},
    }
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    rows = await connection.fetch(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_name = 'detections'"
    )
    await connection.close()
    stored = {row["column_name"]: row for row in rows}
    for column in columns_of(ScoredDetection):
        found = stored[column.name]
        assert found["data_type"] in kinds[column.dtype], column.name
        assert (found["is_nullable"] == "YES") == column.nullable, column.name


async def test_formats_that_astronomers_tools_read(client):
    run = (await infer(client, with_wcs())).json()
    count = len(run["detections"])

    async def read(kind: str) -> bytes:
        response = await client.get("/detections/", headers={"Accept": kind})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith(kind)
        return response.content

    votable = parse_single_table(io.BytesIO(await read("application/x-votable+xml"))).to_table()
    lines = (await read("application/x-ecsv")).decode().splitlines()
    ecsv = Table.read(lines, format="ascii.ecsv")
    assert len(votable) == len(ecsv) == count
    assert set(ecsv["id"]) == {d["id"] for d in run["detections"]}
    assert str(votable["ra"].unit) == str(ecsv["ra"].unit) == "deg"
    regions = Regions.parse((await read("application/x-ds9")).decode(), format="ds9")
    assert len(regions) == count
    direct = await client.post(
        "/detections/infer",
        files={"exposure": ("night.fits", with_wcs())},
        headers={"Accept": "application/x-ecsv"},
    )
    assert len(Table.read(direct.text.splitlines(), format="ascii.ecsv")) == count
    refused = await client.get("/detections/", headers={"Accept": "image/gif"})
    assert refused.status_code == 406


async def test_labels_are_set_withdrawn_and_kept_for_good(client, settings):
    run = (await infer(client, with_wcs())).json()
    url = f"/detections/{run['detections'][0]['id']}"
    for label, comment in (("artefact", "a satellite"), ("real", None), (None, "not sure")):
        response = await client.patch(url, json={"label": label, "comment": comment})
        assert response.status_code == 200, response.text
        assert response.json()["label"] == label
        assert (await client.get(url)).json()["label"] == label
    assert await found(client, label="real") == []
    await client.patch(url, json={"label": "real"})
    assert [d["id"] for d in await found(client, label="real")] == [run["detections"][0]["id"]]
    bad = await client.patch(url, json={"label": "maybe"})
    assert bad.status_code == 422
    assert bad.json()["field"] == "label"
    unknown = await client.patch(f"/detections/{uuid4()}", json={"label": "real"})
    assert unknown.status_code == 404
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    audit = await connection.fetch("SELECT label, comment, author FROM labels ORDER BY id")
    await connection.close()
    assert [row["label"] for row in audit] == ["artefact", "real", None, "real"]
    assert audit[0]["comment"] == "a satellite"
    assert {row["author"] for row in audit} == {"anonymous"}


async def test_a_cutout_shows_the_detection(settings):
    async with serve(settings.model_copy(update={"cutouts": 2})) as client:
        run = (await infer(client, with_wcs())).json()
        best = run["detections"][0]
        response = await client.get(f"/detections/{best['id']}/cutout.png")
        assert response.status_code == 200
        assert response.headers["content-type"] == "image/png"
        shown = np.asarray(Image.open(io.BytesIO(response.content)))
        assert shown.shape == (63, 63)
        assert np.unravel_index(shown.argmax(), shown.shape) == (31, 31)
        last = run["detections"][-1]
        assert len(run["detections"]) > 2
        assert (await client.get(f"/detections/{last['id']}/cutout.png")).status_code == 404


async def test_science_and_template_are_kept_beside_the_difference(settings):
    difference = exposure()
    sky = np.random.default_rng(3).normal(8000.0, 30.0, difference.shape).astype(np.float32)
    files = {
        "exposure": ("night.npy", npy(difference)),
        "science": npy(sky + difference),
        "template": npy(sky),
    }
    async with serve(settings) as client:
        run = (await client.post("/detections/infer", files=files)).json()
        best = run["detections"][0]
        path = f"/detections/{best['id']}/cutout"
        shown = {}
        for plane in ("difference", "science", "template"):
            query = {"plane": plane, "stretch": "linear", "white": 20, "zoom": 2}
            response = await client.get(f"{path}.png", params=query)
            assert response.status_code == 200, response.text
            shown[plane] = np.asarray(Image.open(io.BytesIO(response.content)))
            assert shown[plane].shape == (31, 31)
        assert shown["difference"].max() == 255
        assert (shown["science"] != shown["template"]).any()
        for query in ({"plane": "weight"}, {"zoom": 0}, {"white": 51}, {"stretch": "cubic"}):
            assert (await client.get(f"{path}.png", params=query)).status_code == 422
        response = await client.get(f"{path}.fits")
        assert response.headers["content-type"] == "application/fits"
        x, y = round(best["x"]), round(best["y"])
        around = slice(y - 31, y + 32), slice(x - 31, x + 32)
        with fits.open(io.BytesIO(response.content)) as hdus:
            kept = {hdu.name: hdu.data for hdu in hdus[1:]}
        assert set(kept) == {"DIFFERENCE", "SCIENCE", "TEMPLATE"}
        inside = sky[around]
        if inside.shape == (63, 63):
            usable = np.abs(inside - 8000.0) < 100.0
            assert np.abs(kept["TEMPLATE"] - inside)[usable].max() < 5.0
        page = (await client.get(f"/dashboard/detections/{best['id']}")).text
        assert "plane=template" in page
        image = await client.get(f"/dashboard/exposures/{run['run_id']}/image?scale=2")
        assert image.status_code == 200, image.text
        # One that came alone has no more than the difference.
        alone = (await infer(client, with_wcs())).json()["detections"][0]
        response = await client.get(f"/detections/{alone['id']}/cutout.png?plane=science")
        assert response.status_code == 404
        assert "was not sent" in response.json()["detail"]
    async with serve(settings.model_copy(update={"picture_side": 0})) as client:
        run = (await infer(client, with_wcs())).json()
        page = await client.get(f"/dashboard/exposures/{run['run_id']}/image")
        assert page.status_code == 404
        assert "no picture" in page.text


async def test_labels_are_taken_elsewhere(settings):
    async with serve(settings) as client:
        run = (await infer(client, with_wcs())).json()
        first, second, *_ = run["detections"]
        for one, label in (
            (first, "unsure"),
            (first, "real"),
            (second, "artefact"),
            (second, None),
        ):
            given = {"label": label, "comment": "a, b" if label == "real" else None}
            response = await client.patch(f"/detections/{one['id']}", json=given)
            assert response.status_code == 200, response.text
        (current,) = (await client.get("/labels/")).json()["labels"]
        assert current["detection_id"] == first["id"]
        assert (current["label"], current["author"]) == ("real", "anonymous")
        assert (current["comment"], current["model_version"]) == ("a, b", 3)
        for name in ("x", "y", "ra", "dec", "snr", "confidence", "is_real"):
            assert current[name] == first[name], name
        assert (current["run_id"], current["exposure"]) == (run["run_id"], "night.fits")
        every: list[Any] = []
        path = "/labels/?history=true&limit=3"
        while path:
            answer = await client.get(path)
            every += answer.json()["labels"]
            path = answer.links.get("next", {}).get("url", "")
        assert [one["label"] for one in every] == ["unsure", "real", "artefact", None]
        for query, count in (
            ({"label": "real"}, 1),
            ({"label": "artefact"}, 0),
            ({"author": "somebody"}, 0),
            ({"run_id": str(uuid4())}, 0),
            ({"exposure": "night.fits", "model_version": 3}, 1),
            ({"since": every[1]["created_at"], "history": True}, 3),
            ({"until": every[1]["created_at"], "history": True}, 1),
            ({"after": every[2]["id"], "history": True}, 1),
        ):
            found = (await client.get("/labels/", params=query)).json()["labels"]
            assert len(found) == count, query
        answer = await client.get("/labels/?history=true", headers={"Accept": "text/csv"})
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["label"] for row in rows] == ["unsure", "real", "artefact", ""]
        assert rows[1]["comment"] == "a, b"
        assert rows[1]["ra"] == str(first["ra"])
        assert (await client.get("/labels/", headers={"Accept": "image/png"})).status_code == 406
        assert (await client.get("/labels/?since=yesterday")).status_code == 422
        async with AsyncClient(str(client.base_url)) as ours:
            found = [one async for one in ours.labels(history=True, limit=3)]
            assert [one.label for one in found] == ["unsure", "real", "artefact", None]
            assert (await ours.cutout_file(first["id"])).startswith(b"SIMPLE")


async def test_a_cutout_of_an_earlier_version_is_answered_as_it_is(settings):
    file = io.BytesIO()
    Image.new("L", (63, 63), 7).save(file, format="PNG")
    async with serve(settings) as client:
        best = (await infer(client, with_wcs())).json()["detections"][0]
        connection = await asyncpg.connect(settings.database_url.get_secret_value())
        try:
            await connection.execute(
                "UPDATE cutouts SET png = $2, pixels = NULL WHERE detection_id = $1",
                *(UUID(best["id"]), file.getvalue()),
            )
        finally:
            await connection.close()
        response = await client.get(f"/detections/{best['id']}/cutout.png")
        assert response.content == file.getvalue()


async def test_a_confidence_is_derived_from_what_was_stored(settings, calibrated):
    elsewhere = settings.model_copy(update={"model_repository": calibrated})
    async with serve(elsewhere) as client:
        for request in ({}, {"tta": True}, {"max_false_discovery_rate": 0.2}):
            response = await infer(client, with_wcs(), request)
            assert response.status_code == 200, response.text
            run = response.json()
            assert (run["guarantee"] is not None) == ("max_false_discovery_rate" in request)
            for detection in run["detections"]:
                url = f"/detections/{detection['id']}/confidence"
                answer = (await client.get(url)).json()
                derivation = answer["derivation"]
                assert (derivation is None) == (detection["outcome"] != "kept")
                if derivation is None:
                    continue
                total = derivation["intercept"]
                total += sum(term["contribution"] for term in derivation["terms"])
                assert derivation["score"] == pytest.approx(total)
                for name in ("confidence", "low", "high"):
                    stored = name if name == "confidence" else f"confidence_{name}"
                    assert derivation[name] == pytest.approx(detection[stored], abs=1e-9)
                assert answer["tta"] == request.get("tta", False)
                assert answer["threshold"] == run["threshold"]
                assert answer["guarantee"] == run["guarantee"]
        everything = (await client.get("/detections/", params={"limit": 1000})).json()
        assert len(everything["detections"]) >= 3 * len(SOURCES)


async def test_planes_leave_pixels_out(client):
    mask = np.zeros(exposure().shape, np.uint8)
    x, y = SOURCES[0]
    mask[int(y) - 20 : int(y) + 20, int(x) - 20 : int(x) + 20] = 4
    weight = (mask == 0).astype(np.float32)
    for files, request in (
        ({"mask": npy(mask)}, {}),
        ({"mask": npy(mask)}, {"mask_bits": 4}),
        ({"weight": npy(weight)}, {}),
    ):
        response = await client.post(
            "/detections/infer",
            files={
                "exposure": npy(exposure()),
                "request": (None, json.dumps(request), "application/json"),
                **files,
            },
        )
        assert response.status_code == 200, response.text
        assert response.json()["image"]["masked_fraction"] > 0.01
        real = [d for d in response.json()["detections"] if d["is_real"]]
        assert len(real) == len(SOURCES) - 1
    wrong = await client.post(
        "/detections/infer", files={"exposure": npy(exposure()), "mask": npy(mask[1:])}
    )
    assert wrong.status_code == 422
    assert wrong.json()["field"] == "mask"


async def test_a_model_that_was_never_calibrated_says_so(client):
    run = (await infer(client, with_wcs())).json()
    best = run["detections"][0]
    response = await client.get(f"/detections/{best['id']}/confidence")
    assert response.status_code == 200, response.text
    derivation = response.json()
    assert derivation["derivation"] is None
    assert derivation["confidence"] == best["confidence"] == derivation["probability"]
    assert "uncalibrated" in derivation["flags"]


async def test_models_are_listed_with_their_role(client):
    await client.put("/models/unet_astronomical/route", json={"champion": 3})
    (info,) = (await client.get("/models/")).json()
    assert info["first_used_at"] is None
    run = (await infer(client, with_wcs())).json()
    (info,) = (await client.get("/models/")).json()
    assert (info["version"], info["roles"], info["served"]) == (3, ["champion"], True)
    assert info["digest"] == run["model"]["digest"]
    assert info["card"] is None
    for name in (info["id"], "unet_astronomical:3", "unet_astronomical@champion"):
        model = (await client.get(f"/models/{name}")).json()
        assert model["id"] == info["id"]
        assert model["card"]["version"] == 3
    for name in (uuid4(), "unet_astronomical:4", "unet_astronomical@challenger", "x"):
        assert (await client.get(f"/models/{name}")).status_code == 404


async def test_a_deadline_ends_the_work(client, settings):
    late = await client.post(
        "/detections/infer",
        files={"exposure": ("night.fits", with_wcs())},
        headers={"Request-Timeout": "0.001"},
    )
    assert late.status_code == 504
    assert late.json()["type"].endswith("deadline-exceeded")
    for given in ("soon", "0", "-1", "nan"):
        bad = await client.post(
            "/detections/infer", files={"exposure": b"x"}, headers={"Request-Timeout": given}
        )
        assert bad.status_code == 422
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    assert await connection.fetchval("SELECT count(*) FROM runs") == 0
    await connection.close()


async def test_a_caller_who_leaves_makes_room(settings, deaf_triton):
    deaf = settings.model_copy(update={"triton_grpc": deaf_triton, "max_runs": 1, "max_waiting": 0})
    async with serve(deaf) as client:
        asking = asyncio.create_task(infer(client, with_wcs()))
        async with asyncio.timeout(20):
            while "astrotriton_requests_inside 1.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.05)
        assert (await infer(client, with_wcs())).json()["type"].endswith("busy")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(20):
            # It has room again, and gives up as soon as this caller wants.
            while (await _impatient(client)).status_code != 504:
                await asyncio.sleep(0.05)


async def _impatient(client: httpx.AsyncClient) -> httpx.Response:
    files = {"exposure": ("night.fits", with_wcs())}
    return await client.post("/detections/infer", files=files, headers={"Request-Timeout": "0.3"})


def test_ids_begin_with_their_time():
    """What `since` and `until` rely on."""
    now = datetime.now(UTC).timestamp() * 1000
    assert abs((UUID(str(uuid7())).int >> 80) - now) < 5000


async def test_odd_requests_are_never_the_services_fault(client):
    run = (await infer(client, with_wcs())).json()
    url = f"/detections/{run['detections'][0]['id']}"
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/detections/?exposure=%00", {}),
        ("GET", "/detections/?exposure=%ff%fe", {}),
        ("GET", "/detections/?exposure=%ed%a0%80", {}),
        ("GET", "/detections/?since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z", {}),
        ("GET", "/detections/?since=0001-01-01T00:00:00%2B14:00", {}),
        ("GET", "/detections/?min_confidence=nan", {}),
        ("GET", "/detections/?ra=359.99999999999997&dec=90&radius=10", {}),
        ("GET", "/detections/?ra=0&dec=-90&radius=1e-300", {}),
        ("GET", "/detections/?ra=1e-200&dec=1e-200&radius=1e-6", {}),
        ("GET", "/detections/?limit=1&limit=2", {}),
        ("GET", "/models/%00", {}),
        ("GET", "/models/a%2fb", {}),
        ("GET", "/models/%ff/route", {}),
        ("PUT", "/models/%00/route", {"json": {"champion": 3}}),
        ("PUT", "/models/unet_astronomical/route", {"json": {"champion": 2**31}}),
        ("PUT", "/models/unet_astronomical/route", {"content": b"\xff"}),
        ("PUT", "/models/unet_astronomical/route", {"content": b""}),
        ("PATCH", url, {"json": {"label": "real", "comment": "a\0b"}}),
        ("PATCH", url, {"content": b'{"label": "real", "comment": "\\ud800"}'}),
        ("PATCH", url, {"content": b"[" * 100_000}),
        ("GET", url, {"headers": {"Accept": ";;;"}}),
        ("GET", "/detections/", {"headers": {"Accept": ";q=;,*/x;q=9"}}),
        ("POST", "/detections/infer", {"headers": {"Content-Type": ";;;"}}),
        ("POST", "/detections/infer", {"headers": {"Content-Type": "multipart/form-data;="}}),
        (
            "POST",
            "/detections/infer",
            {"content": b"{}", "headers": {"Content-Type": "application/json"}},
        ),
        ("POST", "/detections/infer", {"json": {"exposure": "s3://" + "a" * 5000}}),
        ("POST", "/detections/infer", {"json": {"exposure": "s3://nights/\u202e"}}),
        ("OPTIONS", "/detections/infer", {}),
        ("HEAD", "/health/live", {}),
        ("DELETE", url, {}),
    ]
    for method, path, options in requests:
        response = await client.request(method, path, **options)
        assert response.status_code < 500, (method, path, response.status_code, response.text)
