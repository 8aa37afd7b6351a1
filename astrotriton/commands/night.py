"""What a person sees of many exposures that are scored."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import click

from astrotriton.cli import fail
from astrotriton.client import (
    AsyncClient,
    InferRequest,
    Night,
    NightError,
    score_night,
)
from astrotriton.client.ledger import LEDGER, reasons
from astrotriton.client.night import arrivals, exposures_of
from astrotriton.client.night_tables import TableError, write_table
from astrotriton.commands.progress import NightProgress

_LOOK = 1.0  # seconds between two looks at a watched folder
_REASONS = 5  # that are shown
_UNDER_WAY = 20


def night(
    connect: Callable[[], AsyncClient],
    *,
    paths: Sequence[str],
    watch: Path | None,
    out: Path,
    request: InferRequest,
    planes: dict[str, str],
    jobs: int,
    form: str | None,
) -> None:
    """Score exposures into a folder, and say how it goes; end the process with what came of it.

    With a format, all their detections are written into one table there, however it ends.

    The exit status is 0 if all are done, 1 if one failed, and 130 after Ctrl-C.
    """
    try:
        given = exposures_of(paths)
    except NightError as error:
        fail("score", error)
    if not given and watch is None:
        tables = f"{', '.join(paths)}: only tables that astrotriton wrote; " if paths else ""
        fail("score", f"{tables}give the PATH of an exposure, or --watch a folder")
    became, began = Night(), time.monotonic()
    show = NightProgress(None if watch is not None else len(given), became)

    async def run() -> None:
        async with connect() as client:
            source = given if watch is None else _with_arrivals(given, watch)
            await score_night(
                client,
                source,
                out,
                request,
                jobs=jobs,
                planes=planes,
                on_end=show,
                on_progress=show.background,
                night=became,
            )

    interrupted = False
    try:
        with show:
            asyncio.run(run())
    except KeyboardInterrupt:
        interrupted = True
    except BaseExceptionGroup as group:
        fail("score", group.exceptions[0])
    except NightError as error:
        fail("score", error)
    _summary(became, out, time.monotonic() - began, interrupted)
    if form is not None:
        try:
            click.echo(f"all detections: {write_table(out, became.answers, form)}")
        except TableError as error:
            fail("score", error)
    if interrupted:
        sys.exit(130)
    sys.exit(1 if became.failed else 0)


async def _with_arrivals(given: Sequence[str], watch: Path) -> AsyncIterator[str]:
    for path in given:
        yield path
    async for path in arrivals(watch, _LOOK):
        yield path


def _summary(became: Night, out: Path, seconds: float, interrupted: bool) -> None:
    done = len(became.done)
    parts = [f"{done} scored in {seconds:.0f} s ({done / max(seconds, 1e-3):.2g} a second)"]
    if became.skipped:
        parts.append(f"{became.skipped} were done before")
    if became.failed:
        parts.append(f"{len(became.failed)} failed")
    real = sum(entry.real for entry in became.done)
    found = sum(entry.detections for entry in became.done)
    click.echo(f"{', '.join(parts)}; {real} of {found} detections called real; {out / LEDGER}")
    for reason, count in reasons(became.failed)[:_REASONS]:
        click.echo(f"  {count} failed: {reason}", err=True)
    if became.failed:
        click.echo("the same command again tries those that failed", err=True)
    if interrupted:
        _say_what_goes_on(became)


def _say_what_goes_on(became: Night) -> None:
    """Which runs outlive the command, and which exposures the gateway gives up with it."""
    going_on = became.background
    if going_on:
        click.echo(
            "these runs go on in the gateway; the same command again fetches their answers:",
            err=True,
        )
        for name, run_id in list(going_on.items())[:_UNDER_WAY]:
            click.echo(f"  {run_id}  {name}", err=True)
    rest = [name for name in became.under_way if name not in going_on]
    if rest:
        click.echo(
            "the gateway gives these up, unless they had just ended; the same command again scores "
            "them:",
            err=True,
        )
        for name in rest[:_UNDER_WAY]:
            click.echo(f"  {name}", err=True)
