"""What a command tells: progress on stderr, its result on stdout, its exit code."""

import contextlib
import errno
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

from astrotriton.export.errors import (
    CanaryError,
    ConversionError,
    ExportError,
    GateError,
    LoadError,
    RejectedError,
    ServingError,
    UnapprovedError,
    UnfinishedError,
    UnknownVersionError,
)

if TYPE_CHECKING:
    from astrotriton.export.manifest import Manifest
    from astrotriton.export.promotion import Live

#: Exit codes: a fault, something that there is not, a refusal by a gate or a person, servers that
#: would not take the version, a change that stopped half-way, and an approval that did not come.
FAULT, UNKNOWN, REFUSED, NOT_LIVE, UNFINISHED, UNAPPROVED = 1, 2, 3, 4, 5, 6

_FULL = (errno.ENOSPC, errno.EDQUOT)

#: The end of each command's help.
EXIT_CODES = f"""
Exit code 0: done. {FAULT}: a fault. {UNKNOWN}: no such option, model or version. {REFUSED}: refused
by a gate, a person or its canary, or a model that cannot be served. {NOT_LIVE}: a Triton or the
gateway would not take it; everything is as it was. {UNFINISHED}: it stopped half-way, after the
route changed or where not everything could be put back; it says what is live, and the same command
again finishes it. {UNAPPROVED}: nobody approved it in time; the same command waits again.
"""


@dataclass(frozen=True, slots=True)
class Report:
    """Tells a command's progress on stderr and its result on stdout."""

    command: str
    as_json: bool

    def progress(self, what: str) -> None:
        """What comes next."""
        click.secho(f"  {what}", dim=True, err=True)

    def result(self, text: str, **data: Any) -> None:
        """The end of it, for people or as JSON."""
        click.echo(json.dumps(data, indent=2) if self.as_json else text)

    def fail(self, error: ExportError) -> NoReturn:
        """End the command with its error."""
        code = FAULT
        if isinstance(error, (GateError, CanaryError, ConversionError, LoadError, RejectedError)):
            code = REFUSED
        elif isinstance(error, ServingError):
            code = NOT_LIVE
        elif isinstance(error, UnfinishedError):
            code = UNFINISHED
        elif isinstance(error, UnapprovedError):
            code = UNAPPROVED
        elif isinstance(error, UnknownVersionError):
            code = UNKNOWN
        notes = getattr(error, "__notes__", [])
        if self.as_json:
            data: dict[str, Any] = {"error": str(error), "notes": notes, "exit_code": code}
            if isinstance(error, GateError):
                data["manifest"] = msgspec.to_builtins(error.manifest)
            click.echo(json.dumps(data, indent=2))
        else:
            if isinstance(error, GateError):
                click.echo(gates_text(error.manifest))
            for line in (f"{self.command} failed: {error}", *notes):
                click.secho(line, fg="red", err=True)
        raise SystemExit(code)

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Tell an `ExportError`, or that a disk is full, and end."""
        try:
            yield
        except ExportError as error:
            self.fail(error)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.fail(ExportError(f"{error.strerror}: {error.filename or tempfile.gettempdir()}"))


def gates_text(manifest: "Manifest") -> str:
    """The gates of a version, a line each."""
    lines = [
        f"{'passed' if gate.passed else 'FAILED'}  {gate.name:<16} {gate.detail}"
        for gate in manifest.gates
    ]
    lines += [f"note    {warning}" for warning in manifest.warnings]
    if manifest.approval is not None:
        lines.append(f"passed  {'approval':<16} {manifest.approval}")
    made = f", converted by {manifest.exporter}" if manifest.exporter else ""
    return "\n".join([f"{manifest.name} version {manifest.version}{made}", *lines])


def live_text(live: "Live") -> str:
    """Which versions of a model are live now."""
    text = f"{live.name}: version {live.champion} is the champion"
    if live.previous_champion is not None:
        text += f"; `astrotriton rollback {live.name}` brings {live.previous_champion} back"
    if live.challenger is not None:
        share = f"{live.challenger.fraction:.0%} of the runs"
        text += f"\nversion {live.challenger.version} is tried as {live.challenger.mode} on {share}"
    if live.removed:
        gone = ", ".join(map(str, live.removed))
        text += f"\nremoved from the repository, and not to be gone back to: {gone}"
    return "\n".join([text, *(f"note: {note}" for note in live.notes)])
