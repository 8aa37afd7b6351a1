"""Following new detections, while writers commit in any order and streams break."""

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from uuid_utils.compat import uuid7

from astrotriton.client import BEGINNING, AsyncClient, Client
from astrotriton.gateway.settings import GatewaySettings
from tests.integration.gateway_parts import (
    exposure,
    gateway_process,
    infer,
    npy,
    serve,
    until_live,
)
from tests.integration.identity_parts import bearer, key_with

STREAM = "/detections/stream"


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"stream_poll": 0.02, "stream_heartbeat": 0.2})


@pytest.fixture
async def client(settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


@asynccontextmanager
async def lines_of(
    client: httpx.AsyncClient, accept: str = "text/event-stream", **asked: Any
) -> AsyncIterator[AsyncIterator[str]]:
    headers = {"Accept": accept, **asked.pop("headers", {})}
    async with client.stream("GET", STREAM, headers=headers, params=asked) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith(accept)
        yield response.aiter_lines()


class Writers:
    """Store copies of a run, some at a time, and commit them in any order."""

    def __init__(self, url: str, run: dict[str, Any]) -> None:
        self._url, self._run = url, run["run_id"]
        self.stored: set[str] = set()

    async def _copy(self, connection: asyncpg.Connection, table: str, **given: str) -> None:
        columns = await connection.fetchval(
            "SELECT array_agg(attname::text) FROM pg_attribute WHERE attnum > 0"
            " AND NOT attisdropped AND attrelid = $1::text::regclass",
            table,
        )
        named = ", ".join(f'"{name}"' for name in columns)
        values = ", ".join(given.get(name, f'"{name}"') for name in columns)
        of = "id" if table == "runs" else "rank = 1 AND run_id"
        await connection.execute(
            f"INSERT INTO {table} ({named}) SELECT {values} FROM {table} WHERE {of} = '{self._run}'"
        )

    async def write(self, runs: int, rng: random.Random) -> None:
        connection = await asyncpg.connect(self._url)
        for _ in range(runs):
            run, own = uuid7(), uuid7()
            async with connection.transaction():
                # As a run is stored: its transaction has its number before its rows.
                await connection.execute("SELECT pg_current_xact_id()")
                await asyncio.sleep(rng.expovariate(1 / 0.02))
                await self._copy(
                    connection, "runs", id=f"'{run}'", committed_in="pg_current_xact_id()"
                )
                await self._copy(
                    connection, "detections", id=f"'{own}'", run_id=f"'{run}'", candidate_id="'x'"
                )
                await asyncio.sleep(rng.expovariate(1 / 0.02))
            self.stored.add(str(own))
        await connection.close()


async def test_nothing_is_missed_and_nothing_comes_twice(settings):
    """Eight writers, and streams that are cut after a tenth of a second each."""
    cut = settings.model_copy(update={"stream_seconds": 0.1})
    async with serve(cut) as client:
        run = (await infer(client, npy(exposure()))).json()
        writers = Writers(settings.database_url.get_secret_value(), run)
        seen: list[str] = []
        runs = 25

        async def follow() -> None:
            last = {"Last-Event-ID": run["detections"][-1]["id"]}
            while len(seen) < 8 * runs:
                async with lines_of(client, headers=last) as lines:
                    given = ""
                    async for line in lines:
                        if line.startswith("id: "):
                            given = line.removeprefix("id: ")
                        elif line.startswith("data: "):
                            seen.append(json.loads(line.removeprefix("data: "))["id"])
                            assert seen[-1] == given
                        elif not line:
                            last = {"Last-Event-ID": given}

        rng = random.Random(7)
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            tasks.create_task(follow())
            for _ in range(8):
                tasks.create_task(writers.write(runs, random.Random(rng.random())))
        assert len(seen) == 8 * runs
        assert set(seen) == writers.stored
        listed = {"sort": "committed", "limit": 1000, "after": run["detections"][-1]["id"]}
        page = (await client.get("/detections/", params=listed)).json()
        assert [one["id"] for one in page["detections"]] == seen


async def test_clients_follow_from_the_first_that_there_is(client):
    first = (await infer(client, npy(exposure()))).json()
    real = [one["id"] for one in first["detections"] if one["is_real"]]
    found: list[str] = []
    begun_with = len(real)
    async with asyncio.timeout(120), AsyncClient(str(client.base_url)) as own:
        async for one in own.follow(after=BEGINNING, is_real=True):
            found.append(str(one.id))
            if len(found) == begun_with:
                second = (await infer(client, npy(exposure()))).json()
                real += [one["id"] for one in second["detections"] if one["is_real"]]
            elif len(found) == len(real):
                break
    assert found == real

    def synchronous() -> list[UUID]:
        with Client(str(client.base_url)) as own:
            stream = own.follow(after=found[0], is_real=True)
            return [next(stream).id for _ in range(len(found) - 1)]

    assert [str(one) for one in await asyncio.to_thread(synchronous)] == found[1:]


async def test_lines_are_json_and_columns_can_be_chosen(client):
    run = (await infer(client, npy(exposure()))).json()
    asked = {"after": str(BEGINNING), "columns": "id,snr"}
    rows = []
    async with lines_of(client, "application/x-ndjson", **asked) as lines:
        async for line in lines:
            rows += [json.loads(line)] if line else []
            if len(rows) == len(run["detections"]):
                break
        assert await anext(lines) == ""  # a heartbeat
    assert rows == [{"id": one["id"], "snr": one["snr"]} for one in run["detections"]]


async def test_a_stream_says_that_there_is_nothing_new_and_where_it_is(client):
    async with lines_of(client) as lines:
        told = [await anext(lines) for _ in range(7)]
    begun = [":", f"id: {BEGINNING}"]
    assert [line.rstrip() for line in told[:2]] == begun
    assert told[2].startswith("retry: ")
    assert [line.rstrip() for line in told[3:]] == ["", *begun, ""]


@pytest.mark.parametrize(
    ("asked", "headers", "status", "field"),
    [
        ({"after": str(uuid7())}, {}, 422, "after"),
        ({}, {"Last-Event-ID": str(uuid7())}, 422, "Last-Event-ID"),
        ({}, {"Last-Event-ID": "7"}, 422, "Last-Event-ID"),
        ({"columns": "mass"}, {}, 422, "columns"),
        ({"sort": "snr"}, {}, 422, "sort"),
        ({"flag": "bright"}, {}, 422, "flag"),
        ({}, {"Accept": "text/csv"}, 406, None),
    ],
)
async def test_what_cannot_be_followed_is_refused(client, asked, headers, status, field):
    answer = await client.get(STREAM, params=asked, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json().get("field") == field
    head = await client.head(STREAM)
    assert (head.status_code, head.content) == (200, b"")
    assert "\nastrotriton_streams 0.0" in (await client.get("/metrics")).text


async def test_so_many_streams_and_no_more(settings):
    few = settings.model_copy(
        update={"auth": "required", "max_streams": 2, "max_caller_streams": 1}
    )
    async with serve(few) as client:
        me, you, they = [bearer(await key_with(few, "read")) for _ in range(3)]
        async with lines_of(client, headers=me) as mine:
            await anext(mine)
            again = await client.get(STREAM, headers=me)
            assert (again.status_code, "retry-after" in again.headers) == (429, True)
            async with lines_of(client, headers=you) as yours:
                await anext(yours)
                third = await client.get(STREAM, headers=they)
                assert (third.status_code, third.json()["title"]) == (503, "The service is full")
        # Who has left has left his place, too, once the gateway has seen it.
        async with asyncio.timeout(60):
            while "\nastrotriton_streams 0.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.02)


@pytest.mark.faults
async def test_a_gateway_that_leaves_ends_its_streams(settings, tmp_path):
    process = gateway_process(settings, tmp_path)
    try:
        url = f"http://127.0.0.1:{settings.port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
            await until_live(client, process)
            async with lines_of(client) as lines:
                await anext(lines)
                process.send_signal(signal.SIGTERM)
                # The answer is complete: what breaks off is an error of the client's.
                rest = [line async for line in lines]
            assert rest[-1] == ""
        assert process.wait(60) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
