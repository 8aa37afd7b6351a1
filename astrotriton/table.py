"""Detections as a table that people read."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH = 140  # columns that it takes
_SHOWN = 20


def wide_console() -> Console:
    """A console that does not cut the table to 80 columns where there is no terminal to fit."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, _WIDTH)
    return console


def table(answer: dict[str, Any], truth: Callable[[dict[str, Any]], str] | None = None) -> Table:
    """The most confident detections of a run.

    Parameters
    ----------
    answer
        The gateway's answer.
    truth
        Says what the exposure really shows where a detection is, if that is known.
    """
    count = len(answer["detections"])
    title = f"{count} detection{'s' * (count != 1)}"
    made = Table(title=title if count <= _SHOWN else f"The {_SHOWN} most confident of {title}")
    for name in ("rank", "x", "y", "RA", "Dec", "probability", "confidence", "real?"):
        made.add_column(name, justify="right", no_wrap=True)
    known = any(detection["mag"] is not None for detection in answer["detections"][:_SHOWN])
    if known:
        made.add_column("mag", justify="right", no_wrap=True)
    made.add_column("flags")
    if truth is not None:
        made.add_column("truth", no_wrap=True)
    for detection in answer["detections"][:_SHOWN]:
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


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
