"""A whole stack in a thread, with a second Triton, for the tests of promotion."""

import asyncio
import contextlib
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import mlflow
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from astrotriton.cli import main
from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.export import registry
from astrotriton.export.accuracy import ValidationSet
from astrotriton.export.gates.version import Trial
from astrotriton.export.gateway_routes import Gateway
from astrotriton.export.promotion import Serving
from astrotriton.export.release import Role, release
from astrotriton.export.repository import Repository
from astrotriton.one_machine.trial_triton import open_sandbox
from astrotriton.settings import ModelConfig
from astrotriton.stack import Addresses, Stack
from benchmarks.clients import asking_meanwhile
from tests.unit.export import samples

T = TypeVar("T")

NAME = "unet_small"
SETTINGS = ModelConfig(model_name=NAME, input_size=(64, 64), batch_size=8, enable_gpu=False)
FIELDS = 6
# Answers of a few milliseconds on a busy machine, so only what is much slower is called slow.
LIMITS = GateLimits(max_ece=0.2, max_latency_ratio=3.0, max_memory_ratio=3.0)


def golden_tiles(card):
    return {"simulated": samples.tiles()}


def validation():
    return ValidationSet([samples.field(i) for i in range(FIELDS)], f"{FIELDS} fields of the tests")


def trial(**changes):
    made = {"validation": validation, "open_sandbox": open_sandbox, "limits": LIMITS}
    return Trial(**{**made, **changes})


def content_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@dataclass
class Site:
    """Everything that a promotion touches."""

    addresses: Addresses
    root: Path
    replicas: list[str]
    start_gateway: object
    data: Path
    gateway: Gateway | None = None

    def serving(self, **changes) -> Serving:
        made = {
            "repository": Repository(self.root),
            "replicas": self.replicas,
            "gateway": self.gateway,
            "settings": SETTINGS,
            "profile": "cpu",
            "drain": 0.5,
        }
        return Serving(**{**made, **changes})

    def release(self, version, role: Role | None = None, **more):
        return release(
            f"models:/{NAME}/{version}",
            self.serving(),
            golden_tiles,
            more.pop("trial", None) or trial(),
            role or Role(),
            **more,
        )

    def state(self) -> tuple:
        """Repository, aliases and route, to be compared."""
        route = self.gateway.route(NAME) if self.gateway else None
        return content_of(self.root), registry.aliases(NAME), route

    def environment(self) -> dict[str, str]:
        """For a process of its own that promotes."""
        return {
            **os.environ,
            "MLFLOW_TRACKING_URI": self.addresses.mlflow_url,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }


@contextlib.contextmanager
def whole_stack(folder: Path) -> Iterator[Site]:
    """The servers of the one-machine stack, and one more Triton on the same repository."""
    root, data = folder / "model_repository", folder / "data"
    started, stop = threading.Event(), asyncio.Event()
    made: dict = {}

    async def own() -> None:
        async with Stack(data, root) as stack:
            await stack.start_base()
            made.update(stack=stack, loop=asyncio.get_running_loop())
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(own())
        except BaseException as error:
            made["error"] = error
        finally:
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        started.wait()
        if "error" in made:
            raise made["error"]
        stack: Stack = made["stack"]

        def start_gateway(name: str = NAME, **more: str) -> Gateway:
            environment = {
                "ASTROTRITON_MODEL_NAME": name,
                "ASTROTRITON_INPUT_SIZE": "[64, 64]",
                "ASTROTRITON_MAX_RUNS": "4",
                # Automatic canaries of a few seconds; the versions of these tests are not equal.
                "ASTROTRITON_CANARY_STEPS": "[0.3, 1.0]",
                "ASTROTRITON_CANARY_PAIRS": "1",
                "ASTROTRITON_CANARY_EXPOSURES": "3",
                "ASTROTRITON_CANARY_RUNS": "2",
                "ASTROTRITON_CANARY_LEAST_SECONDS": "0",
                "ASTROTRITON_CANARY_INTERVAL": "0.2",
                "ASTROTRITON_CANARY_DISAGREEMENT": "0.9",
                "ASTROTRITON_CANARY_SCORE_SHIFT": "0.24",
                "ASTROTRITON_CANARY_LATENCY_RATIO": "10",
                **more,
            }
            with pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                asyncio.run_coroutine_threadsafe(stack.start_gateway(), made["loop"]).result()
            return Gateway(stack.addresses.gateway_url)

        with open_sandbox(root) as second:
            yield Site(
                addresses=stack.addresses,
                root=root,
                replicas=[stack.addresses.triton_grpc, second.address],
                start_gateway=start_gateway,
                data=data,
            )
    finally:
        if thread.is_alive() and "loop" in made:
            made["loop"].call_soon_threadsafe(stop.set)
        thread.join()
        if "error" in made:
            raise made["error"]


@dataclass
class Answer:
    began: float
    ended: float
    status: int
    version: int | None
    text: str = ""


@dataclass
class Client:
    """Sends exposures to the gateway without pause."""

    url: str
    answers: list[Answer] = field(default_factory=list)

    def ask(self, seed: int) -> Answer:
        stream = io.BytesIO()
        np.save(stream, samples.field(seed).image)
        began = time.monotonic()
        response = httpx.post(
            f"{self.url}/detections/infer",
            files={"exposure": ("exposure.npy", stream.getvalue())},
            timeout=60,
        )
        version = response.json()["model"]["version"] if response.is_success else None
        return Answer(began, time.monotonic(), response.status_code, version, response.text[:500])

    def asking(self) -> contextlib.AbstractContextManager[None]:
        async def ask(number: int, turn: int) -> None:
            self.answers.append(await asyncio.to_thread(self.ask, turn + 1))

        return asking_meanwhile(ask, clients=2)

    def wait_for(self, more: int) -> list[Answer]:
        """The next answers."""
        start = len(self.answers)
        deadline = time.monotonic() + 60
        while len(self.answers) < start + more:
            assert time.monotonic() < deadline, "the gateway does not answer"
            time.sleep(0.05)
        return self.answers[start:]


class Timeline:
    """Which versions may answer, and from when on."""

    def __init__(self, version: int) -> None:
        self._since: list[tuple[float, set[int]]] = [(0.0, {version})]

    def change(self, versions: set[int], action: Callable[[], T]) -> T:
        """While it is going on, what was and what will be routable both are."""
        self._since.append((time.monotonic(), self._since[-1][1] | versions))
        done = action()
        self._since.append((time.monotonic(), versions))
        return done

    def wrong(self, answers: list[Answer]) -> list[Answer]:
        """Those by a version that might not answer at any moment of their request."""
        return [one for one in answers if one.version not in self._routable(one)]

    def _routable(self, answer: Answer) -> set[int]:
        ends = [*(start for start, _ in self._since[1:]), float("inf")]
        known = [
            versions
            for (start, versions), end in zip(self._since, ends, strict=True)
            if start <= answer.ended and end >= answer.began
        ]
        return set().union(*known)


def set_up_registry() -> None:
    """Versions 1 and 2, both good."""
    for seed in (1, 2):
        assert registry.register(samples.detector(seed), samples.card(NAME)) == seed


def reset(site: Site, version: int) -> None:
    """Take a version out of the repository that nothing serves any more."""
    if site.serving().repository.holds(NAME, version):
        site.serving().repository.remove(NAME, version)


@contextlib.contextmanager
def promoted_site(folder: Path) -> Iterator[Site]:
    """A stack whose champion is version 1, promoted with every gate; its gateway runs."""
    before = mlflow.get_tracking_uri()
    with whole_stack(folder) as made:
        mlflow.set_tracking_uri(made.addresses.mlflow_url)
        set_up_registry()
        released = made.release(1)
        assert released.live.champion == 1
        assert [gate.name for gate in released.manifest.gates] == [
            "onnx",
            "parity",
            "batch",
            "answers",
            "detections",
            "accuracy",
            "calibration",
            "sandbox",
            "latency",
            "memory",
        ]
        made.gateway = made.start_gateway()
        yield made
    mlflow.set_tracking_uri(before)


def command_line(site: Site, patch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Runs the command line as a user of this stack would, and answers its JSON."""
    for name, value in {
        "ASTROTRITON_DATA": str(site.data.with_name("no_stack_here")),
        "ASTROTRITON_MODEL_NAME": NAME,
        "ASTROTRITON_INPUT_SIZE": "[64, 64]",
        "ASTROTRITON_BATCH_SIZE": "8",
        "ASTROTRITON_ENABLE_GPU": "false",
        "ASTROTRITON_MODEL_REPOSITORY": str(site.root),
        "ASTROTRITON_TRITON_GRPC": ",".join(site.replicas),
        "ASTROTRITON_GATEWAY_URL": site.gateway.url,
    }.items():
        patch.setenv(name, value)

    def run(*arguments: str, code: int = 0) -> dict:
        result = CliRunner().invoke(main, [*arguments, "--json"])
        assert result.exit_code == code, (result.output, result.exc_info)
        return json.loads(result.stdout)

    return run


@contextlib.contextmanager
def hanging(name: str) -> Iterator[None]:
    """Stop the processes of this test whose command has a name in it."""
    found = [
        process
        for process in psutil.Process().children(recursive=True)
        if any(name in word for word in process.cmdline())
    ]
    assert found
    for process in found:
        process.suspend()
    try:
        yield
    finally:
        for process in found:
            process.resume()
