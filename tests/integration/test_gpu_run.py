"""The prepared run of ``benchmarks/gpu`` on a CPU, where there is PyTorch, ONNX and NumPy alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gpu import bundles

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with what the machine has that the project has not."""
    folder = tmp_path_factory.mktemp("machine") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    made = folder / "bin" / "python"
    subprocess.run(
        [made, "-m", "pip", "install", "-q", "torch==2.13.0", "onnx==1.23.2", "numpy"], check=True
    )
    return made


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is carried there, without the ONNX Runtime that needs CUDA."""
    folder = tmp_path_factory.mktemp("pack")
    command = [sys.executable, "-m", "benchmarks.gpu.pack", "--python", VERSION, "--out", folder]
    subprocess.run([*command, "--only", "triton", "--only", "gateway"], check=True, cwd=ROOT)
    return folder


def run(python: Path, pack: Path, folder: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """A run's status and its lines."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [
            ROOT / "benchmarks" / "gpu" / "run.sh",
            *("--device", "cpu", "--pack", pack, "--work", folder / "work"),
            *("--out", folder / "out", *options),
        ],
        env=clean | {"PYTHON": str(python)},
        cwd=folder,
    )
    lines = (folder / "out" / "results.jsonl").read_text().splitlines()
    return done.returncode, [json.loads(line) for line in lines]


def test_the_whole_run_measures_everything_and_answers_as_keras_does(
    python: Path, pack: Path, tmp_path: Path
) -> None:
    assert all(
        (pack / part).stat().st_size <= 60 << 20
        for bundle in bundles.read(pack, VERSION).values()
        for part in bundle.parts
    )
    status, lines = run(python, pack, tmp_path, "--total", "900")
    assert status == 0
    assert not [line for line in lines if "failed" in line or "left_out" in line]
    for step, network in (
        ("bare", "reference"),
        ("bare", "wide"),
        ("served", "reference"),
        ("served", "wide"),
    ):
        these = [line for line in lines if (line["step"], line.get("network")) == (step, network)]
        assert [line for line in these if "tiles_per_s" in line]
        assert all(line["difference"] <= 1e-4 for line in these if "difference" in line)
    (scored,) = [line for line in lines if "exposures_per_s" in line]
    (stored,) = [line for line in lines if "runs_stored" in line]
    assert stored["runs_stored"] > scored["exposures"]
    assert stored["detections_stored"] > 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert "**Triton with this project's backend**" in table
    assert "What did not go" not in table


def test_the_first_bundle_is_enough_and_time_is_kept(
    python: Path, pack: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    for name in (bundles.PACK_FILE, *bundles.read(pack, VERSION)["triton"].parts):
        shutil.copy(pack / name, first)
    status, lines = run(python, first, tmp_path, "--only", "facts", "--only", "whole")
    assert status == 1  # Nothing was measured.
    (left_out,) = [line for line in lines if "left_out" in line]
    assert left_out["step"] == "whole"
    assert "gateway.1-of" in left_out["left_out"]

    # Half a minute is not enough: what is begun is ended, what is not is said to be left out.
    status, lines = run(python, first, tmp_path, "--total", "30", "--only", "served")
    problems = [line.get("failed") or line.get("left_out") for line in lines]
    assert any(one for one in problems if one)


def case(folder: Path, name: str, nodes: list[Any], shape: list[int], **constants: Any) -> None:
    """A graph with one input and one output, and its input."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / f"{name}.onnx")
    np.savez(folder / f"{name}.npz", x=RNG.normal(size=shape).astype(np.float32))


def test_the_graph_in_pytorch_answers_as_onnx_runtime_does(python: Path, tmp_path: Path) -> None:
    weights = RNG.normal(size=(4, 2, 3, 3)).astype(np.float32)
    bias = RNG.normal(size=4).astype(np.float32)
    image = [3, 2, 12, 10]
    node = helper.make_node

    def conv(name: str, **attributes: Any) -> None:
        nodes = [node("Conv", ["x", "w", "b"], ["y"], **attributes)]
        case(tmp_path, name, nodes, image, w=weights, b=bias)

    conv("conv")
    conv("batched_conv", pads=[1, 1, 1, 1])
    conv("conv_uneven", pads=[1, 0, 0, 2])
    conv("conv_strided", strides=[2, 1], dilations=[1, 2], pads=[1, 2, 1, 2])
    for name, hidden in (("relu", ["c"]), ("relu_used_twice", ["c", "c"])):
        nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["r"])]
        nodes.append(node("Concat", ["r", *hidden[1:]], ["y"], axis=1))
        case(tmp_path, name, nodes, image, w=weights)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    case(tmp_path, "pool", [node("MaxPool", ["x"], ["y"], **pool)], image)
    nearest = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    resize = node("Resize", ["x", "", "s"], ["y"], **nearest)
    case(tmp_path, "resize", [resize], image, s=np.array([1, 1, 2, 3], np.float32))
    sigmoid = [node("Sigmoid", ["x"], ["s"]), node("Sum", ["x", "s", "x"], ["y"])]
    case(tmp_path, "sum", sigmoid, image)
    side_by_side = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        node("Unsqueeze", ["t", "axis"], ["u"]),
        node("Concat", ["u", "u"], ["c"], axis=3),
        node("Reshape", ["c", "sizes"], ["y"]),
    ]
    constants = {"axis": np.array([3]), "sizes": np.array([0, 12, 20, 2])}
    case(tmp_path, "subpixel", side_by_side, image, **constants)
    known = {path.stem for path in tmp_path.glob("*.onnx")}

    case(tmp_path, "refused_operator", [node("Softplus", ["x"], ["y"], name="last")], image)
    conv("refused_padding", auto_pad="SAME_UPPER")
    half = node("Resize", ["x", "", "s"], ["y"], **nearest)
    case(tmp_path, "refused_scale", [half], image, s=np.array([1, 1, 1.5, 2], np.float32))

    script = ROOT / "tests" / "integration" / "torch_answers.py"
    subprocess.run([python, script, tmp_path], check=True)
    for name in sorted(known):
        session = ort.InferenceSession(tmp_path / f"{name}.onnx")
        with np.load(tmp_path / f"{name}.npz") as arrays:
            (expected,) = session.run(None, {"x": arrays["x"]})
        with np.load(tmp_path / f"{name}.out.npz") as answered:
            assert {"y", "fused_y"} <= {*answered.files}
            assert ("kept_y" in answered.files) == name.startswith("batched")
            for kind in answered.files:
                assert answered[kind].shape == expected.shape, name
                assert np.abs(answered[kind] - expected).max() < 1e-5, (name, kind)
    for name, words in (
        ("operator", "the operator Softplus (node 'last') is not known"),
        ("padding", "with auto_pad SAME_UPPER"),
        ("scale", "by anything but whole factors"),
    ):
        assert words in (tmp_path / f"refused_{name}.txt").read_text()
