"""Which model version answers, and what is known of it."""

import asyncio
import hashlib
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from astrotriton.detection.card import ModelCard
from astrotriton.detection.errors import CardError, InputError
from astrotriton.detection.quality.golden import GOLDEN_FILE, Golden, Verdict
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.backends.replicas import Replica
from astrotriton.gateway.backends.triton import Triton
from astrotriton.gateway.errors import DependencyError, GatewayError, ModelNotServedError
from astrotriton.objects import is_object_location
from astrotriton.settings import ModelConfig
from astrotriton.wire.models import ModelRef

DEPENDENCY = "model_repository"
_CARD, _WEIGHTS = "card.json", "model.onnx"
_KEPT = 8
_LARGEST = 256 * 1024 * 1024

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
    golden
        Its golden tile.
    """

    id: UUID
    ref: ModelRef
    card: ModelCard
    card_json: bytes
    card_digest: str
    golden: Golden


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a server made of a version's golden tile, and whether that is right."""

    replica: Replica
    good: bool
    detail: str


class ModelFiles:
    """Reads the files of published versions where Triton reads them: in a folder or a bucket.

    Parameters
    ----------
    location
        The folder, or ``s3://bucket/prefix``.
    objects
        Reads from that bucket.
    """

    def __init__(self, location: str | Path, objects: ObjectStore) -> None:
        self._location = str(location).rstrip("/")
        self._objects = objects

    async def read(self, name: str, version: int, file: str) -> bytes:
        """Content of a file.

        Raises
        ------
        DependencyError
            If it cannot be read.
        """
        where = f"{self._location}/{name}/{version}/{file}"
        try:
            if is_object_location(where):
                return await self._objects.read(where, file, _LARGEST)
            return await asyncio.to_thread(Path(where).read_bytes)
        except (OSError, InputError) as error:
            raise DependencyError(DEPENDENCY, f"{where} cannot be read: {error}") from error


class ModelService:
    """Knows the versions that Triton serves, and reads the card of each once.

    Parameters
    ----------
    config
        The model's name, and its version or ``latest``.
    files
        Of the versions.
    triton
        Says which versions are ready.
    """

    def __init__(self, config: ModelConfig, files: ModelFiles, triton: Triton) -> None:
        self._config = config
        self._files = files
        self._triton = triton
        self._lock = asyncio.Lock()
        self._known: dict[int, ServedModel] = {}

    @property
    def name(self) -> str:
        """The model's name."""
        return self._config.model_name

    async def get(self, version: int) -> ServedModel:
        """A version, as it was exported.

        Raises
        ------
        DependencyError
            If its card or golden tile cannot be read.
        """
        async with self._lock:
            model = self._known.get(version)
            if model is None:
                model = await self._read(version)
                _log.info("read %s version %d", self.name, version)
                if len(self._known) >= _KEPT:
                    del self._known[next(iter(self._known))]
                self._known[version] = model
        return model

    async def file(self, version: int, name: str) -> bytes | None:
        """A further file that travels with a version; None if its card names none of that name.

        Raises
        ------
        DependencyError
            If it cannot be read, or is not the one that the card names.
        """
        model = await self.get(version)
        if name not in model.card.digests:
            return None
        content = await self._files.read(self.name, version, name)
        if _sha256(content) != model.card.digests[name]:
            raise DependencyError(
                DEPENDENCY, f"{name} of version {version} is not the file that card.json names"
            )
        return content

    async def served_versions(self) -> list[int]:
        """The versions that Triton serves, ascending.

        Raises
        ------
        DependencyError
            If Triton does not answer.
        ModelNotServedError
            If there are none.
        """
        served = await self._triton.ready_versions(self.name)
        if not served:
            raise ModelNotServedError(f"Triton serves no version of the model {self.name!r}")
        return served

    async def configured_version(self) -> int:
        """The version that the settings choose, of those that Triton serves.

        Raises
        ------
        DependencyError
            If Triton does not answer.
        ModelNotServedError
            If Triton serves no version of the model, or not the one asked for.
        """
        served, wanted = await self.served_versions(), self._config.model_version
        if wanted == "latest":
            return served[-1]
        if int(wanted) not in served:
            raise ModelNotServedError(
                f"Triton does not serve version {wanted} of the model {self.name!r}, only {served}"
            )
        return int(wanted)

    async def prove(self, model: ServedModel) -> list[Proof]:
        """Let every instance of every server answer a version's golden tile."""
        verdicts = await self._triton.prove(model.card, model.ref.version, model.golden)
        return [_proof(model, replica, verdict) for replica, verdict in verdicts.items()]

    async def _read(self, version: int) -> ServedModel:
        card, golden = [
            await self._files.read(self.name, version, file) for file in (_CARD, GOLDEN_FILE)
        ]
        try:
            return await asyncio.to_thread(_assembled, self.name, version, card, golden)
        except (CardError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DependencyError(
                DEPENDENCY,
                f"version {version} of {self._config.model_name!r} is not as exported: {error}; "
                "export it again",
            ) from error


def _proof(model: ServedModel, replica: Replica, verdict: Verdict | GatewayError) -> Proof:
    name = f"{model.ref.name} version {model.ref.version}"
    if isinstance(verdict, GatewayError):
        return Proof(replica=replica, good=False, detail=verdict.detail)
    if verdict.fault is not None:
        detail = f"{name} answers the golden tile wrong, {verdict.fault}"
        return Proof(replica=replica, good=False, detail=detail)
    detail = f"{name} answers the golden tile within {verdict.difference:.2g}"
    return Proof(replica=replica, good=True, detail=detail)


def _assembled(name: str, version: int, card_json: bytes, content: bytes) -> ServedModel:
    card = ModelCard.from_json(card_json)
    if (card.name, card.version) != (name, version):
        raise CardError(f"{_CARD} is of {card.name!r} version {card.version}")
    if _sha256(content) != card.digests[GOLDEN_FILE]:
        raise ValueError(f"{GOLDEN_FILE} is not the file that {_CARD} names")
    golden = Golden.from_npz(content)
    for array, spec in ((golden.image, card.input), (golden.probability, card.output)):
        if array.shape != (1, *spec.shape[1:]):
            raise ValueError(f"{GOLDEN_FILE} holds {array.shape} for {spec.name!r}, {spec.shape}")
    card_digest = _sha256(card_json)
    return ServedModel(
        id=uuid5(NAMESPACE_URL, f"urn:astrotriton:model:{name}:{version}:{card_digest}"),
        ref=ModelRef(name=name, version=version, digest=card.digests[_WEIGHTS]),
        card=card,
        card_json=card_json,
        card_digest=card_digest,
        golden=golden,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
