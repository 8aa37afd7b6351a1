"""A Triton, an object store, an MLflow and a stream that live in this process, and what they hold.

The networks are functions of tiles, so that what a version answers is known without a server.
"""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.reading import read_image
from astrotriton.detection.quality.canary import Plan, Tolerances
from astrotriton.detection.quality.golden import Golden, Verdict
from astrotriton.detection.quality.labelled import ValidationSet
from astrotriton.detection.sources.candidate_tables import read_candidates
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.services.canary.book import CanaryBook
from astrotriton.gateway.services.events import EventSource
from astrotriton.gateway.services.inference import Submission
from astrotriton.gateway.services.models import ModelFiles, ModelService
from astrotriton.gateway.services.routing import RoutingService
from astrotriton.settings import ModelConfig
from astrotriton.wire.runs import InferRequest

NAME = "unet_astronomical"
TILE = 128
SOURCE = EventSource("/here", "http://here:8000/schema/events")
#: Of canaries that end by themselves.
BOOK = CanaryBook(
    Plan(fractions=(0.1, 0.5, 1.0), exposures=2, runs=2, least_seconds=0.0, most_seconds=60.0),
    Tolerances(),
    SOURCE,
)

Tiles = NDArray[np.float32]
Network = Callable[[Tiles], Tiles]


def network(sigma: float = 6.0) -> Network:
    """A matched filter that is sure of what lies well above so many standard deviations."""

    def answer(tiles: Tiles) -> Tiles:
        counts = np.sinh(tiles) * 3.0
        response = ndimage.gaussian_filter(counts, (0.0, 0.0, 1.7, 1.7)) * 6.0
        return expit(2.0 * (response - sigma)).astype(np.float32)

    return answer


class ReadHere:
    """Stands in for `Readers`: reads in this process."""

    @asynccontextmanager
    async def session(self) -> AsyncIterator["ReadHere"]:
        yield self

    async def read_image(self, content: bytes, **how: Any) -> Any:
        return read_image(content, **how)

    async def read_table(self, content: bytes, *bounds: int) -> Any:
        return read_candidates(content, *bounds)

    async def read_labelled(self, content: bytes) -> ValidationSet:
        try:
            return ValidationSet.from_fits(content)
        except ValueError as error:
            raise InputError("bad-dataset", "dataset", str(error)) from error


@dataclass(eq=False)
class Server:
    """One Triton as the services see it: `Replica`, without its connection."""

    address: str
    off: float = 0.0
    away: bool = False
    ejected: bool = False
    silent: bool = False
    counts: dict[int, SimpleNamespace] = field(default_factory=dict)

    def eject(self, seconds: float, why: str) -> None:
        self.ejected = True

    def admit(self) -> None:
        self.ejected = False

    @property
    def client(self) -> "Server":
        return self

    async def get_inference_statistics(self, name: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(model_stats=list(self.counts.values()))


@dataclass
class Tritons:
    """Stands in for `Triton`: servers that answer with functions, and may be away or wrong."""

    networks: dict[int, Network]
    servers: list[Server] = field(default_factory=lambda: [Server("one:8001")])
    away: bool = False
    faults: int = 0
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def ready_versions(self, name: str) -> list[int]:
        self._awake()
        return sorted(self.networks) if name == NAME else []

    async def largest_batch(self, name: str, version: int) -> int:
        self._awake()
        return 8

    async def infer(self, card: UNetModel, version: int, tiles: Tiles) -> Tiles:
        self._awake()
        self.asked.append((version, len(tiles)))
        await asyncio.sleep(0)
        if version not in self.networks:
            raise DependencyError("triton", f"version {version} is not loaded")
        return self.networks[version](tiles)

    async def prove(
        self, card: UNetModel, version: int, golden: Golden
    ) -> dict[Server, Verdict | DependencyError]:
        self._awake()
        if version not in self.networks:
            error = DependencyError("triton", f"version {version} is not loaded")
            return dict.fromkeys(self.servers, error)
        return {
            server: DependencyError("triton", "it does not answer")
            if server.away
            else golden.judge([self.networks[version](golden.image) + np.float32(server.off)])
            for server in self.servers
        }

    async def find_silent(self, seconds: float) -> dict[Server, str]:
        return {server: "it is silent" for server in self.servers if server.silent}

    async def replicas(self) -> list[Server]:
        return self.servers

    def _awake(self) -> None:
        if self.away:
            raise DependencyError("triton", "it is away")


@dataclass
class Objects:
    """Stands in for `ObjectStore`: objects by their URL."""

    content: dict[str, bytes] = field(default_factory=dict)

    async def read(self, url: str, where: str, most: int, *_: object) -> bytes:
        if url not in self.content:
            raise InputError("no-such-object", where, f"there is no {url}")
        return self.content[url]

    async def names(self, prefix: str, where: str, most: int) -> list[str]:
        names = (url.removeprefix(f"{prefix}/") for url in self.content if url.startswith(prefix))
        return sorted(name for name in names if "/" not in name)

    async def write(self, url: str, content: bytes) -> None:
        self.content[url] = content


@dataclass
class Outbox:
    """Stands in for `OutboxPublisher`, which is woken when there is something to tell."""

    woken: int = 0
    fault: str | None = None

    def wake(self) -> None:
        self.woken += 1


@dataclass
class Told:
    """Stands in for what is told of a run: recorder, sampler and shadow."""

    stored: list[Any] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    offered: list[tuple[Any, ...]] = field(default_factory=list)

    def run_stored(self, run: Any, seconds: dict[str, float]) -> None:
        self.stored.append((run, seconds))

    def run_failed(self, version: int, code: str, seconds: float) -> None:
        self.failed.append((version, code))

    def offer(self, *what: Any) -> None:
        self.offered.append(what)


def publish(folder: Path, version: int, answer: Network, **changes: Any) -> UNetModel:
    """A version's card and golden tile where `ModelFiles` reads them."""
    image = np.random.default_rng(1).normal(size=(1, 1, TILE, TILE)).astype(np.float32)
    golden = Golden(image, answer(image)).to_npz()
    more: dict[str, bytes] = changes.pop("files", {})
    files = {"model.onnx": b"weights %d" % version, "golden.npz": golden, **more}
    card = UNetModel(
        name=NAME,
        version=version,
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        input=TensorSpec(name="image", shape=(-1, 1, TILE, TILE)),
        output=TensorSpec(name="probability", shape=(-1, 1, TILE, TILE)),
        overlap=32,
        digests={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        **changes,
    )
    place = folder / NAME / str(version)
    place.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, "card.json": card.to_json()}.items():
        (place / name).write_bytes(content)
    return card


def model_service(folder: Path, triton: Tritons, **config: Any) -> ModelService:
    """The real service, on a folder and on stand-ins of Triton."""
    files = ModelFiles(folder, Objects())  # type: ignore[arg-type]
    return ModelService(ModelConfig(**config), files, triton)  # type: ignore[arg-type]


def routing_service(memory: Any, models: ModelService, outbox: Any) -> RoutingService:
    """The real service, in which every exposure of a canary that ends by itself is a pair."""
    return RoutingService(
        database=memory,
        models=models,
        outbox=outbox,
        event_source=SOURCE,
        book=BOOK,
        canary_pairs=1.0,
    )


def exposure(
    *sources: tuple[float, float], shape: tuple[int, int] = (100, 120), seed: int = 7
) -> bytes:
    """A ``.npy`` file: noise of sigma 1 with point sources of 30 sigma at x, y."""
    image = np.random.default_rng(seed).normal(size=shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for x0, y0 in sources:
        image += 30 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.7**2))
    stream = io.BytesIO()
    np.save(stream, image.astype(np.float32))
    return stream.getvalue()


def submission(content: bytes | None = None, **request: Any) -> Submission:
    """An exposure of one source, and how to score it."""
    if content is None:
        content = exposure((60.0, 50.0))
    return Submission(content=content, filename="night.npy", request=InferRequest(**request))


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    """A service's loop, while the block runs."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    """Let others work until something is so."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)
