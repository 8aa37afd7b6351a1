"""A night of exposures by the command line, through a real gateway."""

import asyncio
import csv
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx
import msgspec
import numpy as np
import pytest
from astropy.table import Table

from astrotriton.client import AsyncClient, LedgerEntry, Night, NightError, score_night
from astrotriton.client.ledger import LEDGER
from astrotriton.client.night import arrivals
from astrotriton.gateway.settings import GatewaySettings
from tests.integration.gateway_parts import ROOT, exposure, npy, serve

COUNT = 8


@pytest.fixture
def night(tmp_path: Path) -> Path:
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"{number:03}.npy").write_bytes(npy(exposure() + np.float32(number)))
    return folder


def command(settings: GatewaySettings, *arguments: object) -> list[str]:
    url = f"http://127.0.0.1:{settings.port}"
    return [sys.executable, "-m", "astrotriton", "score", "--url", url, *map(str, arguments)]


async def run(settings: GatewaySettings, *arguments: object) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        command(settings, *arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def ledger(out: Path) -> list[LedgerEntry]:
    lines = (out / LEDGER).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=LedgerEntry) for line in lines]


async def runs(settings: GatewaySettings) -> int:
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        return await connection.fetchval("SELECT count(*) FROM runs")
    finally:
        await connection.close()


async def looks(client: httpx.AsyncClient) -> float:
    """How often somebody has asked how far a run is."""
    metrics = (await client.get("/metrics")).text
    found = re.findall(r'_seconds_count\{method="GET",path="/runs/\{.*?\} (\S+)\n', metrics)
    return sum(map(float, found))


async def test_what_failed_is_told_and_tried_again(
    settings: GatewaySettings, night: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (night / "broken.fits").write_bytes(b"SIMPLE  = this is none")
    async with serve(settings):
        first = await run(settings, night, "--out", out, "--format", "csv")
        assert first.returncode == 1, first.stderr
        # One table of all that was done.
        assert f"all detections: {out / 'night.csv'}" in first.stdout
        with (out / "night.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == sum(entry.detections for entry in ledger(out))
        assert [row["exposure"] for row in rows] == sorted(row["exposure"] for row in rows)
        assert {row["run_id"] for row in rows} == {str(e.run_id) for e in ledger(out) if e.run_id}
        assert f"{COUNT} scored" in first.stdout
        assert "1 failed" in first.stdout
        assert "broken.fits: failed: exposure: " in first.stderr
        assert "the same command again tries those that failed" in first.stderr
        answers = {path.name for path in out.glob("*.json")}
        assert answers == {f"{number:03}.npy.json" for number in range(COUNT)}
        assert {entry.status for entry in ledger(out)} == {"done", "failed"}
        assert all(entry.real > 0 for entry in ledger(out) if entry.status == "done")

        (night / "broken.fits").unlink()
        (night / "more.npy").write_bytes(npy(exposure() * np.float32(2)))
        second = await run(settings, night, "--out", out, "--format", "fits")
        assert second.returncode == 0, second.stderr
        assert len(set(Table.read(out / "night.fits")["exposure"])) == COUNT + 1
        assert "1 scored in" in second.stdout
        assert f"{COUNT} were done before" in second.stdout
        assert await runs(settings) == COUNT + 1


async def test_killed_half_way_none_is_scored_twice_and_none_is_missing(
    settings: GatewaySettings, night: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    async with serve(settings):
        process = subprocess.Popen(
            command(settings, night, "--out", out, "--jobs", 2), cwd=ROOT, stderr=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(60):
                while not (out / LEDGER).exists() or len(ledger(out)) < 2:
                    assert process.poll() is None
                    await asyncio.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        # Its last line was being written.
        with (out / LEDGER).open("ab") as file:
            file.write(b'{"exposure": "00')
        done = await run(settings, night, "--out", out)
        assert done.returncode == 0, done.stderr
        assert await runs(settings) == COUNT
    ended = [entry for entry in ledger(out) if entry.status == "done"]
    assert len(ended) == COUNT
    assert len({entry.run_id for entry in ended}) == COUNT


async def test_ctrl_c_names_the_runs_that_go_on(
    settings: GatewaySettings, night: Path, tmp_path: Path
) -> None:
    """Every exposure is a large one here, and none is ever answered by the network."""
    out = tmp_path / "out"
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        large = {"async_bytes": 1, "triton_grpc": f"127.0.0.1:{deaf.getsockname()[1]}"}
        async with serve(settings.model_copy(update={**large, "shutdown_timeout": 1})) as client:
            process = await asyncio.create_subprocess_exec(
                *command(settings, night, "--out", out, "--jobs", 2),
                cwd=ROOT,
                stderr=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(120):
                while len(listed := (await client.get("/runs/")).json()["runs"]) < 2:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
                # It has been told of them, too, and asks again and again how far they are.
                before = await looks(client)
                while await looks(client) < before + 6:
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, told = await process.communicate()
            assert process.returncode == 130
            _, _, named = told.decode().partition("these runs go on in the gateway")
            for run in listed:
                assert f"{run['run_id']}  {night}" in named
                await client.post(f"/runs/{run['run_id']}/cancel")


async def test_exposures_are_scored_as_they_arrive(
    settings: GatewaySettings, night: Path, tmp_path: Path
) -> None:
    became, stop = Night(), asyncio.Event()
    late = night / "late.npy"

    def ended(entry: LedgerEntry) -> None:
        if len(became.done) == COUNT:
            late.write_bytes(npy(exposure() * np.float32(3)))
        if entry.exposure == str(late):
            stop.set()

    async with serve(settings), AsyncClient(f"http://127.0.0.1:{settings.port}") as client:
        source = arrivals(night, 0.1, stop)
        async with asyncio.timeout(120):
            await score_night(client, source, tmp_path / "out", on_end=ended, night=became)
    assert len(became.done) == COUNT + 1
    assert not became.failed
    assert not became.under_way


async def test_a_plane_of_each_exposure(
    settings: GatewaySettings, night: Path, tmp_path: Path
) -> None:
    for path in night.glob("*.npy"):
        (night / f"{path.stem}.mask").write_bytes(npy(np.ones((256, 240), np.uint8)))
    url = f"http://127.0.0.1:{settings.port}"
    [*names] = map(str, sorted(night.glob("*.npy")))
    async with serve(settings), AsyncClient(url) as client:
        planes = {"mask": "{folder}/{stem}.mask"}
        became = await score_night(client, names, tmp_path / "out", planes=planes)
        # Each was sent with its plane, which excludes every pixel.
        assert len(became.failed) == COUNT
        assert all("no-usable-pixels" in entry.reason for entry in became.failed)
        with pytest.raises(NightError, match="stern"):
            await score_night(client, names, tmp_path / "out", planes={"mask": "{stern}.mask"})
