"""What was measured of a detection, as its page lists it: drawn from the declared fields."""

from typing import NamedTuple

from astrotriton.gateway.dashboard.written import short
from astrotriton.wire.columns import FLUX_UNIT, Column, columns_of
from astrotriton.wire.detections import ScoredDetection

# What the page says in other places, or in words of its own.
_ELSEWHERE = {
    *("id", "rank", "candidate_id", "x", "y", "ra", "dec", "is_real", "polarity", "outcome"),
    "unscored_reason",
    *("probability", "probability_mean", "confidence", "confidence_low", "confidence_high"),
    *("entropy", "tta_std", "ensemble_std", "merged_into", "flags"),
}
_UNITS = {"pix": "px", "deg": "°", "bit": "bits"}
_ERROR = "_err"


class Measurement(NamedTuple):
    """A line of the list: what it is, its value, and what it means at length."""

    title: str
    text: str
    description: str


def measurements(detection: ScoredDetection, flux_unit: str | None = None) -> list[Measurement]:
    """Every measured value with its unit; an error stands beside the value that it is of."""
    columns = {column.name: column for column in columns_of(ScoredDetection)}
    return [
        Measurement(column.title, _text(detection, column, columns, flux_unit), column.description)
        for name, column in columns.items()
        if name not in _ELSEWHERE and name.removesuffix(_ERROR) not in columns.keys() - {name}
    ]


def _text(
    detection: ScoredDetection,
    column: Column,
    columns: dict[str, Column],
    flux_unit: str | None,
) -> str:
    value = getattr(detection, column.name)
    if value is None:
        return short(None)
    text = short(value) if isinstance(value, int | float) else str(value)
    error = column.name + _ERROR
    if error in columns and getattr(detection, error) is not None:
        text += f" ± {short(getattr(detection, error))}"
    unit = flux_unit or "counts" if column.unit == FLUX_UNIT else column.unit
    return f"{text} {_UNITS.get(unit, unit)}" if unit else text
