"""Owns the parts of one stack, from their start to their end."""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Self

from astrotriton.stack.errors import PartError, StackError
from astrotriton.stack.healing import Healing, Restarts
from astrotriton.stack.models import Models
from astrotriton.stack.parts.gateway import gateway
from astrotriton.stack.parts.mlflow import mlflow
from astrotriton.stack.parts.nats import nats
from astrotriton.stack.parts.postgres import postgres
from astrotriton.stack.parts.s3 import s3
from astrotriton.stack.parts.triton import triton
from astrotriton.stack.process import Part, PartProcess
from astrotriton.stack.site import Addresses, Site, State, sweep

#: Called with a part's name and what it is at.
Progress = Callable[[str, str], None]

# Whoever needs another is started again only when that one is back.
_NEEDS = {"mlflow": ("postgres",), "gateway": ("postgres", "triton")}
# Whoever uses another ends before it.
_ENDING = (("gateway",), ("mlflow", "nats", "triton"), ("postgres", "s3"))


class Stack:
    """The servers of astrotriton on this machine, for as long as its ``async with`` block runs.

    Entering takes the data folder and fixes the addresses; then `start_base`, `load_model` and
    `start_gateway` bring the parts up. A running part that ends by itself is started again; without
    healing, or when it ends too often, the block is cancelled and leaves with `PartError`. Leaving
    stops everything.

    Parameters
    ----------
    data
        Folder that holds all state; one stack at a time may use it.
    repository
        Triton's model repository; made if missing.
    healing
        Bounds on that; None: nothing is healed.
    on_progress
        Told of every step.

    Raises
    ------
    StackInUseError
        On entering, if another stack uses the folder.
    """

    def __init__(
        self,
        data: Path,
        repository: Path,
        *,
        healing: Healing | None = None,
        on_progress: Progress = lambda part, what: None,
    ) -> None:
        self.data = data
        self.repository = repository
        self._healing = healing
        self._on_progress = on_progress
        self._running: dict[str, PartProcess] = {}
        self._ready: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._watches: list[asyncio.Task[None]] = []
        self._failure: StackError | None = None
        self._leaving = False

    @property
    def addresses(self) -> Addresses:
        """Where the parts answer; known from the start, before they do."""
        return self._site.addresses

    async def __aenter__(self) -> Self:
        self._owner = asyncio.current_task()
        self.repository.mkdir(parents=True, exist_ok=True)
        self._site = await asyncio.to_thread(Site, self.data)
        self._state = State(owner=os.getpid(), addresses=self._site.addresses)
        self._models = Models(
            self.addresses.triton_grpc, self.repository, lambda what: self.tell("triton", what)
        )
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
                group.create_task(self._bring_up(lambda: triton(site, self.repository)))
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
        return await self._models.load(name)

    async def start_gateway(self) -> None:
        """Bring up the gateway; the base must be up, and a model loaded.

        Raises
        ------
        PartError
            If its migration fails, or it does not become ready.
        """
        await self._bring_up(lambda: gateway(self._site, self.repository))

    def tell(self, part: str, what: str) -> None:
        """Publish what a part is at, and pass it on."""
        self._state.parts[part] = what
        self._site.publish(self._state)
        self._on_progress(part, what)

    def announce(self) -> None:
        """Publish that the stack is ready, so that `running` and `up` answer with its addresses.

        From now on the served models are looked after too.
        """
        self._state.ready = True
        self._site.publish(self._state)
        if self._healing is not None:
            self._watch("triton", self._watch_models(self._healing))

    async def _bring_up(
        self, describe: Callable[[], Part], *, after: asyncio.Task[None] | None = None
    ) -> None:
        if after is not None:
            await after
        process = await self._launch(describe)
        self._ready[process.part.name].set()
        self._watch(process.part.name, self._keep(process, describe))

    async def _launch(self, describe: Callable[[], Part]) -> PartProcess:
        part = await asyncio.to_thread(describe)
        started = time.monotonic()
        self.tell(part.name, "starting")
        process = await PartProcess.launch(part, self._site)
        self._running[part.name] = process
        await process.until_ready()
        self.tell(part.name, f"ready after {time.monotonic() - started:.1f} s")
        return process

    def _watch(self, name: str, watch: Coroutine[None, None, None]) -> None:
        async def run() -> None:
            try:
                await watch
            except Exception as error:  # Whatever it is, a part that nobody watches is not kept.
                self._give_up(name, error)

        self._watches.append(asyncio.create_task(run()))

    async def _keep(self, process: PartProcess, describe: Callable[[], Part]) -> None:
        """Start a part again whenever it ends, for as long as the bounds allow that."""
        healing = self._healing or Healing(restarts=0)
        restarts = Restarts(healing.restarts, healing.restarts_within)
        name = process.part.name
        failure: StackError = await process.watch()
        while not self._leaving and (pause := restarts.next_pause()) is not None:
            self._ready[name].clear()
            self._state.restarts[name] = self._state.restarts.get(name, 0) + 1
            self.tell(name, f"{_first_line(failure)}: starting it again")
            await asyncio.sleep(pause)
            for other in _NEEDS.get(name, ()):
                await self._ready[other].wait()
            try:
                process = await self._launch(describe)
                if name == "triton":
                    await self._models.load_again()
            except StackError as error:
                failure = error
                await self._running[name].stop()
            else:
                self._ready[name].set()
                failure = await process.watch()
        raise failure

    def _give_up(self, name: str, error: Exception) -> None:
        if self._failure is not None:
            return
        self._failure = error if isinstance(error, StackError) else PartError(name, repr(error))
        if count := self._state.restarts.get(name):
            self._failure = PartError(
                name, f"dies too often, {count} restarts did not help; at last: {self._failure}"
            )
        if self._owner is not None and not self._leaving:
            self._owner.cancel()

    async def _watch_models(self, healing: Healing) -> None:
        ready = self._ready["triton"]
        while True:
            reason = await self._models.look_after(
                ready, healing.probe_interval, healing.probe_proof_interval
            )
            if ready.is_set():  # Otherwise its end was what went wrong, and it is being started.
                self.tell("triton", reason)
                ready.clear()
                self._running["triton"].terminate()

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
        self.tell(name, "stopping")
        await self._running[name].stop()
        del self._running[name]
        self.tell(name, "stopped")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
