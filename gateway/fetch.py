"""A pod's own copy of pinned model versions: fetched when it starts, every byte checked."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from astrotriton.detection.card import ModelCard
from astrotriton.detection.errors import CardError
from astrotriton.gateway.backends.object_store import ObjectStore

_CARD, _CONFIG = "card.json", "config.pbtxt"
_BACKEND = "onnxruntime"
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LARGEST = 1024**3


class FetchError(Exception):
    """What lies in the repository is not what was pinned."""


class Pin(NamedTuple):
    """A version, and the SHA-256 of its card, which has those of its other files."""

    version: int
    digest: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``7@sha256:...``.

        Raises
        ------
        ValueError
            If it is no such text.
        """
        match = re.fullmatch(r"([1-9][0-9]*)@sha256:([0-9a-f]{64})", text)
        if match is None:
            raise ValueError(f"{text!r} is no pinned version: give 7@sha256: and 64 digits")
        return cls(int(match[1]), match[2])


async def fetch(
    location: str, name: str, pins: Sequence[Pin], folder: Path, objects: ObjectStore
) -> None:
    """Copy pinned versions of a model, and a ``config.pbtxt`` that lists these and no others.

    The model's folder appears whole or not at all; one that is there is replaced.

    Parameters
    ----------
    location
        The repository, ``s3://bucket/prefix``.
    name
        The model.
    pins
        The versions.
    folder
        Of the copy; the model's folder is made in it.
    objects
        Reads from the repository's bucket.

    Raises
    ------
    FetchError
        If a file is not the one that was pinned, or the configuration is not export's.
    InputError, TooLargeError, DependencyError
        If a file cannot be read.
    """
    part = folder / f".{name}-part"
    shutil.rmtree(part, ignore_errors=True)
    source = f"{location.rstrip('/')}/{name}"
    for pin in pins:
        version = part / str(pin.version)
        version.mkdir(parents=True)
        for file, content in (await _version(f"{source}/{pin.version}", pin, objects)).items():
            (version / file).write_bytes(content)
    config = await objects.read(f"{source}/{_CONFIG}", _CONFIG, _LARGEST)
    (part / _CONFIG).write_bytes(_listing(config, name, pins))
    shutil.rmtree(folder / name, ignore_errors=True)
    part.rename(folder / name)


async def _version(source: str, pin: Pin, objects: ObjectStore) -> dict[str, bytes]:
    files = {_CARD: await objects.read(f"{source}/{_CARD}", _CARD, _LARGEST)}
    _check(files[_CARD], pin.digest, f"{source}/{_CARD}", "the pinned one")
    try:
        card = ModelCard.from_json(files[_CARD])
    except CardError as error:
        raise FetchError(f"{source}/{_CARD}: {error}") from error
    for file, digest in card.digests.items():
        if not _FILE.fullmatch(file):
            raise FetchError(f"{source}/{_CARD} names a file {file!r}")
        files[file] = await objects.read(f"{source}/{file}", file, _LARGEST)
        _check(files[file], digest, f"{source}/{file}", "the card's")
    return files


def _check(content: bytes, digest: str, where: str, whose: str) -> None:
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise FetchError(f"{where} is not {whose}: its SHA-256 is {found}, not {digest}")


def _listing(content: bytes, name: str, pins: Sequence[Pin]) -> bytes:
    """The published configuration, but with the pinned versions."""
    config = triton.ModelConfig()
    try:
        text_format.Parse(content.decode(), config)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise FetchError(f"{_CONFIG} of {name} is damaged: {error}") from error
    # No digest covers it, so it may choose no other code than the version was tried with.
    found = (config.name, config.backend)
    if found != (name, _BACKEND):
        raise FetchError(f"{_CONFIG} has name and backend {found}, not {(name, _BACKEND)}")
    config.version_policy.Clear()
    config.version_policy.specific.versions.extend(sorted(pin.version for pin in pins))
    return text_format.MessageToString(config).encode()
