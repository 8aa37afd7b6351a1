"""The trained network served, labelled exposures in a store, and an MLflow, for monitoring."""

import hashlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Self

import httpx
import msgspec
import numpy as np
import obstore
import onnxruntime

from astrotriton.detection.card import UNetModel
from astrotriton.detection.quality.golden import Golden
from astrotriton.objects import Objects
from tests.integration.gateway_parts import (
    NAME,
    Process,
    TritonServer,
    free_port,
)

_CONFIG = """
name: "{name}"
backend: "onnxruntime"
max_batch_size: 8
input [ {{ name: "{input}", data_type: TYPE_FP32, dims: [ 1, {tile}, {tile} ] }} ]
output [ {{ name: "{output}", data_type: TYPE_FP32, dims: [ {answers}, {tile}, {tile} ] }} ]
instance_group [ {{ kind: KIND_CPU, count: 1 }} ]
version_policy: {{ all {{ }} }}
dynamic_batching {{ }}
"""


def predictor(content: bytes):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tiles: np.asarray(session.run(None, {name: tiles})[0])


def publish(
    repository: Path, card: UNetModel, version: int, content: bytes, **more: bytes
) -> UNetModel:
    """A version's folder, as export makes it; ``more`` are further files, dots as ``__``."""
    card = msgspec.structs.replace(card, name=NAME, version=version)
    _, _, height, width = card.input.shape
    image = np.random.default_rng(1).normal(size=(1, 1, height, width)).astype(np.float32)
    golden = Golden(image, predictor(content)(image)).to_npz()
    files = {"model.onnx": content, "golden.npz": golden}
    files |= {name.replace("__", "."): file for name, file in more.items()}
    digests = {name: hashlib.sha256(file).hexdigest() for name, file in files.items()}
    card = msgspec.structs.replace(card, digests=digests)
    folder = repository / NAME / str(version)
    folder.mkdir(parents=True)
    for name, file in {**files, "card.json": card.to_json()}.items():
        (folder / name).write_bytes(file)
    config = _CONFIG.format(
        name=NAME,
        input=card.input.name,
        output=card.output.name,
        answers=card.output.shape[1],
        tile=height,
    )
    (repository / NAME / "config.pbtxt").write_text(config)
    return card


class OneTriton(TritonServer):
    """Triton with the model alone, and with its metrics."""

    def __init__(self, repository: Path, folder: Path) -> None:
        super().__init__(repository, folder)
        self.metrics_port = free_port()

    def launch(self, command: list[str], **environment: str) -> None:
        kept = [
            part for part in command if not part.startswith(("--load-model=", "--allow-metrics="))
        ]
        mine = [f"--load-model={NAME}", f"--metrics-port={self.metrics_port}"]
        super().launch([*kept, *mine], **environment)


def put_fields(bucket: Objects, prefix: str, fields, description: str = "of the tests"):
    """A data set as `POST /models/{id}/validate` takes it."""
    truth = []
    for number, field in enumerate(fields):
        stream = io.BytesIO()
        np.save(stream, field.image)
        name = f"{number:03}.npy"
        obstore.put(bucket, f"{prefix}/{name}", stream.getvalue())
        transients = [
            {"x": x, "y": y, "snr": snr, "polarity": polarity, "hosted": hosted, "saturated": full}
            | ({"fwhm": fwhm} if np.isfinite(fwhm) else {})
            for (x, y), snr, polarity, fwhm, hosted, full in zip(
                *(
                    getattr(field.transients, name).tolist()
                    for name in ("positions", "snr", "polarity", "fwhm", "hosted", "saturated")
                ),
                strict=True,
            )
        ]
        truth.append({"file": name, "transients": transients})
    content = json.dumps({"description": description, "fields": truth}).encode()
    obstore.put(bucket, f"{prefix}/truth.json", content)


class MlflowServer(Process):
    """MLflow on the same port and the same store each time it is started."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder / "log")
        self._folder = folder
        self._port = free_port()
        self.artifacts = folder / "artifacts"
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        self.launch(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
                *("--port", str(self._port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"),
                *("--artifacts-destination", str(self.artifacts)),
            ],
            MLFLOW_DISABLE_TELEMETRY="true",
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
            # Webhooks of the tests, on this machine; those there are, are looked up each second.
            MLFLOW_WEBHOOK_ALLOWED_SCHEMES="http",
            MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true",
            MLFLOW_WEBHOOK_CACHE_TTL="1",
        )
        deadline = time.monotonic() + 180
        while True:
            self.check()
            assert time.monotonic() < deadline, "MLflow is not ready"
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
