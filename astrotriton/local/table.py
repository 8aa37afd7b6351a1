"""Detections as a table that people read."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from astrotriton.detection.assurance.evaluation import MATCH_RADIUS
from astrotriton.simulation.fields import Source

_WIDTH = 140  # columns that it takes
_SHOWN = 20
_ARTEFACT_RADIUS = 8.0  # artefacts are larger


def wide_console() -> Console:
    """A console that does not cut the table to 80 columns where there is no terminal to fit."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, _WIDTH)
    return console


def table(answer: dict[str, Any], truth: Sequence[Source] = ()) -> Table:
    """The most confident detections of a run.

    Parameters
    ----------
    answer
        The gateway's answer.
    truth
        What the exposure really shows, if that is known.
    """
    made = Table(title=f"The {_SHOWN} most confident of {len(answer['detections'])} detections")
    for name in ("rank", "x", "y", "RA", "Dec", "probability", "confidence", "real?"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("flags")
    if truth:
        made.add_column("truth", no_wrap=True)
    for detection in answer["detections"][:_SHOWN]:
        cells = [
            str(detection["rank"]),
            f"{detection['x']:.2f}",
            f"{detection['y']:.2f}",
            _number(detection["ra"], 6),
            _number(detection["dec"], 6),
            _number(detection["probability"], 4),
            _number(detection["confidence"], 4),
            "yes" if detection["is_real"] else "no",
            ", ".join(detection["flags"]),
        ]
        if truth:
            cells.append(_truth_at(detection, truth))
        made.add_row(*cells)
    return made


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _truth_at(detection: dict[str, Any], truth: Sequence[Source]) -> str:
    def distance(source: Source) -> float:
        return float(((source.x - detection["x"]) ** 2 + (source.y - detection["y"]) ** 2) ** 0.5)

    transient = min((s for s in truth if s.kind == "transient"), key=distance)
    if distance(transient) <= MATCH_RADIUS:
        return f"transient, SNR {transient.snr:.1f}"
    nearest = min((s for s in truth if s.kind != "transient"), key=distance)
    return nearest.kind.replace("_", " ") if distance(nearest) <= _ARTEFACT_RADIUS else "nothing"
