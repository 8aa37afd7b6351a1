"""The whole stack, on real servers: it serves, keeps its data, and leaves nothing behind."""

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import nats
import numpy as np
import obstore
import onnx
import onnxruntime as ort
import psutil
import pytest
import tritonclient.grpc.aio as triton
from onnx import TensorProto, helper

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.stack import (
    Addresses,
    GoldenMismatchError,
    PartError,
    Stack,
    StackInUseError,
    check_golden,
    down,
    running,
    serve_command,
    up,
)
from astrotriton.stack.models import Models
from astrotriton.stack.parts.s3 import bucket_at
from astrotriton.stack.parts.triton import triton as describe_triton
from astrotriton.stack.process import alone
from astrotriton.stack.site import MARK, Site, State, owner_of, read_state, region_prefix
from tests.integration.stack_parts import ROOT, left_of, wait_for

NAME = "unet_astronomical"
TILE = 512
CONFIG = """
backend: "onnxruntime"
max_batch_size: 8
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching { }
"""


def publish_version(repository: Path, *, wrong_by: float = 0.0) -> Path:
    """A tiny network as a served version: the folder that export would make."""
    folder = repository / NAME / "1"
    folder.mkdir(parents=True)
    shape = ["N", 1, TILE, TILE]
    weights = np.random.default_rng(1).normal(size=(1, 1, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weights"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", ["a"], ["probability"]),
        ],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")

    image = np.random.default_rng(2).normal(size=(1, 1, TILE, TILE)).astype(np.float32)
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (probability,) = session.run(None, {"image": image})
    probability[0, 0, 5, 7] += wrong_by
    np.savez(folder / "golden.npz", image=image, probability=probability)

    card = UNetModel(
        name=NAME,
        version=1,
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        input=TensorSpec(name="image", shape=(-1, 1, TILE, TILE)),
        output=TensorSpec(name="probability", shape=(-1, 1, TILE, TILE)),
        digests={
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("model.onnx", "golden.npz")
        },
    )
    (folder / "card.json").write_bytes(card.to_json())
    (folder.parent / "config.pbtxt").write_text(CONFIG)
    return folder


def state_of(data: Path) -> State:
    state = read_state(data)
    assert state is not None
    return state


def process_of(data: Path, word: str) -> psutil.Process:
    """The process of a stack's that has this word in its command line; not its guard."""
    found = []
    for process in psutil.process_iter():
        # Others come and go while they are looked at.
        with contextlib.suppress(psutil.Error, OSError):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            command = process.cmdline()
            named = word in command or Path(*command[:1]).name == word
            if named and f"{MARK}={data}".encode() in environment.split(b"\0"):
                found.append(process)
    (part,) = found
    return part


def kill(data: Path, word: str) -> None:
    """Kill the process that `process_of` finds."""
    process_of(data, word).kill()


async def leave_marks(addresses: Addresses) -> None:
    """Write something to every store."""
    connection = await asyncpg.connect(addresses.database_url)
    await connection.execute("CREATE TABLE mark (word text)")
    await connection.execute("INSERT INTO mark VALUES ('kept')")
    await connection.close()
    obstore.put(bucket_at(addresses), "mark", b"kept" * 1_000_000)
    client = await nats.connect(addresses.nats_url)
    await client.jetstream().add_stream(name="marks", subjects=["mark"])
    await client.jetstream().publish("mark", b"kept")
    await client.close()
    async with httpx.AsyncClient(base_url=addresses.mlflow_url) as http:
        answer = await http.post("/api/2.0/mlflow/experiments/create", json={"name": "kept"})
        answer.raise_for_status()


async def find_marks(addresses: Addresses) -> None:
    """Find all of it again."""
    connection = await asyncpg.connect(addresses.database_url)
    assert await connection.fetchval("SELECT word FROM mark") == "kept"
    await connection.close()
    content = obstore.get(bucket_at(addresses), "mark").bytes()
    assert content == b"kept" * 1_000_000
    client = await nats.connect(addresses.nats_url)
    message = await client.jetstream().get_last_msg("marks", "mark")
    assert message.data == b"kept"
    await client.close()
    async with httpx.AsyncClient(base_url=addresses.mlflow_url) as http:
        answer = await http.get(
            "/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "kept"}
        )
        answer.raise_for_status()


@pytest.mark.faults
def test_it_serves_survives_kill_9_keeps_its_data_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, repository = tmp_path / "var", tmp_path / "repository"
    version = publish_version(repository)
    command = serve_command(data, repository)
    steps: list[tuple[str, str]] = []
    try:
        addresses = up(data, command, on_progress=lambda part, what: steps.append((part, what)))
        assert running(data) == addresses
        assert {part for part, what in steps if what.startswith("ready")} == {
            *("postgres", "s3", "nats", "mlflow", "triton", "gateway")
        }
        assert asyncio.run(check_golden(addresses.triton_grpc, version)) <= 1e-4
        ready = httpx.get(f"{addresses.gateway_url}/health/ready")
        assert ready.status_code == 200, ready.text
        asyncio.run(leave_marks(addresses))

        # Asked for again, the same one answers; and nobody else gets the folder.
        assert up(data, command, on_progress=lambda part, what: None) == addresses
        with pytest.raises(StackInUseError):
            Site(data)

        state = read_state(data)
        assert state is not None
        os.kill(state.owner, signal.SIGKILL)
        wait_for(lambda: owner_of(data) is None, "the owner's end")
        assert running(data) is None

        # At once, while the guards of the first are still stopping their parts.
        monkeypatch.setenv("ASTROTRITON_STACK_RESTARTS", "1")
        addresses = up(data, command, on_progress=lambda part, what: None)
        asyncio.run(find_marks(addresses))
        assert asyncio.run(check_golden(addresses.triton_grpc, version)) <= 1e-4

        # A part that dies is started again, but not for ever.
        kill(data, "nats-server")
        wait_for(lambda: state_of(data).restarts == {"nats": 1}, "the restart")
        wait_for(lambda: state_of(data).parts["nats"].startswith("ready"), "NATS")
        asyncio.run(find_marks(addresses))
        kill(data, "nats-server")
        wait_for(lambda: not state_of(data).ready, "the end of the stack")
        assert "nats dies too often" in state_of(data).failure
    finally:
        down(data)
    assert left_of(data) == []
    assert running(data) is None
    assert not down(data)


@pytest.mark.parametrize("with_guards", [False, True], ids=["owner", "owner and guards"])
@pytest.mark.faults
def test_kill_9_half_way_leaves_nothing(tmp_path: Path, with_guards: bool) -> None:
    data, repository = tmp_path / "var", tmp_path / "repository"
    publish_version(repository)
    owner = subprocess.Popen(
        serve_command(data, repository),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )

    def triton() -> str:
        state = read_state(data)
        return state.parts.get("triton", "") if state is not None else ""

    wait_for(lambda: triton().startswith("ready"), "Triton")
    children = psutil.Process(owner.pid).children
    # Triton is ready before MLflow has begun.
    wait_for(lambda: len(children()) == 5, "a guard for each part")
    guards = children()
    owner.kill()
    for guard in guards if with_guards else []:
        with contextlib.suppress(psutil.NoSuchProcess):
            guard.kill()
    owner.wait()
    if with_guards:
        # The parts went with their guards; what they had started is swept up by the next owner.
        Site(data).release()
    wait_for(lambda: not left_of(data), "the end of everything")


async def test_a_corrupt_cluster_is_postgres_failing(tmp_path: Path) -> None:
    cluster = tmp_path / "var" / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("of no use\n")

    async def start() -> None:
        async with Stack(tmp_path / "var", tmp_path / "repository") as stack:
            await stack.start_base()

    with pytest.raises(PartError, match=r"postgresql\.conf") as caught:
        await start()
    assert caught.value.part == "postgres"
    assert left_of(tmp_path / "var") == []


async def test_a_part_that_dies_ends_the_block(tmp_path: Path) -> None:
    def kill_triton(part: str, what: str) -> None:
        if part == "triton" and what.startswith("ready"):
            kill(tmp_path / "var", "tritonserver")

    async def start() -> None:
        async with Stack(
            tmp_path / "var", tmp_path / "repository", on_progress=kill_triton
        ) as stack:
            await stack.start_base()
            await asyncio.Event().wait()

    with pytest.raises(PartError, match="SIGKILL") as caught:
        await start()
    assert caught.value.part == "triton"
    assert left_of(tmp_path / "var") == []


@pytest.mark.faults
async def test_golden_check_reaches_every_instance(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    version = publish_version(repository)
    async with (
        alone(lambda site: describe_triton(site, repository), tmp_path / "var") as site,
        triton.InferenceServerClient(site.addresses.triton_grpc) as client,
    ):
        await client.load_model(NAME)
        assert await check_golden(site.addresses.triton_grpc, version) <= 1e-4
        statistics = (await client.get_inference_statistics(NAME)).model_stats[0]
        # Two instances were given five tiles each, in two runs: they could not be joined.
        assert [(b.batch_size, b.compute_infer.count) for b in statistics.batch_stats] == [(5, 2)]

        # A killed instance answers with an error, though server and model say they are ready.
        kill(site.data, f"{NAME}_0_1")
        with pytest.raises(GoldenMismatchError, match=NAME):
            await check_golden(site.addresses.triton_grpc, version)
    assert left_of(site.data) == []


@pytest.mark.faults
async def test_a_server_that_keeps_a_golden_tile_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, ready = tmp_path / "repository", asyncio.Event()
    publish_version(repository)
    ready.set()
    async with alone(lambda site: describe_triton(site, repository), tmp_path / "var") as site:
        models = Models(site.addresses.triton_grpc, repository, lambda what: None)
        assert await models.load(NAME) == (1,)
        server = process_of(site.data, "tritonserver")

        async def check(*asked: Any, **named: Any) -> float:
            server.suspend()
            return await check_golden(*asked, **named)

        monkeypatch.setattr("astrotriton.stack.golden._DEADLINE", 2.0)
        monkeypatch.setattr("astrotriton.stack.models.check_golden", check)
        reason = await models.look_after(ready, 0.1, 0.1)
        server.resume()
        assert "does not answer its golden tile: Deadline Exceeded" in reason
    assert left_of(site.data) == []


@pytest.mark.faults
async def test_a_wrong_answer_names_its_figures(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    version = publish_version(repository, wrong_by=0.25)
    stale = Path("/dev/shm", f"{region_prefix((tmp_path / 'var').resolve())}of_a_killed_server")
    stale.touch()
    async with (
        alone(lambda site: describe_triton(site, repository), tmp_path / "var") as site,
        triton.InferenceServerClient(site.addresses.triton_grpc) as client,
    ):
        assert not stale.exists()
        await client.load_model(NAME)
        with pytest.raises(GoldenMismatchError, match=r"by 0.25, .* row 5, column 7"):
            await check_golden(site.addresses.triton_grpc, version)


def test_an_owner_that_fails_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no')"]
    with pytest.raises(Exception, match=r"owner\.log"):
        up(tmp_path, command, on_progress=lambda part, what: None)
