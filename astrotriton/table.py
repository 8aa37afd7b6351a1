"""Detections as a table that people read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from astrotriton.wire.flags import meaning_of

_WIDTH = 140  # columns that it takes
_SHOWN = 20
#: What detections can be sorted by, the largest or first; all but the place by size.
SORTED_BY = ("rank", "confidence", "snr", "flux", "x", "y")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which detections of a run are shown.

    Attributes
    ----------
    every
        All of them, not the first twenty alone.
    min_confidence
        Those that are at least so sure; None: also those that were not scored.
    sort
        One of `SORTED_BY`.
    """

    every: bool = False
    min_confidence: float | None = None
    sort: str = "rank"

    def of(self, detections: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
        """The detections that are shown, and what they are."""
        least = self.min_confidence
        kept = [one for one in detections if least is None or (one["confidence"] or -1.0) >= least]
        if self.sort != "rank":
            kept.sort(key=self._key)
        count = len(kept)
        title = f"{count} detection{'s' * (count != 1)}"
        if least is not None:
            title += f" of confidence {least:g} or more, of {len(detections)}"
        if self.every or count <= _SHOWN:
            return kept, title
        first = "most confident" if self.sort in ("rank", "confidence") else f"first by {self.sort}"
        return kept[:_SHOWN], f"The {_SHOWN} {first} of {title}"

    def _key(self, detection: dict[str, Any]) -> tuple[bool, float]:
        value = detection[self.sort]
        if value is None:
            return True, 0.0
        return False, value if self.sort in ("x", "y") else -abs(value)


def wide_console() -> Console:
    """A console that does not cut the table to 80 columns where there is no terminal to fit."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, _WIDTH)
    return console


def table(
    answer: dict[str, Any],
    truth: Callable[[dict[str, Any]], str] | None = None,
    choice: Choice | None = None,
) -> Table:
    """Detections of a run.

    Parameters
    ----------
    answer
        The gateway's answer.
    truth
        Says what the exposure really shows where a detection is, if that is known.
    choice
        Which detections are shown; without one, the most confident.
    """
    choice = choice or Choice()
    shown, title = choice.of(answer["detections"])
    made = Table(title=title)
    for name in ("rank", "x", "y", "RA", "Dec", "probability", "confidence", "real?"):
        made.add_column(name, justify="right", no_wrap=True)
    known = any(detection["mag"] is not None for detection in shown)
    if known:
        made.add_column("mag", justify="right", no_wrap=True)
    made.add_column("flags")
    if truth is not None:
        made.add_column("truth", no_wrap=True)
    for detection in shown:
        cells = [
            str(detection["rank"]),
            _number(detection["x"], 2),
            _number(detection["y"], 2),
            _number(detection["ra"], 6),
            _number(detection["dec"], 6),
            _number(detection["probability"], 4),
            _number(detection["confidence"], 4),
            "yes" if detection["is_real"] else "no",
            *([_number(detection["mag"], 2)] if known else []),
            ", ".join(detection["flags"]),
        ]
        if truth is not None:
            cells.append(truth(detection))
        made.add_row(*cells)
    return made


def remarks(answer: dict[str, Any]) -> list[str]:
    """What a user should know about the exposure of a run: a line for each of its flags."""
    return [f"{flag}: {meaning_of(flag) or 'see the documents'}" for flag in answer["flags"]]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
