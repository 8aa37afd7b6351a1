"""A version tried in a Triton of its own, exactly as it will be served."""

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from astrotriton.detection.card import ModelCard
from astrotriton.detection.quality.golden import GOLDEN_FILE, Golden
from astrotriton.export.repository import Repository
from astrotriton.export.serving import Replica
from astrotriton.settings import ModelConfig

_ROUNDS = 15
# The first answers pay for what the others find ready.
_IGNORED_ROUNDS = 3
_MEBIBYTE = 1024 * 1024


class Sandbox(Protocol):
    """A Triton that serves nobody.

    Attributes
    ----------
    address
        ``host:port`` of its gRPC service.
    """

    @property
    def address(self) -> str:
        """See above."""
        ...

    def memory(self) -> int:
        """Bytes that the server and its processes have for themselves."""
        ...


OpenSandbox = Callable[[Path], AbstractContextManager[Sandbox]]
"""Starts a Triton with explicit model control on a model repository, and stops it again."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version's card, and its files by name."""

    card: ModelCard
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a version costs: ``latency`` of a tile in ms, ``memory`` in MiB."""

    latency: float
    memory: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a sandbox has shown.

    Attributes
    ----------
    difference
        Largest difference of any instance's answer to the golden tile from what is known of it.
    own, champion
        The costs of both on the same server; None without a champion.
    """

    difference: float
    own: Cost
    champion: Cost | None


def try_out(
    candidate: Version,
    champion: Version | None,
    open_sandbox: OpenSandbox,
    settings: ModelConfig,
    profile: str,
) -> Measured:
    """Load a version in a sandbox, beside the champion; prove it, and measure both in turn.

    Raises
    ------
    ServingError
        If the sandbox does not take one of them, or answers its golden tile wrongly.
    """
    name = candidate.card.name
    with TemporaryDirectory(prefix="astrotriton-sandbox-") as folder:
        repository = Repository(Path(folder))
        versions = [one for one in (champion, candidate) if one is not None]
        for version in versions:
            repository.publish(version.card, version.files)
        used: list[float] = []
        with open_sandbox(Path(folder)) as sandbox, Replica(sandbox.address) as triton:
            before = sandbox.memory()
            loaded: list[int] = []
            for version in versions:
                loaded.append(int(version.card.version or 0))
                repository.list_versions(version.card, loaded, settings, profile)
                triton.load(name)
                difference = triton.check(version.card, version.files[GOLDEN_FILE])
                now = sandbox.memory()
                used.append((now - before) / _MEBIBYTE)
                before = now
            took = _time(triton, versions)
    costs = [Cost(*pair) for pair in zip(took, used, strict=True)]
    return Measured(difference, costs[-1], None if champion is None else costs[0])


def _time(triton: Replica, versions: list[Version]) -> list[float]:
    """Median milliseconds of one tile, each version in turn so that all meet the same machine."""
    took: list[list[float]] = [[] for _ in versions]
    tiles = [Golden.from_npz(version.files[GOLDEN_FILE]).image for version in versions]
    for _ in range(_ROUNDS):
        for i, version in enumerate(versions):
            start = time.perf_counter()
            triton.infer(version.card, tiles[i])
            took[i].append(1000.0 * (time.perf_counter() - start))
    return [statistics.median(one[_IGNORED_ROUNDS:]) for one in took]
