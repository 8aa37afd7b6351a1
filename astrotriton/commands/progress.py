"""How far scoring is, for a person who watches."""

import time
from uuid import UUID

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from astrotriton.client import LedgerEntry, Night


class _Done(ProgressColumn):
    """How many exposures have ended, or how far one is in itself."""

    def render(self, task: Task) -> Text:
        if isinstance(task.total, float):
            return Text(f"{task.percentage:.0f} %", style="progress.percentage")
        return Text(f"{task.completed:.0f}/{'?' if task.total is None else f'{task.total:.0f}'}")


class NightProgress:
    """A bar where somebody watches, a line for each exposure where it goes into a file."""

    def __init__(self, total: int | None, became: Night) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._became, self._began = became, time.monotonic()
        self._bar = Progress(
            BarColumn(),
            _Done(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, rate="")
        self._shares: dict[str, TaskID] = {}

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def background(self, exposure: str, share: float) -> None:
        """Show how far an exposure is in itself, which is large."""
        task = self._shares.get(exposure)
        if task is None:
            task = self._shares[exposure] = self._bar.add_task("", total=1.0, rate=exposure)
        self._bar.update(task, completed=share)

    def __call__(self, entry: LedgerEntry) -> None:
        """Show that an exposure has ended."""
        if (task := self._shares.pop(entry.exposure, None)) is not None:
            self._bar.remove_task(task)
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


class RunProgress:
    """A bar of the tiles that the network has answered, where somebody watches."""

    def __init__(self, exposure: str) -> None:
        console = Console(stderr=True, highlight=False)
        self.seen = console.is_terminal
        self.run: UUID | None = None
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not self.seen,
            transient=True,
        )
        self._task = self._bar.add_task(exposure, total=1.0, visible=False)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, run: UUID, share: float) -> None:
        """Show how far the run is."""
        self.run = run
        self._bar.update(self._task, completed=share, visible=True)
