"""Starting and stopping the real servers, and a model small enough to check by hand."""

import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from detection.model import TensorSpec, UNetModel

NAME = "unet_astronomical"
NAN_NAME = "answers_nan"
TILE = 128
ROOT = Path(__file__).parents[2]

_CONFIG = f"""
backend: "onnxruntime"
max_batch_size: 8
input [ {{ name: "image", data_type: TYPE_FP32, dims: [ 1, {TILE}, {TILE} ] }} ]
output [ {{ name: "probability", data_type: TYPE_FP32, dims: [ 1, {TILE}, {TILE} ] }} ]
instance_group [ {{ kind: KIND_CPU, count: 1 }} ]
version_policy: {{ all {{ }} }}
dynamic_batching {{ }}
"""


def triton_home() -> Path:
    """Where the wheel keeps Triton; found without importing it, since it lacks what it imports."""
    spec = importlib.util.find_spec("pytriton")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "tritonserver"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def blob_network() -> onnx.ModelProto:
    """A network of one layer: probability = sigmoid(3 * (image convolved with a Gaussian - 2))."""
    offset = np.arange(-3, 4)
    gaussian = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * 1.5**2))
    kernel = (3.0 * gaussian / gaussian.sum()).astype(np.float32)[None, None]
    shape = ["N", 1, TILE, TILE]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel", "bias"], ["logit"], pads=[3, 3, 3, 3]),
            helper.make_node("Sigmoid", ["logit"], ["probability"]),
        ],
        NAME,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.array([-6.0], np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def nan_network() -> onnx.ModelProto:
    """A network that answers NaN wherever the image is negative."""
    shape = ["N", 1, TILE, TILE]
    graph = helper.make_graph(
        [helper.make_node("Sqrt", ["image"], ["probability"])],
        NAN_NAME,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_model(repository: Path, name: str, version: int, network: onnx.ModelProto) -> None:
    """One version's folder, as the export makes it, and the model's configuration."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    weights = network.SerializeToString()
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).normal(size=(1, 1, TILE, TILE)).astype(np.float32)
    (probability,) = session.run(None, {"image": image})
    golden = io.BytesIO()
    np.savez(golden, image=image, probability=probability)
    card = UNetModel(
        name=name,
        version=version,
        trained_at=datetime(2026, 11, 24, tzinfo=UTC),
        input=TensorSpec(name="image", shape=(-1, 1, TILE, TILE)),
        output=TensorSpec(name="probability", shape=(-1, 1, TILE, TILE)),
        overlap=32,
        digests={
            "model.onnx": hashlib.sha256(weights).hexdigest(),
            "golden.npz": hashlib.sha256(golden.getvalue()).hexdigest(),
        },
    )
    (folder / "model.onnx").write_bytes(weights)
    (folder / "golden.npz").write_bytes(golden.getvalue())
    (folder / "card.json").write_bytes(card.to_json())
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"\n{_CONFIG}')


def write_model_repository(repository: Path) -> Path:
    write_model(repository, NAME, 3, blob_network())
    write_model(repository, NAN_NAME, 1, nan_network())
    return repository


class Process:
    """A server in a process group of its own, which is stopped as a whole."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, command: list[str], **environment: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"a server ended:\n{self.log.read_text()[-4000:]}")

    def stop(self) -> int:
        """Ask it to end, and see to it that it does."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(20)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return code

    def __exit__(self, *_: object) -> None:
        self.stop()


class NatsServer(Process):
    """NATS with JetStream, on the same port and store each time it is started."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder / "log")
        self._folder = folder
        self._port = free_port()
        self.url = f"nats://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        binary = str(Path(sys.executable).with_name("nats-server"))
        store = str(self._folder / "store")
        self.launch([binary, "-js", "-sd", store, "-a", "127.0.0.1", "-p", str(self._port)])
        while True:
            self.check()
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return


class TritonServer(Process):
    """Triton from pip with the project's own onnxruntime backend."""

    def __init__(self, repository: Path, folder: Path) -> None:
        super().__init__(folder / "log")
        self._repository = repository
        self._backends = folder / "backends"
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._lay_out_backends()
        self.start()
        return self

    def _lay_out_backends(self) -> None:
        home = triton_home()
        python = self._backends / "python"
        python.mkdir(parents=True)
        for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
            shutil.copy(home / "backends/python" / name, python / name)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
        (python / "triton_python_backend_stub").symlink_to(stub)
        shutil.copytree(ROOT / "triton-config/backends/onnxruntime", self._backends / "onnxruntime")

    def start(self) -> None:
        home = triton_home()
        self.launch(
            [
                str(home / "bin/tritonserver"),
                f"--model-repository={self._repository}",
                f"--backend-directory={self._backends}",
                "--model-control-mode=explicit",
                f"--load-model={NAME}",
                f"--load-model={NAN_NAME}",
                "--allow-http=false",
                "--allow-metrics=false",
                "--grpc-address=127.0.0.1",
                f"--grpc-port={self._port}",
            ],
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            LD_LIBRARY_PATH=str(sysconfig.get_config_var("LIBDIR")),
        )
        client = InferenceServerClient(self.address)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.check()
            try:
                if client.is_model_ready(NAME):
                    client.close()
                    return
            except InferenceServerException:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"Triton is not ready:\n{self.log.read_text()[-4000:]}")
