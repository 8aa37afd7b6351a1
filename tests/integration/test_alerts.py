"""Alert packets through the command and a real gateway."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from astrotriton.gateway.settings import GatewaySettings
from tests.alert_packets import ZTF, read, write, ztf
from tests.documents import blocks
from tests.integration.gateway_parts import ROOT, serve

pytestmark = pytest.mark.alerts

COUNT = 120


def command(settings: GatewaySettings, *arguments: object) -> list[str]:
    url = f"http://127.0.0.1:{settings.port}"
    return [sys.executable, "-m", "astrotriton", "alerts", "--url", url, *map(str, arguments)]


def call(settings: GatewaySettings, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(settings, *arguments), capture_output=True, text=True, cwd=ROOT, check=False
    )


async def test_killed_half_way_and_started_again(settings: GatewaySettings, tmp_path: Path) -> None:
    sent = [ztf(number) for number in range(COUNT)]
    files = [
        write(tmp_path / f"{first}.avro", ZTF, sent[first : first + 40])
        for first in range(0, COUNT, 40)
    ]
    out = tmp_path / "scored.avro"
    async with serve(settings):
        killed = await asyncio.create_subprocess_exec(
            *command(settings, *files, "--out", out, "--batch", 20),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        assert killed.stderr is not None
        while b"40 packets" not in (line := await killed.stderr.readline()):
            assert line, "it ended before it had scored 40 packets"
        killed.kill()
        await killed.wait()
        again = await asyncio.to_thread(call, settings, *files, "--out", out, "--batch", 20)
    assert again.returncode == 0, again.stderr
    found = list(read(out))
    assert [packet["candid"] for packet in found] == [packet["candid"] for packet in sent]
    for number, (before, after) in enumerate(zip(sent, found, strict=True)):
        score = after.pop("astrotriton")
        assert after == {**before, "candidate": after["candidate"]}
        if number % 10 == 9:
            assert score["problem"] == "has no cutoutDifference"
        else:
            assert score["problem"] is None
            assert score["is_real"] == (number % 2 == 1)
            assert score["run_id"]
    # As the documents filter them.
    (block,) = (one for one in blocks(ROOT / "docs/alerts.md") if "def worth" in one.text)
    names: dict[str, Any] = {}
    exec(block.text, names)
    kept = [packet["candid"] for packet in read(out) if names["worth_a_spectrum"](packet)]
    assert set(kept) <= {packet["candid"] for packet in sent[1::2]}
