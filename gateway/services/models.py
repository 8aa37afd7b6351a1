"""Which model version answers, and what is known of it."""

import asyncio
import hashlib
import io
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from detection.config import ModelConfig
from detection.errors import CardError
from detection.model import UNetModel
from gateway.errors import DependencyError, ModelNotServedError
from gateway.schemas import ModelRef
from gateway.triton import Triton

DEPENDENCY = "model_repository"
_WEIGHTS = "model.onnx"
_GOLDEN = "golden.npz"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A version that Triton serves, with its card and its golden tile.

    Attributes
    ----------
    id
        Made from the name, the version and the card, so that replicas agree without asking.
    ref
        Name, version and digest of the weights.
    card, card_json, card_digest
        The card, its bytes, and their SHA-256.
    golden_image, golden_probability
        float32 (1, channels, height, width): a tile, and what the network made of it before export.
    """

    id: UUID
    ref: ModelRef
    card: UNetModel
    card_json: bytes
    card_digest: str
    golden_image: NDArray[np.float32]
    golden_probability: NDArray[np.float32]


class ModelService:
    """Finds the version that answers and reads its card, once for each version.

    Parameters
    ----------
    config
        The model's name, and its version or ``latest``.
    repository
        The folder that Triton serves.
    triton
        Says which versions are ready.
    """

    def __init__(self, config: ModelConfig, repository: Path, triton: Triton) -> None:
        self._config = config
        self._repository = repository
        self._triton = triton
        self._lock = asyncio.Lock()
        self._last: ServedModel | None = None

    async def resolve(self) -> ServedModel:
        """The version that answers now; a run resolves it once, and keeps it.

        Raises
        ------
        DependencyError
            If Triton does not answer, or the version's card or golden tile cannot be read.
        ModelNotServedError
            If Triton serves no version of the model, or not the one asked for.
        """
        version = await self._served_version()
        async with self._lock:
            if self._last is None or self._last.ref.version != version:
                self._last = await asyncio.to_thread(self._read, version)
                _log.info("serving %s version %d", self._config.model_name, version)
            return self._last

    async def _served_version(self) -> int:
        name, wanted = self._config.model_name, self._config.model_version
        ready = await self._triton.ready_versions(name)
        if not ready:
            raise ModelNotServedError(f"Triton serves no version of the model {name!r}")
        if wanted == "latest":
            return ready[-1]
        if int(wanted) not in ready:
            raise ModelNotServedError(
                f"Triton does not serve version {wanted} of the model {name!r}, only {ready}"
            )
        return int(wanted)

    def _read(self, version: int) -> ServedModel:
        folder = self._repository / self._config.model_name / str(version)
        try:
            return _read_version(folder, self._config.model_name, version)
        except (OSError, CardError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DependencyError(
                DEPENDENCY,
                f"version {version} of {self._config.model_name!r} is not as exported: {error}; "
                "export it again",
            ) from error


def _read_version(folder: Path, name: str, version: int) -> ServedModel:
    card_json = (folder / "card.json").read_bytes()
    card = UNetModel.from_json(card_json)
    if (card.name, card.version) != (name, version):
        raise CardError(f"card.json is of {card.name!r} version {card.version}")
    golden = (folder / _GOLDEN).read_bytes()
    if _sha256(golden) != card.digests[_GOLDEN]:
        raise ValueError(f"{_GOLDEN} is not the file that card.json names")
    with np.load(io.BytesIO(golden), allow_pickle=False) as arrays:
        image, probability = arrays["image"], arrays["probability"]
    for array, spec in ((image, card.input), (probability, card.output)):
        if array.shape != (1, *spec.shape[1:]):
            raise ValueError(f"{_GOLDEN} holds {array.shape} for {spec.name!r}, {spec.shape}")
    card_digest = _sha256(card_json)
    return ServedModel(
        id=uuid5(NAMESPACE_URL, f"urn:astrotriton:model:{name}:{version}:{card_digest}"),
        ref=ModelRef(name=name, version=version, digest=card.digests[_WEIGHTS]),
        card=card,
        card_json=card_json,
        card_digest=card_digest,
        golden_image=np.ascontiguousarray(image, dtype=np.float32),
        golden_probability=np.ascontiguousarray(probability, dtype=np.float32),
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
