"""``python -m astrotriton.owner DATA``: owns a stack that serves until it is told to stop."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from astrotriton.bringup import bring_up, repository_of
from export.errors import ExportError
from stack import Stack, StackError


def cancel_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the current task as Ctrl-C does, so that it cleans up."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _serve(data: Path) -> None:
    cancel_on_signals()

    def on_progress(part: str, what: str) -> None:
        print(f"{part:<8}  {what}", flush=True)

    with contextlib.suppress(asyncio.CancelledError):
        async with Stack(data, repository_of(data), on_progress=on_progress) as stack:
            await bring_up(stack, data, on_progress)
            stack.announce()
            await asyncio.Event().wait()


def main() -> int:
    """Serve; 1 if the stack failed, with the reason on stderr."""
    try:
        asyncio.run(_serve(Path(sys.argv[1])))
    except (StackError, ExportError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
