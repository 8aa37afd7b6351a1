"""Thousands of broken exposures: each is scored or refused with its reason, in bounded time."""

import asyncio
import json
import subprocess
import sys
from collections import Counter

import httpx
import pytest

from astrotriton.stack import Addresses
from tests.integration.mutants import first_seed, mutant
from tests.integration.stack_parts import ROOT

pytestmark = pytest.mark.hostile

FILES = 3200
SENT = 160


def test_every_mutant_is_scored_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """In processes of their own, which bound memory and time, and may die."""
    begin = first_seed()
    middle, end = begin + FILES // 2, begin + FILES
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.integration.mutants", str(first), str(last)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first, last in ((begin, middle), (middle, end))
    ]
    outcomes: Counter[str] = Counter()
    faults = []
    for worker in workers:
        printed, errors = worker.communicate()
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        faults += [line for line in lines if "error" in line]
        assert worker.returncode == 0, f"{lines[-1]}: {errors[-2000:]}"
        outcomes.update(lines[-1]["outcomes"])
    with capsys.disabled():
        print(f"\n{FILES} mutants {told(begin)}: {dict(outcomes)}, {len(faults)} faults")
    assert outcomes["scored"] > FILES // 10
    assert not faults, "\n".join(f"seed {f['seed']}: {f['traceback']}" for f in faults[:5])


def test_mutants_over_http(served: Addresses, capsys: pytest.CaptureFixture[str]) -> None:
    # Seeds that the other test does not try.
    begin = first_seed() + FILES
    outcomes: Counter[str] = Counter()
    broken = []

    async def send(client: httpx.AsyncClient, seeds: range) -> None:
        for seed in seeds:
            response = await client.post("/detections/infer", files={"exposure": mutant(seed)})
            kind = "scored" if response.is_success else response.json()["type"].split(":")[-1]
            outcomes[f"{response.status_code} {kind}"] += 1
            if response.status_code >= 500:
                broken.append(f"seed {seed}: {response.status_code} {response.text}")

    async def run() -> None:
        async with httpx.AsyncClient(base_url=served.gateway_url, timeout=60.0) as client:
            middle, end = begin + SENT // 2, begin + SENT
            await asyncio.gather(
                send(client, range(begin, middle)), send(client, range(middle, end))
            )

    asyncio.run(run())
    with capsys.disabled():
        print(f"\n{SENT} mutants over HTTP {told(begin)}: {dict(outcomes)}")
    assert not broken, "\n".join(broken)


def told(begin: int) -> str:
    """How to have the same mutants again."""
    return f"from seed {begin} on (ASTROTRITON_TEST_SEED={first_seed()} repeats them)"
