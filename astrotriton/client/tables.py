"""Detections as tables of Astropy and pandas, which are imported when one is asked for."""

from collections.abc import Iterable, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from astrotriton.wire.columns import FLUX_UNIT, Column, columns_of
from astrotriton.wire.detections import ScoredDetection, StoredDetection

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import QTable


#: The columns of detections that were looked up, besides what was measured.
LOOKED_UP = ("run_id", "exposure", "filter", "mjd_mid", "model_version", "label", "created_at")


def to_table(detections: Iterable[ScoredDetection], *, flux_unit: str | None = None) -> "QTable":
    """Detections as a table of Astropy.

    A column with a unit is a Quantity, and a float that is unknown is NaN; an unknown integer is
    masked; ids and flags are text. ``coord`` is the ICRS position, where any is known. Detections
    that were looked up have their run, exposure, label, model version and time besides.

    Parameters
    ----------
    detections
        The rows.
    flux_unit
        Of fluxes; without it, that of the exposures where all have the same.

    Returns
    -------
    QTable
    """
    import numpy as np
    from astropy import units as u
    from astropy.coordinates import SkyCoord
    from astropy.table import MaskedColumn, QTable

    rows = list(detections)
    if flux_unit is None:
        units = {one.exposure.flux_unit for one in rows if isinstance(one, StoredDetection)}
        flux_unit = units.pop() if len(units) == 1 else None
    table = QTable()
    for column in columns_of(ScoredDetection):
        values = [getattr(one, column.name) for one in rows]
        unit = flux_unit if column.unit == FLUX_UNIT else column.unit
        if column.dtype == "str":
            table[column.name] = np.array([_text(value) for value in values], dtype=str)
        elif column.dtype.startswith("float"):
            made = np.array([np.nan if value is None else value for value in values], float)
            table[column.name] = made * u.Unit(unit, parse_strict="silent") if unit else made
        else:
            known = [0 if value is None else value for value in values]
            mask = [value is None for value in values]
            kind = np.dtype(column.dtype)
            table[column.name] = (
                MaskedColumn(known, mask=mask, dtype=kind) if any(mask) else np.array(known, kind)
            )
        table[column.name].info.description = _described(column)
    if np.isfinite(table["ra"]).any():
        table["coord"] = SkyCoord(table["ra"], table["dec"], frame="icrs")
    for name, known in _looked_up(rows).items():
        table[name] = known
    return table


def to_pandas(detections: Iterable[ScoredDetection]) -> "pd.DataFrame":
    """Detections as a DataFrame of pandas, a column for each field.

    Floats that are unknown are NaN, integers that may be unknown are ``Int64``, flags are text with
    blanks between them. Detections that were looked up have their run, exposure, label, model
    version and time besides.
    """
    import pandas as pd

    rows = list(detections)
    columns: dict[str, Any] = {}
    for column in columns_of(ScoredDetection):
        values = [getattr(one, column.name) for one in rows]
        if column.dtype == "str":
            columns[column.name] = pd.Series([_text(value) for value in values], dtype="str")
        elif column.dtype.startswith("int"):
            kind = "Int64" if column.nullable else "int64"
            columns[column.name] = pd.Series(values, dtype=kind)
        else:
            columns[column.name] = pd.Series(values, dtype=column.dtype)
    return pd.DataFrame(columns | _looked_up(rows))


def columns_of_found(rows: Sequence[StoredDetection]) -> dict[str, list[Any]]:
    """What `to_table` has of detections that were looked up, as lists; unknown is None or ''."""
    measured: dict[str, list[Any]] = {}
    for column in columns_of(ScoredDetection):
        values = [getattr(one, column.name) for one in rows]
        text = column.dtype == "str"
        measured[column.name] = [_text(value) for value in values] if text else values
    return measured | (_looked_up(rows) or {name: [] for name in LOOKED_UP})


def _looked_up(rows: Sequence[ScoredDetection]) -> dict[str, list[Any]]:
    """What rows of several exposures say of where they come from."""
    stored = [one for one in rows if isinstance(one, StoredDetection)]
    if not stored or len(stored) < len(rows):
        return {}
    times = [one.exposure.mjd_mid for one in stored]
    return {
        "run_id": [str(one.run_id) for one in stored],
        "exposure": [_text(one.exposure.name) for one in stored],
        "filter": [_text(one.exposure.filter) for one in stored],
        "mjd_mid": [nan if time is None else time for time in times],
        "model_version": [one.model.version for one in stored],
        "label": [_text(one.label) for one in stored],
        "created_at": [one.created_at.isoformat() for one in stored],
    }


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(value)
    return "" if value is None else str(value)


def _described(column: Column) -> str | None:
    return " ".join(column.description.partition("\n\n")[0].split()) or None
