"""The backend's engines: PyTorch against Keras, refusals, and what a batch is filled up to.

PyTorch is no dependency of the project. These run in an environment that has it; the run on a CPU
(``tests/integration/test_gpu_run.py``) makes one.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gpu.steps.common import BACKEND

sys.path.insert(0, str(BACKEND))
import engines


def options(kind: Any = "CPU", most: int = 8, **parameters: str) -> engines.Options:
    return engines.Options(kind=kind, device=0, most=most, parameters=parameters)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A convolution and a sigmoid."""
    weights = np.random.default_rng(3).normal(size=(1, 1, 3, 3)).astype(np.float32)
    shape = ["N", 1, 16, 16]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weights"], ["logit"], pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", ["logit"], ["probability"]),
        ],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "weights")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return str(path)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make packages look as if they were not installed."""

    def hide(*packages: str) -> None:
        installed = engines._installed
        monkeypatch.setattr(
            engines, "_installed", lambda name: name not in packages and installed(name)
        )

    return hide


def images(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=(count, 1, 16, 16)).astype(np.float32)


def test_onnx_runtime_answers_requests_as_one_batch(model: str) -> None:
    engine = engines.open_engine(model, options())
    assert "ONNX Runtime" in engine.title
    tiles = images(5)
    (answer,) = engine.run(["probability"], {"image": [tiles[:2], tiles[2:]]})
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    for row in range(5):
        assert np.array_equal(answer[row], session.run(None, {"image": tiles[row : row + 1]})[0][0])


def test_a_gpu_without_an_engine_is_refused_with_the_remedy(model: str, without: Any) -> None:
    without("torch")
    with pytest.raises(engines.EngineError) as caught:
        engines.open_engine(model, options("GPU"))
    message = str(caught.value)
    assert "KIND_GPU" in message
    assert "has no CUDA" in message
    assert "onnxruntime-gpu" in message
    assert "ASTROTRITON_ENABLE_GPU=false" in message


def test_onnx_runtime_that_only_falls_back_to_the_cpu_is_refused(
    model: str, without: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lists the provider that it was built with, also where a library of CUDA is missing."""
    without("torch")
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: listed)
    with pytest.raises(engines.EngineError, match="cannot use its CUDA provider"):
        engines.open_engine(model, options("GPU"))


def test_nothing_installed_is_refused_with_the_remedy(model: str, without: Any) -> None:
    without("torch", "onnxruntime")
    with pytest.raises(engines.EngineError, match="install onnxruntime"):
        engines.open_engine(model, options())


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"engine": "tensorflow"}, "engine is 'tensorflow', not one of auto"),
        ({"intra_op_thread_count": "many"}, "intra_op_thread_count is 'many', not a whole number"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(
    model: str, parameters: dict[str, str], words: str
) -> None:
    with pytest.raises(engines.EngineError, match=words):
        engines.open_engine(model, options(**parameters))


def test_a_file_is_described_alike_without_onnx_runtime(model: str, without: Any) -> None:
    with_it = engines.describe(model)
    without("onnxruntime")
    for these, those in zip(with_it, engines.describe(model), strict=True):
        assert [(one.name, one.type, one.shape) for one in these] == [
            (one.name, one.type, one.shape) for one in those
        ]
    Path(model).write_bytes(b"not a model")
    with pytest.raises(engines.EngineError, match=r"model\.onnx is no ONNX model"):
        engines.describe(model)


def test_a_batch_on_a_gpu_is_filled_up_to_one_of_few_sizes() -> None:
    sizes = {rows: engines.padded(rows, 32) for rows in range(1, 33)}
    assert all(size >= rows for rows, size in sizes.items())
    assert sorted(set(sizes.values())) == [1, 2, 4, 8, 12, 16, 24, 32]
    assert engines.padded(5, 6) == 6
    assert engines.padded(40, 32) == 40
