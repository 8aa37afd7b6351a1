"""Runs one part under its guard: start, wait until it answers, stop."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from astrotriton.stack.errors import PartError
from astrotriton.stack.site import Site

_GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True, kw_only=True)
class Part:
    """How one server of the stack is run.

    Attributes
    ----------
    name
        Names its folder and its log too.
    command
        The server, staying in the foreground.
    environment
        All of its environment.
    ports
        Ports that the process itself must hold before it is asked anything: whatever answers on
        them before that is somebody else.
    check
        Raises until the server answers as it should; may finish setting it up, and may be repeated.
    steps
        Commands to be run to their end before it, in the same environment.
    patience
        Seconds that it may take to be ready.
    stop_signal, grace
        What asks it to end, and the seconds until it is made to.
    user
        Who runs it; None for the stack's own user.
    leftovers
        Patterns of files outside the data folder that it may leave behind.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    check: Callable[[], Awaitable[None]]
    ports: frozenset[int] = frozenset()
    steps: Sequence[Sequence[str]] = ()
    patience: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    user: str | None = None
    leftovers: Sequence[str] = ()


@asynccontextmanager
async def alone(describe: Callable[[Site], Part], data: Path) -> AsyncIterator[Site]:
    """Run one part without the rest of a stack, until the block ends.

    Parameters
    ----------
    describe
        What is run.
    data
        A folder of its own.

    Raises
    ------
    PartError
        If it does not become ready.
    """
    site = Site(data)
    try:
        process = await PartProcess.launch(describe(site), site)
        try:
            await process.until_ready()
            yield site
        finally:
            await process.stop()
    finally:
        site.release()


class PartProcess:
    """A part that runs. Make one with `launch`."""

    def __init__(self, part: Part, log: Path, guard: asyncio.subprocess.Process) -> None:
        self.part = part
        self._log = log
        self._guard = guard

    @classmethod
    async def launch(cls, part: Part, site: Site) -> "PartProcess":
        """Run the part's steps, then start it; it is not ready yet.

        Raises
        ------
        PartError
            If a step fails.
        """
        log = site.log(part.name)
        if log.exists():
            # If it died, that is where it says why.
            log.replace(log.with_suffix(".previous.log"))
        for pattern in part.leftovers:
            for path in Path("/").glob(pattern.lstrip("/")):
                path.unlink(missing_ok=True)
        for step in part.steps:
            await run_to_end(part, step, site)
        return cls(part, log, await _guarded(part, part.command, site))

    async def until_ready(self) -> None:
        """Wait until the part holds its ports and passes its check.

        Raises
        ------
        PartError
            If it ends, or takes longer than its patience.
        """
        part = self.part
        deadline = time.monotonic() + part.patience
        reason = "it has not opened its ports"
        while time.monotonic() < deadline:
            if self._guard.returncode is not None:
                raise self._ended()
            if part.ports <= self._listening():
                try:
                    async with asyncio.timeout(10.0):
                        return await part.check()
                except Exception as error:  # Clients fail in many ways while a server starts.
                    reason = f"{type(error).__name__}: {error}"
            await asyncio.sleep(0.1)
        raise PartError(
            part.name, f"was not ready within {part.patience:g} s ({reason})", self._log
        )

    async def watch(self) -> PartError:
        """Wait for the part's end."""
        await self._guard.wait()
        return self._ended()

    def terminate(self) -> None:
        """Ask for the end of the part, without waiting for it."""
        if self._guard.returncode is None:
            self._guard.terminate()

    async def stop(self) -> None:
        """End the part and all that it started."""
        self.terminate()
        try:
            async with asyncio.timeout(self.part.grace + 10.0):
                await self._guard.wait()
        except TimeoutError:
            # The part dies with its guard; what else there is, the sweep finds.
            self._guard.kill()
            await self._guard.wait()

    def _ended(self) -> PartError:
        return PartError(self.part.name, _how(self._guard.returncode), self._log)

    def _listening(self) -> set[int]:
        """Ports on which the part, or a process that it started, listens."""
        ports = set()
        try:
            for process in psutil.Process(self._guard.pid).children(recursive=True):
                ports |= {
                    connection.laddr.port
                    for connection in process.net_connections("tcp")
                    if connection.status == psutil.CONN_LISTEN
                }
        except psutil.Error:  # One of them ended meanwhile.
            pass
        return ports


async def run_to_end(part: Part, command: Sequence[str], site: Site) -> None:
    """Run a command as the part would be run, and wait for its end.

    Raises
    ------
    PartError
        If it fails, or takes longer than the part's patience.
    """
    guard = await _guarded(part, command, site)
    log = site.log(part.name)
    try:
        async with asyncio.timeout(part.patience):
            status = await guard.wait()
    except TimeoutError:
        raise PartError(part.name, f"took longer than {part.patience:g} s", log) from None
    finally:
        if guard.returncode is None:
            guard.terminate()
            await guard.wait()
    if status != 0:
        raise PartError(part.name, _how(status), log)


async def _guarded(part: Part, command: Sequence[str], site: Site) -> asyncio.subprocess.Process:
    options = [f"--owner={os.getpid()}", f"--stop-signal={part.stop_signal:d}"]
    options += [f"--grace={part.grace}", *(f"--leftover={glob}" for glob in part.leftovers)]
    if part.user is not None:
        options.append(f"--user={part.user}")
    with site.log(part.name).open("ab") as log:
        # The guard holds the lock on the data folder for as long as the part runs. Its parent death
        # signal follows the thread that starts it, which is the event loop's.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_GUARD), *options, "--", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=site.folder(part.name),
            env=dict(part.environment),
            start_new_session=True,
            pass_fds=(site.lock,),
        )


def _how(status: int | None) -> str:
    if status is not None and status > 128:
        return f"was ended by {signal.Signals(status - 128).name}"
    if status is not None and status < 0:
        return f"was ended with its guard, by {signal.Signals(-status).name}"
    return f"ended with status {status}"
