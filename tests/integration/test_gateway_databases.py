"""What is stored and found again, on other servers than the stack's: older ones, and PgBouncer."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from astrotriton.gateway.settings import GatewaySettings
from tests.integration.conftest import new_database
from tests.integration.gateway_parts import (
    NAME,
    ROOT,
    PgBouncer,
    PostgresServer,
    exposure,
    free_port,
    gateway_process,
    infer,
    installed,
    npy,
    serve,
    until_live,
)
from tests.integration.test_gateway import (
    test_detections_of_an_older_schema_are_found_in_the_sky,
    test_migrating_twice_at_once_is_safe,
    test_rows_are_what_was_answered,
    test_two_gateways_share_the_outbox_and_each_event_is_sent_once,
    until_published,
)
from tests.integration.test_gateway_access import (
    test_keys_are_made_listed_and_revoked_by_the_command,
)
from tests.integration.test_gateway_lookup import (
    test_a_cone_finds_what_lies_in_it_and_nothing_else,
    test_a_key_gets_the_first_answer_again,
    test_a_run_in_the_background_ends_as_one_that_is_waited_for,
    test_detections_are_found_by_what_they_are,
    test_labels_are_set_withdrawn_and_kept_for_good,
    test_pages_hold_every_detection_once,
    until_ended,
)

pytestmark = pytest.mark.databases

DEBIAN = Path("/usr/lib/postgresql")
# The oldest that is supported, and those that happen to be here.
VERSIONS = sorted({"15", *(folder.name for folder in DEBIAN.glob("[0-9]*"))})

# The tests of persistence, which use this module's `postgres`.
__all__ = [
    "test_a_cone_finds_what_lies_in_it_and_nothing_else",
    "test_a_key_gets_the_first_answer_again",
    "test_a_run_in_the_background_ends_as_one_that_is_waited_for",
    "test_detections_are_found_by_what_they_are",
    "test_detections_of_an_older_schema_are_found_in_the_sky",
    "test_keys_are_made_listed_and_revoked_by_the_command",
    "test_labels_are_set_withdrawn_and_kept_for_good",
    "test_migrating_twice_at_once_is_safe",
    "test_pages_hold_every_detection_once",
    "test_rows_are_what_was_answered",
    "test_two_gateways_share_the_outbox_and_each_event_is_sent_once",
]


@pytest.fixture(scope="module", params=VERSIONS)
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of another version in the place of the stack's."""
    programs = installed(DEBIAN / request.param / "bin", f"postgresql-{request.param}")
    with (
        tempfile.TemporaryDirectory() as folder,
        PostgresServer(programs, Path(folder)) as server,
    ):
        yield server.url


@pytest.fixture
def pgbouncer(postgres: str) -> Iterator[PgBouncer]:
    program = installed(Path("/usr/sbin/pgbouncer"), "pgbouncer")
    with (
        tempfile.TemporaryDirectory() as folder,
        PgBouncer(program, postgres, Path(folder)) as server,
    ):
        yield server


async def migrate(database: str) -> int:
    """Migrate by the command, in a process of its own, as replicas do when they start."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "astrotriton.gateway", "migrate"),
        cwd=ROOT,
        env=os.environ | {"ASTROTRITON_DATABASE_URL": database},
        stdout=subprocess.DEVNULL,
    )
    return await process.wait()


async def use(first: httpx.AsyncClient, second: httpx.AsyncClient) -> None:
    """All that two gateways store and look up, with a change of the route amid it."""
    both, files = (first, second), {"exposure": ("night.npy", npy(exposure()))}

    async def score() -> None:
        answers = await asyncio.gather(*(infer(c, npy(exposure()), {}) for c in both))
        assert [answer.status_code for answer in answers] == [200, 200]
        for client, run in zip(reversed(both), (a.json() for a in answers), strict=True):
            found = await client.get("/detections/", params={"run_id": run["run_id"]})
            assert len(found.json()["detections"]) == len(run["detections"])
            path = f"/detections/{run['detections'][0]['id']}"
            labelled = await client.patch(path, json={"label": "real"})
            assert labelled.json()["label"] == "real"
            assert (await client.get(f"{path}/cutout.png")).status_code == 200

    async def change_route() -> None:
        for client in both * 3:
            changed = await client.put(f"/models/{NAME}/route", json={"champion": 3})
            assert changed.status_code == 200, changed.text

    async def score_once() -> None:
        key = {"Idempotency-Key": "once"}
        answers = await asyncio.gather(
            *(c.post("/detections/infer", files=files, headers=key) for c in both)
        )
        assert answers[0].json() == answers[1].json(), answers

    async def score_in_the_background() -> None:
        for client in both:
            accepted = await client.post(
                "/detections/infer", files=files, headers={"Prefer": "respond-async"}
            )
            run = await until_ended(client, accepted.headers["location"])
            assert run["status"] == "complete"

    await asyncio.gather(
        score(), score(), score(), change_route(), score_once(), score_in_the_background()
    )


async def test_two_gateways_share_few_connections_of_pgbouncer(
    postgres, pgbouncer, settings, tmp_path
):
    async with new_database(postgres) as database:
        through = pgbouncer.url_of(database)
        # What one process leaves behind on a connection, another one finds there.
        assert await asyncio.gather(migrate(through), migrate(through)) == [0, 0]

        given = settings.model_dump() | {"database_url": through, "statement_cache_size": 0}
        one = GatewaySettings(**given)
        other = one.model_copy(update={"port": free_port()})
        process = gateway_process(other, tmp_path, ASTROTRITON_STATEMENT_CACHE_SIZE="0")
        try:
            async with (
                serve(one) as first,
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{other.port}", timeout=60, trust_env=False
                ) as second,
            ):
                await until_live(second, process)
                await use(first, second)
                await until_published(database)
        finally:
            process.kill()
            process.wait()
        connection = await asyncpg.connect(database)
        runs = await connection.fetch("SELECT id, detections FROM runs")
        held = await connection.fetch("SELECT run_id, count(*) FROM detections GROUP BY run_id")
        await connection.close()
    # Six, one for the key that was sent to both, and two in the background.
    assert len(runs) == 9
    assert {r["id"]: r["detections"] for r in runs} == {r["run_id"]: r["count"] for r in held}
