"""Thousands of broken exposures: each is scored or refused with its reason, in bounded time."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from astrotriton.gateway.settings import GatewaySettings
from astrotriton.stack import Addresses
from tests.integration.gateway_parts import infer, serve
from tests.integration.mutants import first_seed, seeds, unsafe
from tests.integration.sent_mutants import send_mutants
from tests.integration.stack_parts import ROOT

pytestmark = pytest.mark.hostile

FILES = 1600
SENT = 160
REFUSED = 40
HONEST = 200


def test_every_mutant_is_scored_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """By readers, which bound memory and time, and may die: whoever asks them does not."""
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


def test_headers_that_wcslib_refuses_read_twenty_times_under_a_checking_allocator(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # It ends a process that has broken its heap as soon as it notices, so no answer is of one.
    checking = Path("/lib/x86_64-linux-gnu/libc_malloc_debug.so.0")
    environment = dict(os.environ)
    if checking.exists():
        environment |= {"LD_PRELOAD": str(checking), "GLIBC_TUNABLES": "glibc.malloc.check=3"}
    begin = first_seed() + FILES + SENT
    which = [str(begin), str(begin + REFUSED), "--refused-cards", "--times=20"]
    worker = subprocess.run(
        [sys.executable, "-m", "tests.integration.mutants", *which],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in worker.stdout.splitlines() if line.startswith("{")]
    assert worker.returncode == 0, f"{lines[-1:]}: {worker.stderr[-2000:]}"
    faults = [line for line in lines if "error" in line]
    assert not faults, "\n".join(f"seed {f['seed']}: {f['traceback']}" for f in faults[:5])
    with capsys.disabled():
        print(f"\n{REFUSED} headers {told(begin)}: {lines[-1]['outcomes']}")


async def test_a_file_that_crashes_wcslib_is_refused_and_nobody_else_notices(
    settings: GatewaySettings,
) -> None:
    settings = settings.model_copy(update={"max_waiting": HONEST + 2, "rate_per_minute": 10_000})
    good, bad = seeds()[0], unsafe()
    wrong = []

    async def attack(client: httpx.AsyncClient, until: asyncio.Event) -> int:
        sent = 0
        while not until.is_set():
            answer = await infer(client, bad)
            sent += 1
            problem = answer.json()
            if answer.status_code != 422 or not problem["type"].endswith(":unsafe-file"):
                wrong.append(f"{answer.status_code} {problem}")
            elif hashlib.sha256(bad).hexdigest() not in problem["detail"]:
                wrong.append(problem["detail"])
        return sent

    async with (
        serve(settings) as served,
        httpx.AsyncClient(
            base_url=served.base_url,
            timeout=None,
            trust_env=False,
            limits=httpx.Limits(max_connections=None),
        ) as client,
    ):
        # The loops are compiled now, and not while everybody waits.
        assert (await infer(client, good)).status_code == 200
        done = asyncio.Event()
        attacks = [asyncio.create_task(attack(client, done)) for _ in range(2)]
        answers = await asyncio.gather(*(infer(client, good) for _ in range(HONEST)))
        done.set()
        assert sum(await asyncio.gather(*attacks)) >= 2
        metrics = (await client.get("/metrics")).text
    assert Counter(answer.status_code for answer in answers) == {200: HONEST}
    assert not wrong, wrong[:3]
    assert 'astrotriton_reader_ends_total{reason="was ended by SIG' in metrics
    assert 'astrotriton_memory_bytes{process="readers"}' in metrics


def test_mutants_over_http(served: Addresses, capsys: pytest.CaptureFixture[str]) -> None:
    # Seeds that the other test does not try.
    begin = first_seed() + FILES
    sent = asyncio.run(send_mutants(served.gateway_url, range(begin, begin + SENT)))
    with capsys.disabled():
        print(f"\n{SENT} mutants over HTTP {told(begin)}: {dict(sent.outcomes)}")
    assert not sent.broken, "\n".join(sent.broken)
    assert not sent.gateway_lost


def told(begin: int) -> str:
    """How to have the same mutants again."""
    return f"from seed {begin} on (ASTROTRITON_TEST_SEED={first_seed()} repeats them)"
