"""Keeps a stack serving in a process of its own, and finds and stops it again."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from astrotriton.folders import IMPORTS
from astrotriton.stack import guard
from astrotriton.stack.errors import StackError, StackInUseError
from astrotriton.stack.healing import Healing
from astrotriton.stack.site import Addresses, is_held, owner_of, read_state
from astrotriton.stack.stack import Progress, Stack

_POLL = 0.2

# All parts end within this; a guard kills what does not (see `process.Part.grace`).
_END_PATIENCE = 60.0


def running(data: Path) -> Addresses | None:
    """Addresses of the stack that serves from a data folder; None if none is ready."""
    state = read_state(data)
    if state is None or not state.ready or state.owner != owner_of(data):
        return None
    return state.addresses


def up(data: Path, command: Sequence[str], *, on_progress: Progress) -> Addresses:
    """Start a stack that keeps serving when this process ends, and wait until it is ready.

    Parameters
    ----------
    data
        The data folder.
    command
        A command that owns a `Stack` on that folder, brings it up and calls `Stack.announce`. Its
        output goes to ``logs/owner.log`` in the folder.
    on_progress
        Told of every step of the new stack.

    Returns
    -------
    Addresses
        Of the new stack, or of the one that served already.

    Raises
    ------
    StackInUseError
        If another one is just starting, or ending.
    StackError
        If it ends before it is ready, with its reason.
    """
    if (addresses := running(data)) is not None:
        return addresses
    if (pid := owner_of(data)) is not None:
        raise StackInUseError(data, pid)
    log = data / "logs" / "owner.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        owner = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(IMPORTS)},
        )
    seen: dict[str, str] = {}
    try:
        while owner.poll() is None:
            state = read_state(data)
            if state is not None and state.owner == owner.pid:
                for part, what in state.parts.items():
                    if seen.get(part) != what:
                        on_progress(part, what)
                seen = state.parts
                if state.ready:
                    return state.addresses
            time.sleep(_POLL)
    except BaseException:
        owner.terminate()
        owner.wait()
        raise
    state = read_state(data)
    if state is not None and state.owner == owner.pid and state.failure:
        raise StackError(state.failure)
    raise StackError(f"the stack ended before it was ready: see {log}")


def down(data: Path) -> bool:
    """Stop the stack of a data folder and wait until nothing of it runs; False if there was none.

    Raises
    ------
    StackError
        If something of it still runs after a minute.
    """
    if not is_held(data):
        return False
    if (pid := owner_of(data)) is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            owner = psutil.Process(pid)
            owner.terminate()
            try:
                owner.wait(_END_PATIENCE)
            except psutil.TimeoutExpired:
                owner.kill()  # Its guards notice, and end the parts.
    deadline = time.monotonic() + _END_PATIENCE
    while is_held(data):
        if time.monotonic() > deadline:
            raise StackError(f"something still runs from {data}: see its logs")
        time.sleep(_POLL)
    return True


async def bring_up(stack: Stack) -> None:
    """Start every part, and serve every model of the repository.

    Raises
    ------
    StackError
        If a part or a model does not come up, or there is no model.
    """
    await stack.start_base()
    models = sorted(path.parent.name for path in stack.repository.glob("*/config.pbtxt"))
    if not models:
        raise StackError(f"{stack.repository} holds no model: export one first")
    for name in models:
        await stack.load_model(name)
    await stack.start_gateway()


def own(
    data: Path, repository: Path, bring_up: Callable[[Stack], Awaitable[None]] = bring_up
) -> int:
    """Own a stack that serves and heals itself, until SIGTERM: what a process started by `up` does.

    Parameters
    ----------
    data, repository
        As `Stack` takes them.
    bring_up
        Brings the parts up.

    Returns
    -------
    int
        The exit status: 1 if the stack failed, which stderr then explains.
    """
    try:
        asyncio.run(_serve(data, repository, bring_up))
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _serve(
    data: Path, repository: Path, bring_up: Callable[[Stack], Awaitable[None]]
) -> None:
    cancel_on_signals()
    with contextlib.suppress(asyncio.CancelledError):
        async with Stack(data, repository, healing=Healing(), on_progress=_print) as stack:
            await bring_up(stack)
            stack.announce()
            await asyncio.Event().wait()


def _print(part: str, what: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}  {part:<8}  {what}", flush=True)


def cancel_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the current task as Ctrl-C does, so that it cleans up."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def end_with_parent() -> None:
    """Let this process get SIGTERM when its parent ends, however it ends."""
    guard.prctl(guard.PR_SET_PDEATHSIG, signal.SIGTERM)


def serve_command(data: Path, repository: Path) -> list[str]:
    """The command that runs `own` with every model of a repository, for `up`."""
    return [
        sys.executable,
        "-m",
        "astrotriton.stack",
        str(data.resolve()),
        str(repository.resolve()),
    ]
