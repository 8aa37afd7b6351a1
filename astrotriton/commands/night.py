"""What a person sees of many exposures that are scored."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from astrotriton.cli import fail
from astrotriton.client import (
    AsyncClient,
    InferRequest,
    LedgerEntry,
    Night,
    NightError,
    score_night,
)
from astrotriton.client.night import LEDGER, arrivals, exposures_of, reasons

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
) -> None:
    """Score exposures into a folder, and say how it goes; end the process with what came of it.

    The exit status is 0 if all are done, 1 if one failed, and 130 after Ctrl-C.
    """
    try:
        given = exposures_of(paths)
    except NightError as error:
        fail("score", error)
    if not given and watch is None:
        fail("score", "give the PATH of an exposure, or --watch a folder")
    became, began = Night(), time.monotonic()
    show = _Progress(None if watch is not None else len(given), became)

    async def run() -> None:
        async with connect() as client:
            source = given if watch is None else _with_arrivals(given, watch)
            await score_night(
                client, source, out, request, jobs=jobs, planes=planes, on_end=show, night=became
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
    if interrupted:
        sys.exit(130)
    sys.exit(1 if became.failed else 0)


async def _with_arrivals(given: Sequence[str], watch: Path) -> AsyncIterator[str]:
    for path in given:
        yield path
    async for path in arrivals(watch, _LOOK):
        yield path


class _Progress:
    """A bar where somebody watches, a line for each exposure where it goes into a file."""

    def __init__(self, total: int | None, became: Night) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._became, self._began = became, time.monotonic()
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, rate="")

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, entry: LedgerEntry) -> None:
        if entry.status == "failed":
            self._console.print(f"{entry.exposure}: failed: {entry.reason}", markup=False)
        elif not self._console.is_terminal:
            what = f"{entry.real} real of {entry.detections}, {entry.seconds:.1f} s"
            self._console.print(f"{entry.exposure}: {what}", markup=False)
        ended = len(self._became.done) + len(self._became.failed)
        rate = ended / max(time.monotonic() - self._began, 1e-3)
        self._bar.update(
            self._task, completed=ended + self._became.skipped, rate=f"{rate:.2g} a second"
        )


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
    if interrupted and became.under_way:
        click.echo(
            "the gateway may still be scoring these; the same command again fetches their answers:",
            err=True,
        )
        for name in became.under_way[:_UNDER_WAY]:
            click.echo(f"  {name}", err=True)
