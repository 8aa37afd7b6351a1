"""The Python-based `onnxruntime` backend in a real Triton, against ONNX Runtime itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as client
from onnx import TensorProto, helper
from tritonclient.grpc.service_pb2 import ModelStatistics
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from astrotriton.stack.parts.triton import triton
from astrotriton.stack.process import alone

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHAPE = (1, 64, 64)

BATCHED = """
backend: "onnxruntime"
max_batch_size: 8
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching { max_queue_delay_microseconds: 50000 }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""

PYTORCH = 'parameters { key: "engine" value { string_value: "pytorch" } }'

COMPLETE = (
    BATCHED
    + """
input [ { name: "image" data_type: TYPE_FP32 dims: [ 1, 64, 64 ] } ]
output [ { name: "probability" data_type: TYPE_FP32 dims: [ 1, 64, 64 ] } ]
"""
)


def write_model(path: Path, batch: int | str = "N", *, size: int | str = 64) -> None:
    """A convolution, a ReLU, a convolution and a sigmoid; a second output has another type."""
    rng = np.random.default_rng(7)
    first = rng.normal(size=(8, 1, 3, 3)).astype(np.float32)
    second = rng.normal(size=(1, 8, 3, 3)).astype(np.float32)
    shape = [batch, 1, size, size]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "first"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", ["c"], ["probability"]),
            helper.make_node("Cast", ["c"], ["logit"], to=TensorProto.DOUBLE),
        ],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("logit", TensorProto.DOUBLE, shape),
        ],
        [
            onnx.numpy_helper.from_array(first, "first"),
            onnx.numpy_helper.from_array(second, "second"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with models good and bad."""
    root = tmp_path_factory.mktemp("repository")
    for name, config, options in (
        ("complete", COMPLETE, {}),
        ("filled", BATCHED, {}),
        ("bare", 'backend: "onnxruntime"\ninstance_group [ { kind: KIND_CPU count: 1 } ]', {}),
        ("unbatched", 'backend: "onnxruntime"', {"batch": 2}),
        ("fixed", BATCHED, {"batch": 2}),
        ("open_size", COMPLETE, {"size": "S"}),
        ("misnamed", COMPLETE.replace('"image"', '"picture"'), {}),
        ("misshapen", COMPLETE.replace("1, 64, 64", "1, 32, 32"), {}),
        ("on_gpu", BATCHED.replace("KIND_CPU", "KIND_GPU"), {}),
        ("in_pytorch", BATCHED + PYTORCH, {}),
        ("misconfigured", BATCHED.replace('string_value: "1"', 'string_value: "many"'), {}),
    ):
        write_model(root / name / "1" / "model.onnx", **options)
        (root / name / "config.pbtxt").write_text(config)
    (root / "empty" / "1").mkdir(parents=True)
    (root / "empty" / "config.pbtxt").write_text(BATCHED)
    (root / "corrupt" / "1").mkdir(parents=True)
    (root / "corrupt" / "1" / "model.onnx").write_bytes(b"not a model")
    (root / "corrupt" / "config.pbtxt").write_text(BATCHED)
    return root


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "logs" / "triton.log"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(repository: Path, log: Path) -> AsyncIterator[client.InferenceServerClient]:
    """A Triton of its own on that repository."""
    async with (
        alone(lambda site: triton(site, repository), log.parents[1]) as site,
        client.InferenceServerClient(site.addresses.triton_grpc) as connection,
    ):
        yield connection


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def expected(repository: Path, name: str, tiles: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    path = repository / name / "1" / "model.onnx"
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["probability", "logit"], {"image": tiles})


async def ask(
    server: client.InferenceServerClient,
    name: str,
    tiles: np.ndarray,
    outputs: tuple[str, ...] = ("probability",),
) -> list[np.ndarray]:
    tensor = client.InferInput("image", tiles.shape, np_to_triton_dtype(tiles.dtype))
    tensor.set_data_from_numpy(tiles)
    wanted = [client.InferRequestedOutput(output) for output in outputs]
    answer = await server.infer(name, [tensor], outputs=wanted, client_timeout=60)
    return [answer.as_numpy(output) for output in outputs]


async def counted(server: client.InferenceServerClient, name: str, images: int) -> ModelStatistics:
    """The model's statistics once they hold so many images: Triton counts after it has answered."""
    async with asyncio.timeout(30):
        while True:
            statistics = (await server.get_inference_statistics(name)).model_stats[0]
            if statistics.inference_count >= images:
                assert statistics.inference_count == images
                return statistics
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("count", [1, 3, 8])
async def test_answers_bit_for_bit(
    server: client.InferenceServerClient, repository: Path, log: Path, count: int
) -> None:
    await server.load_model("complete")
    tiles = images(count)
    (answer,) = await ask(server, "complete", tiles)
    assert answer.tobytes() == expected(repository, "complete", tiles)[0].tobytes()
    assert "Traceback" not in log.read_text()


async def test_requests_are_batched_and_each_gets_its_own_answer(
    server: client.InferenceServerClient, repository: Path
) -> None:
    await server.load_model("filled")
    requests = [images(1 + index % 3, seed=index) for index in range(24)]
    # Requests are joined only if they wait together, which a busy machine may not let them do.
    for sent in range(1, 21):
        answers = await asyncio.gather(
            *(ask(server, "filled", tiles, ("probability", "logit")) for tiles in requests)
        )
        for tiles, answer in zip(requests, answers, strict=True):
            reference = expected(repository, "filled", tiles)
            for served, wanted in zip(answer, reference, strict=True):
                assert served.dtype == wanted.dtype
                assert served.tobytes() == wanted.tobytes()
        statistics = await counted(server, "filled", sent * sum(len(tiles) for tiles in requests))
        if max(batch.batch_size for batch in statistics.batch_stats) > 3:
            break
    assert max(batch.batch_size for batch in statistics.batch_stats) > 3
    assert statistics.execution_count < sent * len(requests)


async def test_requests_in_one_batch_may_want_different_outputs(
    server: client.InferenceServerClient, repository: Path
) -> None:
    await server.load_model("filled")
    tiles = images(1)
    probability, logit = expected(repository, "filled", tiles)
    (one,), (other,) = await asyncio.gather(
        ask(server, "filled", tiles), ask(server, "filled", tiles, ("logit",))
    )
    assert np.array_equal(one, probability)
    assert np.array_equal(other, logit)


async def test_configuration_is_filled_in(server: client.InferenceServerClient) -> None:
    await server.load_model("filled")
    config = (await server.get_model_config("filled")).config
    assert config.max_batch_size == 8
    assert [(entry.name, list(entry.dims)) for entry in config.input] == [("image", list(SHAPE))]
    assert [entry.name for entry in config.output] == ["probability", "logit"]

    await server.load_model("bare")
    config = (await server.get_model_config("bare")).config
    assert config.max_batch_size == 4
    assert config.HasField("dynamic_batching")


async def test_without_a_batch_dimension_every_request_runs_alone(
    server: client.InferenceServerClient, repository: Path
) -> None:
    await server.load_model("unbatched")
    config = (await server.get_model_config("unbatched")).config
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [2, *SHAPE]
    tiles = images(2)
    (answer,) = await ask(server, "unbatched", tiles)
    assert np.array_equal(answer, expected(repository, "unbatched", tiles)[0])


async def test_configuration_may_fix_an_open_size(
    server: client.InferenceServerClient, repository: Path
) -> None:
    await server.load_model("open_size")
    tiles = images(2)
    (answer,) = await ask(server, "open_size", tiles)
    assert np.array_equal(answer, expected(repository, "open_size", tiles)[0])


@pytest.mark.parametrize(
    "tiles",
    [
        np.zeros((1, 1, 32, 64), np.float32),
        np.zeros((1, 64, 64), np.float32),
        np.zeros((9, *SHAPE), np.float32),
        np.zeros((1, *SHAPE), np.float64),
    ],
    ids=["shape", "rank", "batch", "type"],
)
async def test_a_wrong_input_is_an_invalid_argument(
    server: client.InferenceServerClient, tiles: np.ndarray
) -> None:
    await server.load_model("complete")
    with pytest.raises(InferenceServerException) as caught:
        await ask(server, "complete", tiles)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fixed", "max_batch_size"),
        ("misnamed", "picture"),
        ("misshapen", "64, 64"),
        ("misconfigured", "intra_op_thread_count"),
        # PyTorch is no dependency of the project.
        ("in_pytorch", "torch is not installed.*install onnxruntime"),
        ("on_gpu", "GPU"),
        ("empty", "model.onnx is missing"),
        ("corrupt", "model.onnx"),
    ],
)
async def test_a_bad_model_is_refused_with_its_reason(
    server: client.InferenceServerClient, name: str, words: str
) -> None:
    with pytest.raises(InferenceServerException, match=words):
        await server.load_model(name, client_timeout=60)
