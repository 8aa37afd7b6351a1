"""The main job on the real thing: `astrotriton demo`, and what its servers say of themselves."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from PIL import Image

from astrotriton.stack import Addresses
from astrotriton.stack.site import read_state
from tests.integration.stack_parts import ROOT, left_of, wait_for

NAME = "unet_astronomical"
README = ROOT / "README.md"
DECAM = ROOT.parent / "shared/data/difference/decam_difference.fits"
DIPOLES = [(60.0, 181.0), (3.5, 125.0), (100.0, 72.0), (103.0, 233.0)]

pytestmark = pytest.mark.demo


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "astrotriton", *map(str, arguments)]


def environment(data: Path) -> dict[str, str]:
    return {**os.environ, "ASTROTRITON_DATA": str(data), "PYTHONPATH": str(ROOT)}


def run_demo(data: Path, *arguments: object) -> str:
    done = subprocess.run(
        command("demo", *arguments), env=environment(data), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.mark.parametrize("victim", ["demo", "parent"])
def test_kill_9_half_way_leaves_nothing_running(
    served_data: Path, tmp_path: Path, victim: str
) -> None:
    """The parent may be the `make` that somebody kills."""
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"),
            *command("demo", "--out", tmp_path),
        ],
        env=environment(served_data),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def state():
        return read_state(served_data)

    try:
        wait_for(lambda: state() and "mlflow" in state().parts, "the demo's start")
        os.kill(state().owner if victim == "demo" else parent.pid, signal.SIGKILL)
        parent.wait()
        wait_for(lambda: not left_of(served_data), "the end of everything")
    finally:
        parent.kill()
        (served_data / "stack.json").unlink(missing_ok=True)


def test_the_whole_way_from_nothing(served_data: Path, tmp_path: Path) -> None:
    printed = run_demo(served_data, "--out", tmp_path)
    answer = json.loads((tmp_path / "detections.json").read_text())
    detections = answer["detections"]
    assert detections
    rows = re.search(r"database +(\d+) rows", printed)
    assert rows
    assert int(rows[1]) == len(detections)
    assert "detection.scored" in printed
    assert "marked as published" in printed
    for name in ("rank", "RA", "Dec", "probability", "confidence", "truth"):
        assert name in printed
    assert printed.count("transient, SNR") >= 5
    with Image.open(tmp_path / "detections.png") as picture:
        picture.verify()
    assert left_of(served_data) == []


@pytest.mark.skipif(not DECAM.exists(), reason="the DECam sample lies beside a checkout, not in it")
def test_a_real_transient_ranks_above_the_dipoles(
    served: Addresses, served_data: Path, tmp_path: Path
) -> None:
    run_demo(served_data, "--image", DECAM, "--out", tmp_path)
    detections = json.loads((tmp_path / "detections.json").read_text())["detections"]
    top = detections[0]
    assert top["rank"] == 1
    assert np.hypot(top["x"] - 128.9, top["y"] - 127.7) < 2.0
    away = np.hypot((top["ra"] - 318.10823) * np.cos(np.radians(top["dec"])), top["dec"] + 66.01572)
    assert away * 3600.0 < 0.5
    for x, y in DIPOLES:
        for detection in detections:
            if np.hypot(detection["x"] - x, detection["y"] - y) < 8.0:
                assert detection["rank"] > 1
                if detection["confidence"] is not None:
                    assert detection["confidence"] < top["confidence"]


def test_triton_answers_for_the_model_and_batches(served: Addresses) -> None:
    config = httpx.get(f"http://{served.triton_http}/v2/models/{NAME}/config").json()
    assert config["name"] == NAME
    assert config["backend"] == "onnxruntime"

    async def load() -> None:
        tile = np.zeros((1, *config["input"][0]["dims"]), np.float32)
        async with triton.InferenceServerClient(served.triton_grpc) as client:
            tensor = triton.InferInput("image", tile.shape, "FP32")
            tensor.set_data_from_numpy(tile)
            await asyncio.gather(*(client.infer(NAME, [tensor]) for _ in range(16)))

    asyncio.run(load())
    statistics = httpx.get(f"http://{served.triton_http}/v2/models/{NAME}/stats").json()
    sizes = {batch["batch_size"] for batch in statistics["model_stats"][0]["batch_stats"]}
    # The start-up check sends larger ones by itself: these were joined by Triton.
    assert sizes & {2, 3, 4, 5, 6, 7, 8}


def test_what_a_new_stack_serves_is_the_champion(served: Addresses, served_data: Path) -> None:
    done = subprocess.run(
        command("models", "--json"), env=environment(served_data), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    [version] = seen["versions"]
    assert version["aliases"] == ["champion"]
    assert seen["champions"]["versions"] == [version["version"]]
    assert (seen["mismatches"], seen["faults"]) == ([], [])


def test_the_readme_s_client_gets_what_keras_answered(
    served: Addresses, served_data: Path, tmp_path: Path
) -> None:
    """The README's script, as it stands there."""
    scripts = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (script,) = (one for one in scripts if "tritonclient" in one)
    path = tmp_path / "client.py"
    path.write_text(script)
    (version,) = (served_data / "model_repository" / NAME).glob("[0-9]*")
    printed = subprocess.run(
        [sys.executable, path, served.triton_grpc, version],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (difference,) = re.findall(r"difference from Keras (\S+)", printed)
    assert float(difference) < 1e-4


def test_the_command_line_scores_through_the_running_stack(
    served: Addresses, served_data: Path, tmp_path: Path
) -> None:
    exposure, candidates = tmp_path / "exposure.npy", tmp_path / "candidates.csv"
    np.save(exposure, np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32))
    candidates.write_text("id,x,y\nfirst,20.5,30\nsecond,40,12.25\n")

    def score(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command("score", exposure, *arguments),
            env=environment(served_data),
            capture_output=True,
            text=True,
        )

    done = score("--candidates", candidates, "--format", "json")
    assert done.returncode == 0, done.stderr
    ids = {d["candidate_id"] for d in json.loads(done.stdout)["detections"]}
    assert {"first", "second"} <= ids
    assert "by unet_astronomical version" in score("--candidates", candidates).stdout

    exposure.write_bytes(b"no image")
    done = score()
    assert done.returncode == 1
    assert "not-fits" in done.stderr
