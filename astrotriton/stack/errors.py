"""What can go wrong with a stack, said so that its owner can mend it."""

from pathlib import Path


class StackError(RuntimeError):
    """The stack cannot do what was asked of it."""


class StackInUseError(StackError):
    """Another process owns the data folder.

    Parameters
    ----------
    data
        The data folder.
    owner
        Process id of its owner; None if it could not be told.
    """

    def __init__(self, data: Path, owner: int | None) -> None:
        by = f"process {owner}" if owner else "another process"
        super().__init__(f"{data} is in use by {by}: stop that stack first (make down)")
        self.owner = owner


class PartError(StackError):
    """A part did not become ready, or ended while it was needed.

    Parameters
    ----------
    part
        Its name (``postgres``, ``triton``, ...).
    reason
        What happened.
    log
        Where the part writes what it says; the end of it becomes part of the message.
    """

    def __init__(self, part: str, reason: str, log: Path | None = None) -> None:
        message = f"{part} {reason}"
        if log is not None and (tail := _tail(log)):
            message += f"\n--- the end of {log} ---\n{tail}"
        super().__init__(message)
        self.part = part
        self.reason = reason


class GoldenMismatchError(StackError):
    """A served model version does not answer what its reference answered."""


class ModelBusyError(StackError):
    """Triton has too much to do to answer a golden tile."""


class ModelStuckError(StackError):
    """Triton took a golden tile, and does not answer it."""


def _tail(log: Path, lines: int = 20, most: int = 16_384) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - most))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
