"""The power goes under load: what was answered is there, and its event arrives."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from astrotriton.stack.parts.nats import nats
from astrotriton.stack.parts.s3 import bucket_at, s3
from benchmarks.power.disks import why_not
from benchmarks.power.load import objects_lost, objects_put
from benchmarks.power.servers import on_a_disk
from benchmarks.power.trial import nats_that_syncs_seldom, postgres_that_syncs_later, trial
from tests.integration.gateway_parts import TritonServer

pytestmark = pytest.mark.faults

_LOAD = 1.0  # seconds


@pytest.fixture(autouse=True)
def _power_can_be_cut() -> None:
    if (reason := why_not()) is not None:
        program = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin")
        if os.environ.get("CI") == "true" and program is None:
            pytest.fail(reason)
        # A kernel, or a container, may have no loop devices.
        pytest.skip(reason)


async def test_power_cuts_under_load(
    triton: TritonServer,
    model_repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """New settings lose nothing; old ones do, or this test would show nothing."""

    def tell(what: str, findings: object) -> None:
        with capsys.disabled():
            print(f"\n{what}: {findings}")

    async with trial(triton.address, model_repository, tmp_path) as one:
        for victim in (one.broker, one.database, one.broker, one.database):
            await one.cut(victim, seconds=_LOAD)
        findings = await one.audit()
        tell("NATS and PostgreSQL", findings)
        assert findings.runs > 0
        assert findings.events > 0
        assert findings.lost == 0, findings

        # A NATS of others, which acknowledges before it syncs.
        one.broker.describe = nats_that_syncs_seldom
        await one.broker.restart()
        await one.cut(one.broker, seconds=_LOAD)
        findings = await one.audit()
        tell("NATS that syncs seldom", findings)
        assert findings.published_again > 0
        assert findings.lost == 0, findings

        # The same, and an outbox that does not know what has to be published again.
        await one.forget_places()
        await one.cut(one.broker, seconds=_LOAD)
        findings = await one.audit()
        tell("the same without places", findings)
        assert findings.not_arrived

        one.broker.describe = nats
        one.database.describe = postgres_that_syncs_later
        await asyncio.gather(one.broker.restart(), one.database.restart())
        await one.cut(one.database, seconds=_LOAD)
        findings = await one.audit()
        tell("PostgreSQL that answers before it syncs", findings)
        assert findings.events_lost or findings.runs_lost


async def test_objects_outlive_a_power_cut(tmp_path: Path) -> None:
    answered: dict[str, bytes] = {}
    async with on_a_disk(s3, "s3", tmp_path, 2048) as server:
        for _ in range(2):
            bucket = bucket_at(server.addresses)
            async with objects_put(bucket, answered):
                while len(answered) < 5:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(_LOAD)
                await server.cut()
            assert answered
            assert await objects_lost(bucket, answered) == 0
