# mypy: ignore-errors
"""A BentoML service; runs in an environment of its own."""

import os
from pathlib import Path
from typing import Annotated

import bentoml
import mlflow.keras
import numpy as np
from bentoml.validators import ContentType
from patches import maxima, read

_WORKERS = int(os.environ.get("WORKERS", "1"))
_BATCH = int(os.environ.get("BATCH", "2"))
_TIMEOUT = 120


@bentoml.service(workers=_WORKERS, traffic={"timeout": _TIMEOUT})
class Network:
    """Shows tiles to the network, several at a time if that is asked for."""

    def __init__(self) -> None:
        self.model = mlflow.keras.load_model(os.environ["MODEL"])

    @bentoml.api(batchable=True, max_batch_size=_BATCH, max_latency_ms=60_000)
    def predict(self, tiles: np.ndarray) -> np.ndarray:
        """Probability maps."""
        return np.asarray(self.model.predict(tiles, verbose=0))


@bentoml.service(workers=_WORKERS, traffic={"timeout": _TIMEOUT})
class Whole:
    """Reads a file and shows it to the network in one process."""

    def __init__(self) -> None:
        self.model = mlflow.keras.load_model(os.environ["MODEL"])

    @bentoml.api
    def infer(
        self,
        exposure: Annotated[Path, ContentType("application/fits")],
        candidates: list[list[float]],
    ) -> list[float]:
        """The probability of each candidate."""
        answer = self.model.predict(read(exposure.read_bytes()), verbose=0)
        return maxima(np.asarray(answer), candidates)


@bentoml.service(traffic={"timeout": _TIMEOUT})
class Split:
    """Reads a file here, and has batches shown to the network in a service of its own."""

    network = bentoml.depends(Network)

    @bentoml.api
    async def infer(
        self,
        exposure: Annotated[Path, ContentType("application/fits")],
        candidates: list[list[float]],
    ) -> list[float]:
        """The probability of each candidate."""
        answer = await self.network.to_async.predict(read(exposure.read_bytes()))
        return maxima(np.asarray(answer), candidates)
