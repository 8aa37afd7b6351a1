"""Owns the parts of one stack, from their start to their end."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import tritonclient.grpc.aio as client
from tritonclient.utils import InferenceServerException

from stack.errors import GoldenMismatchError, PartError, StackError
from stack.golden import check_golden
from stack.parts.gateway import gateway
from stack.parts.mlflow import mlflow
from stack.parts.nats import nats
from stack.parts.postgres import postgres
from stack.parts.s3 import s3
from stack.parts.triton import triton
from stack.process import Part, PartProcess
from stack.site import Addresses, Site, State, sweep

#: Called with a part's name and what it is at.
Progress = Callable[[str, str], None]

# A model whose process lacks a library never says so: it just doesn't load.
_LOAD_DEADLINE = 120.0

# Whoever uses another ends before it.
_ENDING = (("gateway",), ("mlflow", "nats", "triton"), ("postgres", "s3"))


class Stack:
    """The servers of astrotriton on this machine, for as long as its ``async with`` block runs.

    Entering takes the data folder and fixes the addresses; then `start_base`, `load_model` and
    `start_gateway` bring the parts up. If a running part ends by itself, the block is cancelled and
    leaves with `PartError`. Leaving stops everything.

    Parameters
    ----------
    data
        Folder that holds all state; one stack at a time may use it.
    repository
        Triton's model repository; made if missing.
    on_progress
        Told of every step.

    Raises
    ------
    StackInUseError
        On entering, if another stack uses the folder.
    """

    def __init__(
        self, data: Path, repository: Path, *, on_progress: Progress = lambda part, what: None
    ) -> None:
        self._data = data
        self._repository = repository
        self._on_progress = on_progress
        self._running: dict[str, PartProcess] = {}
        self._watches: list[asyncio.Task[None]] = []
        self._failure: PartError | None = None
        self._leaving = False

    @property
    def addresses(self) -> Addresses:
        """Where the parts answer; known from the start, before they do."""
        return self._site.addresses

    async def __aenter__(self) -> Self:
        self._owner = asyncio.current_task()
        self._repository.mkdir(parents=True, exist_ok=True)
        self._site = await asyncio.to_thread(Site, self._data)
        self._state = State(owner=os.getpid(), addresses=self._site.addresses)
        self._site.publish(self._state)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leaving = True
        try:
            if self._watches and isinstance(error, Exception) and not isinstance(error, StackError):
                # A part's end often shows first as an error of whoever was talking to it.
                await asyncio.wait(self._watches, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            self._state.ready = False
            reason = self._failure or error
            self._state.failure = str(reason or "") or None
            await self._stop()
        finally:
            self._site.publish(self._state)
            self._site.release()
        if self._failure is not None:
            if isinstance(error, asyncio.CancelledError) and self._owner is not None:
                self._owner.uncancel()
            raise self._failure from error

    async def start_base(self) -> None:
        """Bring up all that the gateway needs: PostgreSQL, S3, NATS, MLflow and Triton, together.

        Raises
        ------
        PartError
            If one of them does not become ready; its message names it and ends with its log.
        """
        site = self._site
        try:
            async with asyncio.TaskGroup() as group:
                database = group.create_task(self._bring_up(lambda: postgres(site)))
                # The slowest, so it does not wait for S3, which it asks for artefacts alone.
                group.create_task(self._bring_up(lambda: mlflow(site), after=database))
                group.create_task(self._bring_up(lambda: s3(site)))
                group.create_task(self._bring_up(lambda: triton(site, self._repository)))
                group.create_task(self._bring_up(lambda: nats(site)))
        except ExceptionGroup as group_of_errors:
            # The first is the cause: the rest was cancelled for it.
            raise group_of_errors.exceptions[0] from None

    async def load_model(self, name: str) -> tuple[int, ...]:
        """Load a model into Triton and prove every version that it then serves.

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
        self._tell("triton", f"loading {name}")
        async with client.InferenceServerClient(self.addresses.triton_grpc) as server:
            try:
                await server.load_model(name, client_timeout=_LOAD_DEADLINE)
                index = await server.get_model_repository_index(client_timeout=_LOAD_DEADLINE)
            except InferenceServerException as error:
                raise StackError(f"triton does not load {name}: {error.message()}") from error
            versions = sorted(
                int(model.version)
                for model in index.models
                if model.name == name and model.state == "READY"
            )
            try:
                for version in versions:
                    folder = self._repository / name / str(version)
                    difference = await check_golden(self.addresses.triton_grpc, folder)
                    self._tell(
                        "triton", f"{name} {version} agrees with its reference ({difference:.1e})"
                    )
            except GoldenMismatchError:
                await server.unload_model(name, client_timeout=_LOAD_DEADLINE)
                raise
        return tuple(versions)

    async def start_gateway(self) -> None:
        """Bring up the gateway; the base must be up, and a model loaded.

        Raises
        ------
        PartError
            If its migration fails, or it does not become ready.
        """
        await self._bring_up(lambda: gateway(self._site, self._repository))

    def announce(self) -> None:
        """Publish that the stack is ready, so that `running` and `up` answer with its addresses."""
        self._state.ready = True
        self._site.publish(self._state)

    async def _bring_up(
        self, describe: Callable[[], Part], *, after: asyncio.Task[None] | None = None
    ) -> None:
        if after is not None:
            await after
        part = await asyncio.to_thread(describe)
        started = time.monotonic()
        self._tell(part.name, "starting")
        process = await PartProcess.launch(part, self._site)
        self._running[part.name] = process
        await process.until_ready()
        self._watches.append(asyncio.create_task(self._watch(process)))
        self._tell(part.name, f"ready after {time.monotonic() - started:.1f} s")

    async def _watch(self, process: PartProcess) -> None:
        failure = await process.watch()
        if self._failure is None:
            self._failure = failure
            if self._owner is not None and not self._leaving:
                self._owner.cancel()

    async def _stop(self) -> None:
        for watch in self._watches:
            watch.cancel()
        try:
            for names in _ENDING:
                await asyncio.gather(*(self._end(name) for name in names if name in self._running))
        finally:
            # If this was cut short, the guards see to the rest.
            for process in self._running.values():
                process.terminate()
            sweep(self._site.data)

    async def _end(self, name: str) -> None:
        self._tell(name, "stopping")
        await self._running[name].stop()
        del self._running[name]
        self._tell(name, "stopped")

    def _tell(self, part: str, what: str) -> None:
        self._state.parts[part] = what
        self._site.publish(self._state)
        self._on_progress(part, what)
