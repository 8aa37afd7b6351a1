"""What a user would pick instead: the same Keras model behind other servers."""

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from benchmarks.speed import services
from benchmarks.speed.contenders.alternative import Alternative, Settings
from benchmarks.speed.environments import environment
from benchmarks.speed.exposures import Exposure
from benchmarks.speed.processes import free_port
from benchmarks.speed.wire import MULTIPART, multipart, wait_for

_SERVICES = Path(services.__file__).parent
_ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def _form(exposure: Exposure) -> bytes:
    return multipart(exposure.file, candidates=json.dumps(exposure.candidates))


class Origin(Alternative):
    """The design that this project replaces."""

    key = "origin"
    title = "ASGI and keras predict"
    settings: ClassVar[Settings] = {
        "one worker": {"WORKERS": "1"},
        "two workers of one thread": {"WORKERS": "2"} | _ONE_THREAD,
    }

    def command(self, port: int, setting: Mapping[str, str]) -> list[str]:
        """Uvicorn, in the project's environment."""
        return [
            *(sys.executable, "-m", "uvicorn", "benchmarks.speed.services.origin:app"),
            *("--app-dir", str(Path(__file__).parents[3]), "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", setting["WORKERS"], "--log-level", "warning"),
        ]

    def ready(self) -> None:
        """Ask whether it is ready."""
        wait_for(self.address, "/ready")

    def score(self, exposure: Exposure) -> None:
        """Send the file and its candidates."""
        self.post("/infer", _form(exposure), MULTIPART)


class MlflowServe(Alternative):
    """``mlflow models serve``: tensors as JSON are all that it takes."""

    key = "mlflow_serve"
    title = "mlflow models serve"
    # Writing and reading JSON takes it seconds for a tile.
    portion = 4
    settings: ClassVar[Settings] = {
        "one worker": {"WORKERS": "1"},
        "two workers of one thread": {"WORKERS": "2"} | _ONE_THREAD,
    }

    def command(self, port: int, setting: Mapping[str, str]) -> list[str]:
        """MLflow's own command."""
        folder = environment("mlflow_serve", self.cache)
        return [
            *(str(folder / "bin" / "mlflow"), "models", "serve", "--model-uri", str(self.model)),
            *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
            *("--workers", setting["WORKERS"], "--timeout", "120"),
        ]

    def ready(self) -> None:
        """Ask whether it is ready."""
        wait_for(self.address, "/ping")

    def score(self, exposure: Exposure) -> None:
        """Send the tile, written as JSON beforehand."""
        self.post("/invocations", exposure.as_json, "application/json")


class MlServer(Alternative):
    """MLServer with its MLflow runtime, asked over gRPC with raw tensors."""

    key = "mlserver"
    title = "MLServer, gRPC"
    settings: ClassVar[Settings] = {
        "in its own process": {"MLSERVER_PARALLEL_WORKERS": "0"},
        "one worker": {"MLSERVER_PARALLEL_WORKERS": "1"},
        "two workers of one thread": {"MLSERVER_PARALLEL_WORKERS": "2"} | _ONE_THREAD,
        "one worker, batches of 4": {
            "MLSERVER_PARALLEL_WORKERS": "1",
            "MLSERVER_MODEL_MAX_BATCH_SIZE": "4",
            "MLSERVER_MODEL_MAX_BATCH_TIME": "0.05",
        },
    }

    def command(self, port: int, setting: Mapping[str, str]) -> list[str]:
        """MLServer's own command, on a folder with its settings."""
        folder = environment("mlserver", self.cache)
        grpc = free_port()
        self._grpc = f"127.0.0.1:{grpc}"
        server = {
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": grpc,
            "metrics_port": free_port(),
            "grpc_max_message_length": 1 << 30,
        }
        model = {
            "name": "network",
            "implementation": "mlserver_mlflow.MLflowRuntime",
            "parameters": {"uri": str(self.model)},
        }
        (self.folder / "settings.json").write_text(json.dumps(server))
        (self.folder / "model-settings.json").write_text(json.dumps(model))
        return [str(folder / "bin" / "mlserver"), "start", str(self.folder)]

    def ready(self) -> None:
        """Ask whether it is ready."""
        # The server says that it is ready before its model is, and before it listens for gRPC.
        wait_for(self.address, "/v2/models/network/ready")
        host, port = self._grpc.split(":")
        socket.create_connection((host, int(port)), timeout=2.0).close()

    def score(self, exposure: Exposure) -> None:
        """Send the tile."""
        if not hasattr(self.own, "client"):
            self.own.client = triton.InferenceServerClient(self._grpc)
        tile = exposure.channels_last
        tensor = triton.InferInput("image", list(tile.shape), "FP32")
        tensor.set_data_from_numpy(tile)
        try:
            answer = self.own.client.infer("network", [tensor], client_timeout=120.0)
        except InferenceServerException as error:
            raise RuntimeError(str(error)) from error
        if answer.get_response().ByteSize() < tile.nbytes:
            raise RuntimeError("an answer without a map")


class BentoMl(Alternative):
    """BentoML, with a file in and probabilities out, as an ASGI endpoint around Keras has them."""

    key = "bentoml"
    title = "BentoML"
    settings: ClassVar[Settings] = {
        "one service, one worker": {"SERVICE": "Whole", "WORKERS": "1"},
        "one service, two workers of one thread": {"SERVICE": "Whole", "WORKERS": "2"}
        | _ONE_THREAD,
        "batches of 4 in a service of its own": {
            "SERVICE": "Split",
            "WORKERS": "1",
            "BATCH": "4",
        },
    }

    def command(self, port: int, setting: Mapping[str, str]) -> list[str]:
        """BentoML's own command."""
        folder = environment("bentoml", self.cache)
        return [
            *(str(folder / "bin" / "bentoml"), "serve", f"bento:{setting['SERVICE']}"),
            *("--working-dir", str(_SERVICES), "--host", "127.0.0.1", "--port", str(port)),
        ]

    def ready(self) -> None:
        """Ask whether it is ready."""
        wait_for(self.address, "/readyz")

    def score(self, exposure: Exposure) -> None:
        """Send the file and its candidates."""
        self.post("/infer", _form(exposure), MULTIPART)


ALTERNATIVES: tuple[type[Alternative], ...] = (Origin, MlflowServe, MlServer, BentoMl)
