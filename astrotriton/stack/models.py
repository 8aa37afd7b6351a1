"""The models that a stack's Triton serves: loaded, proven, looked after."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import tritonclient.grpc.aio as client
from tritonclient.utils import InferenceServerException

from astrotriton.stack.errors import (
    GoldenMismatchError,
    ModelBusyError,
    ModelStuckError,
    StackError,
)
from astrotriton.stack.golden import check_golden
from astrotriton.triton.versions import ready_versions

# A model whose process lacks a library never says so: it just doesn't load.
_LOAD_DEADLINE = 120.0

_LOOK_DEADLINE = 10.0
# A server that is stopped for a while comes back by itself; this many looks it may miss.
_MISSES = 3
_SECOND_LOOK = 1.0


class Models:
    """What is served, by name.

    Parameters
    ----------
    address
        ``host:port`` of Triton's gRPC service.
    repository
        Its model repository.
    tell
        Told what happens.
    """

    def __init__(self, address: str, repository: Path, tell: Callable[[str], None]) -> None:
        self._address = address
        self._repository = repository
        self._tell = tell
        self._names: list[str] = []
        self._failures: dict[str, int] = {}
        self._proven: dict[str, float] = {}

    async def load(self, name: str) -> tuple[int, ...]:
        """Load a model and prove every version that Triton then serves.

        Returns
        -------
        tuple of int
            The versions served, ascending.

        Raises
        ------
        StackError
            If Triton refuses it.
        GoldenMismatchError
            If a version answers wrongly; the model is unloaded again.
        """
        versions = await self._load(name, thorough=True)
        if name not in self._names:
            self._names.append(name)
        return versions

    async def load_again(self) -> None:
        """Load and prove what was served, in a server that has just started."""
        for name in self._names:
            await self._load(name, thorough=False)

    async def look_after(self, ready: asyncio.Event, interval: float, proof_interval: float) -> str:
        """Look at the models for as long as that helps.

        A model is proven when a request to it failed, and after a while in any case; cheaply, since
        what is missed now shows the next time that a request fails. A model that answers wrongly,
        or has lost an instance, is unloaded and loaded; without an answer, only a new server helps.

        Parameters
        ----------
        ready
            Set while the server is there.
        interval, proof_interval
            Seconds between two looks, and between two proofs without a failed request.

        Returns
        -------
        str
            Why only a new server can help.
        """
        misses = 0
        while True:
            await asyncio.sleep(interval)
            if not ready.is_set():
                await ready.wait()
                misses = 0
            for name in self._names:
                try:
                    await self._look(name, proof_interval)
                    misses = 0
                except ModelBusyError:
                    misses = 0  # It works.
                except InferenceServerException as error:
                    misses += 1
                    if misses >= _MISSES:
                        return f"does not answer: {error.message()}"
                except ModelStuckError as error:
                    # What hangs is not an instance, of which Triton would say so.
                    return str(error)
                except GoldenMismatchError as error:
                    self._tell(f"loading {name} again: {error}")
                    try:
                        await self._renew(name)
                    except (StackError, InferenceServerException) as failure:
                        return f"does not load {name} again: {failure}"

    async def _look(self, name: str, proof_interval: float) -> None:
        async with client.InferenceServerClient(self._address) as server:
            failures = await _failures(server, name)
            due = time.monotonic() - self._proven[name] >= proof_interval
            if due or failures != self._failures[name]:
                try:
                    await self._prove(server, name, thorough=False)
                except GoldenMismatchError:
                    # Perhaps somebody is just changing which versions are served.
                    await asyncio.sleep(_SECOND_LOOK)
                    await self._prove(server, name, thorough=False)

    async def _renew(self, name: str) -> None:
        async with client.InferenceServerClient(self._address) as server:
            await server.unload_model(name, client_timeout=_LOAD_DEADLINE)
        await self._load(name, thorough=False)

    async def _load(self, name: str, *, thorough: bool) -> tuple[int, ...]:
        self._tell(f"loading {name}")
        async with client.InferenceServerClient(self._address) as server:
            try:
                await server.load_model(name, client_timeout=_LOAD_DEADLINE)
                try:
                    proven = await self._prove(server, name, thorough=thorough)
                except GoldenMismatchError:
                    await server.unload_model(name, client_timeout=_LOAD_DEADLINE)
                    raise
            except InferenceServerException as error:
                raise StackError(f"triton does not load {name}: {error.message()}") from error
        for version, difference in proven.items():
            self._tell(f"{name} {version} agrees with its reference ({difference:.1e})")
        return tuple(proven)

    async def _prove(
        self, server: client.InferenceServerClient, name: str, *, thorough: bool
    ) -> dict[int, float]:
        """Compare every served version with its reference: the largest difference of each."""
        index = await server.get_model_repository_index(client_timeout=_LOOK_DEADLINE)
        versions = ready_versions(index, name)
        if not versions:
            raise GoldenMismatchError(f"no version of {name} is ready")
        folder = self._repository / name
        proven = {
            version: await check_golden(self._address, folder / str(version), thorough=thorough)
            for version in versions
        }
        self._failures[name] = await _failures(server, name)
        self._proven[name] = time.monotonic()
        return proven


async def _failures(server: client.InferenceServerClient, name: str) -> int:
    """How many requests to a model failed since it was loaded."""
    statistics = await server.get_inference_statistics(name, client_timeout=_LOOK_DEADLINE)
    return sum(model.inference_stats.fail.count for model in statistics.model_stats)
