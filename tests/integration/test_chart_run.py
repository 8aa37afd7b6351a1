"""The chart in Podman's pods: installed, asked, promoted, upgraded, rolled back, hurt, under load.

One test walks through all of it, since it is about one release that lives on; the table that it
prints has a line for each happening. `containers.kube` lists what is changed of the manifests.
"""

import asyncio
import base64
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import numpy as np
import pytest

from astrotriton.export import registry
from astrotriton.objects import Location, open_bucket
from astrotriton.stack.parts.s3 import make_bucket
from astrotriton.training.weights import load_card, load_network
from containers.build import STORAGE, build, build_base
from containers.engine import Engine, missing
from tests.integration.chart_servers import BUCKET
from tests.integration.container_parts import (
    ACCESS_KEY,
    SECRET_KEY,
    ContainerRelease,
    Pod,
    until_so,
    values_of,
)
from tests.integration.hosts import Lan
from tests.integration.load_parts import tiles_of
from tests.integration.scale_out_parts import Phase, answered_more, audited

pytestmark = [pytest.mark.containers, pytest.mark.timeout(7200)]

NAME = "unet_astronomical"
ENOUGH = 40
# Two cores serve, try and answer at once: how long that takes says nothing of a version.
PATIENT = [
    {"name": "ASTROTRITON_GATE_MAX_LATENCY_RATIO", "value": "20"},
    {"name": "ASTROTRITON_GATE_MAX_LATENCY_MS", "value": "60000"},
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if reason := missing() or Lan.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with Engine(STORAGE) as engine:
        build_base(engine)
        for target in ("gateway", "export", "triton-cpu"):
            build(engine, target)
        yield engine
        assert engine.podman("ps", "--all", "--quiet") == ""
        assert engine.podman("pod", "ps", "--quiet") == ""


@pytest.fixture
async def release(engine: Engine) -> AsyncIterator[ContainerRelease]:
    before = links()
    with Lan() as lan:
        release = ContainerRelease(engine, lan, lambda what: print(what, flush=True))
        try:
            await asyncio.to_thread(release.start_site)
            async with release.controlled():
                yield release
        finally:
            await asyncio.to_thread(release.close)
    assert links() == before
    assert engine.podman("volume", "ls", "--quiet") == ""
    assert str(STORAGE) not in Path("/proc/self/mountinfo").read_text()


def links() -> tuple[str, str]:
    """The machine's network devices, and its rules."""
    devices = json.loads(subprocess.check_output(["ip", "-json", "link"]))
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True).stdout
    kept = [line for line in rules.splitlines() if line.startswith("-A")]
    return str(sorted(one["ifname"] for one in devices)), str(kept)


async def test_a_release_lives_through_what_people_and_machines_do(release, capsys, monkeypatch):
    phases: list[Phase] = []

    def during(name: str) -> AbstractAsyncContextManager[Phase]:
        phases.append(phase := Phase(name))
        return audited(release, phase, release.database, release.nats, capsys)

    await site_is_there(release)
    first, second = await asyncio.to_thread(register, release, monkeypatch)
    promotion = {"model": first, "bootstrap": True, "extraEnv": PATIENT}
    await release.install(values_of(promote=promotion))
    await release.promote()
    await release.until_ready()
    for pod in (*release.gateways, *release.tritons):
        confined(pod)

    made = release.gateways[0].run(
        *("python", "-m", "astrotriton", "keys", "create", "site"),
        *(f"--scope={one}" for one in ("infer", "read", "admin")),
    )
    release.token = made.splitlines()[-1].strip()
    release.secret("astrotriton-check", {"token": release.token})
    release.secret("astrotriton-promote", {"api-key": release.token})
    answer = json.loads(await release.test())
    assert answer["model"]["version"] == 1
    assert any(one["outcome"] == "kept" for one in answer["detections"])
    with capsys.disabled():
        print(f"\n{Phase.head()}")

    async with during("nothing") as phase:
        before = [await tiles_of(one.address, NAME) for one in release.tritons]
        await answered_more(phase, ENOUGH)
        shares = [
            await tiles_of(one.address, NAME) - had
            for one, had in zip(release.tritons, before, strict=True)
        ]
    assert min(shares) >= ENOUGH // 4
    assert set(phase.tries) == {"200"}

    values = values_of()
    del values["promote"]
    before = {pod.name for pod in (*release.gateways, *release.tritons)}
    async with during("an upgrade of the chart") as phase:
        await release.install(
            values
            | {
                "gateway": values["gateway"]
                | {"settings": values["gateway"]["settings"] | {"max_runs": 2}},
                "triton": values["triton"] | {"extraArgs": ["--log-verbose=0"]},
            }
        )
        await answered_more(phase, ENOUGH)
    upgraded = {pod.name for pod in (*release.gateways, *release.tritons)}
    assert not before & upgraded
    assert set(phase.tries) == {"200"}

    async with during("a rollback of the chart") as phase:
        await release.install(values)
        await answered_more(phase, ENOUGH)
    assert not upgraded & {pod.name for pod in (*release.gateways, *release.tritons)}
    assert set(phase.tries) == {"200"}

    for what, victim in (("gateway", release.gateways[0]), ("Triton", release.tritons[0])):
        async with during(f"a {what} killed") as phase:
            await asyncio.to_thread(victim.kill)
            await until_so(lambda pod=victim: started_again(pod, 1))
            await release.until_ready()
            await answered_more(phase, ENOUGH)

    victim = release.gateways[1]
    async with during("a gateway out of memory") as phase:
        await asyncio.to_thread(exhaust, victim)
        await until_so(lambda: started_again(victim, 1))
        await release.until_ready()
        await answered_more(phase, ENOUGH)

    promotion |= {"model": second, "bootstrap": False, "existingSecret": "astrotriton-promote"}
    async with during("a canary by the Job") as phase:
        await release.install(values_of(promote=promotion | {"canary": 30}))
        await release.promote()
        at = len(phase.report.answers)
        await answered_more(phase, ENOUGH)
    assert set(phase.tries) == {"200"}
    assert {run.model.version for run in list(phase.report.answers.values())[at:]} == {1, 2}

    async with during("its promotion by the Job") as phase:
        await release.install(values_of(promote=promotion))
        await release.promote()
        at = len(phase.report.answers)
        await answered_more(phase, ENOUGH)
    assert set(phase.tries) == {"200"}
    assert {run.model.version for run in list(phase.report.answers.values())[at + 4 :]} == {2}

    with capsys.disabled():
        print(f"{sum(phase.sent for phase in phases)} exposures")
    assert [one for phase in phases for one in phase.lost] == []
    assert [one for phase in phases for one in phase.report.broken] == []
    for pod in (*release.gateways, *release.tritons):
        written(pod)


async def site_is_there(release: ContainerRelease) -> None:
    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                found = await client.get(f"{release.of_site('mlflow')}/health")
            await asyncio.to_thread(make_bucket, bucket(release))
        except (httpx.HTTPError, OSError):
            return False
        return found.is_success and "ready to accept connections" in release.site["postgres"].logs()

    await until_so(answers)


def bucket(release: ContainerRelease):
    return open_bucket(
        Location("s3", BUCKET, ""),
        timeout=5.0,
        endpoint=release.of_site("s3"),
        region="us-east-1",
        config={"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY},
    )


def register(release: ContainerRelease, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two versions of the reference network in MLflow, the second one a little other."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", release.of_site("mlflow"))
    network, card = load_network(), load_card()
    first = registry.register(network, card)
    network.set_weights([weights * np.float32(1.0001) for weights in network.get_weights()])
    second = registry.register(network, card)
    return f"models:/{NAME}/{first}", f"models:/{NAME}/{second}"


def confined(pod: Pod) -> None:
    """What the manifest says of a container's confinement is what the engine does."""
    found = pod.inspect()
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["Memory"] == 2 << 30
    assert "no-new-privileges" in host["SecurityOpt"]
    status = dict(
        line.split(":\t", 1)
        for line in pod.run("cat", "/proc/1/status").splitlines()
        if "\t" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[kind], 16) == 0
    assert status["Seccomp"].strip() == "2"


def written(pod: Pod) -> None:
    """Nothing is written outside of volumes: the root is as its image has it."""
    changed = pod.changes()
    assert [line for line in changed if not line.startswith(("C /", "A /"))] == []
    assert {line.split()[1].split("/")[1] for line in changed} <= {"etc", "run", "tmp", "dev"}


def exhaust(pod: Pod) -> None:
    """Let a container's memory run out, and its first process be who has to go."""
    Path(f"/proc/{pod.inspect()['State']['Pid']}/oom_score_adj").write_text("1000")
    program = "held = []\nwhile True: held.append(bytearray(64 << 20))"
    with_it = base64.b64encode(program.encode()).decode()
    # It ends with the container, or is killed itself.
    pod.run_anyway("python", "-c", f"import base64; exec(base64.b64decode('{with_it}'))")


async def started_again(pod: Pod, times: int) -> bool:
    found = await asyncio.to_thread(pod.inspect)
    return found["RestartCount"] >= times and found["State"]["Running"]
