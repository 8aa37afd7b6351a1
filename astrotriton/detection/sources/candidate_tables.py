"""Tables of candidates as pipelines write them."""

import csv
import io
import itertools
import math
import re
import string
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import yaml
from astropy import units as u
from astropy.io import votable

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image import hdus
from astrotriton.detection.image.compression import decompressed
from astrotriton.detection.image.units import PLAIN, parsed
from astrotriton.wire.detections import CandidateIn
from astrotriton.wire.fields import NAME_PATTERN

FIELD = "candidates"


@dataclass(frozen=True, slots=True)
class PositionColumns:
    """A pair of columns that hold positions.

    Attributes
    ----------
    names
        Their names. They are compared without regard to case, unless ``exact``.
    sky
        Whether they are ICRS degrees; otherwise pixels.
    first
        What the first pixel's centre is called: 0, or 1 as in FITS.
    writer
        Who writes them.
    exact
        Whether only this spelling is understood: others mean something else by the same letters.
    """

    names: tuple[str, str]
    sky: bool = False
    first: int = 0
    writer: str = ""
    exact: bool = False


#: What is understood. Of several pairs of pixels, or of the sky, the first that a table has counts.
POSITION_COLUMNS = (
    PositionColumns(("x", "y"), writer="astrotriton, SEP, Rubin", exact=True),
    PositionColumns(("XWIN_IMAGE", "YWIN_IMAGE"), first=1, writer="SExtractor"),
    PositionColumns(("X_IMAGE", "Y_IMAGE"), first=1, writer="SExtractor"),
    PositionColumns(("xcentroid", "ycentroid"), writer="photutils"),
    PositionColumns(("x_centroid", "y_centroid"), writer="photutils"),
    PositionColumns(("xpos", "ypos"), first=1, writer="ZTF"),
    PositionColumns(("ALPHAWIN_J2000", "DELTAWIN_J2000"), sky=True, writer="SExtractor"),
    PositionColumns(("ALPHA_J2000", "DELTA_J2000"), sky=True, writer="SExtractor"),
    PositionColumns(("ra", "dec"), sky=True, writer="ZTF, Rubin, photutils"),
    PositionColumns(("RAJ2000", "DEJ2000"), sky=True, writer="VizieR"),
)

#: Columns that hold an id; the first that a table has counts.
ID_COLUMNS = ("id", "NUMBER", "candid", "diaSourceId", "source_id")

_FITS, _ECSV, _SEXTRACTOR = b"SIMPLE  =", b"# %ECSV", re.compile(rb"#\s*1\s+\w+")
_XML = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:\?xml|VOTABLE|\w+:VOTABLE)", re.IGNORECASE)
# What would have the parser open addresses, fill memory from a few bytes, or decode what it cannot
# bound.
_REFUSED_XML = re.compile(rb"<!(?:DOCTYPE|ENTITY)|<(?:\w+:)?STREAM\b|\x00")
_SIZES = re.compile(rb"\b(nrows|arraysize|width)\s*=\s*[\"']([^\"']*)[\"']")
_UNIT_ATTRIBUTE = re.compile(rb"""\bunit\s*=\s*(?:"([^"]*)"|'[^']*')""")
_SEXTRACTOR_COLUMN = re.compile(r"#\s*(\d+)\s+(\S+)(?:.*\[(.+)\])?")
_LONGEST_TEXT = 10_000  # of a cell of a VOTable or FITS table
_SCALAR = re.compile(r"1?[LBIJKED]|\d*A|[IFED]\d+(\.\d+)?|A\d+")  # TFORM of one value
_NAME = re.compile(NAME_PATTERN)
_LONGEST_NAME = 200


class _Table:
    """A table of which some columns are wanted: their names, and how to read one with its unit."""

    def __init__(
        self,
        names: Sequence[str],
        rows: int,
        read: Callable[[str], tuple[Iterable[Any], str | None]],
    ) -> None:
        self.names = names
        self.rows = rows
        self.read = read


def read_candidates(content: bytes, max_candidates: int, max_bytes: int) -> list[CandidateIn]:
    """The candidates of a table: CSV, ECSV, VOTable, FITS, or a catalogue that SExtractor wrote.

    The content says which it is; it may be compressed by gzip or bzip2. `POSITION_COLUMNS` are the
    columns that are understood. A cell that is empty or not a number is a position that is null.

    Parameters
    ----------
    max_candidates, max_bytes
        The most rows, and the most bytes once decompressed.

    Raises
    ------
    InputError
        ``unreadable-table`` if it is none or has no such columns, ``candidate-invalid`` for an id
        that cannot be one.
    TooLargeError
        If there are more rows or bytes.
    """
    try:
        content = bytes(decompressed(content, max_bytes))
    except TooLargeError as error:
        raise TooLargeError(FIELD, error.detail) from error
    except InputError as error:
        raise _unreadable(error.detail) from error
    if len(content) > max_bytes:
        raise TooLargeError(FIELD, f"{len(content)} bytes; at most {max_bytes} are taken")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _candidates(_open(content, max_candidates), max_candidates)
    except InputError:
        raise
    except Exception as error:  # Astropy raises almost anything on a broken table
        raise _unreadable(f"{type(error).__name__}: {error}") from error


def _unreadable(detail: str) -> InputError:
    return InputError(
        "unreadable-table",
        FIELD,
        f"{detail}; send CSV, ECSV, VOTable, FITS or a catalogue of SExtractor, with one of the"
        f" pairs of columns {', '.join('/'.join(pair.names) for pair in POSITION_COLUMNS)}",
    )


def _candidates(table: _Table, most: int) -> list[CandidateIn]:
    if table.rows > most:
        raise TooLargeError(FIELD, f"{table.rows} rows; at most {most} are taken")
    fields: dict[str, list[Any]] = {}
    for sky, axes in ((False, ("x", "y")), (True, ("ra", "dec"))):
        pair = _pair(table.names, sky)
        if pair is not None:
            for axis, name in zip(axes, pair[1], strict=True):
                fields[axis] = _positions(table, name, pair[0])
    if not fields:
        raise _unreadable(f"it has the columns {', '.join(table.names)[:500] or 'of no name'}")
    named = _find(table.names, ID_COLUMNS)
    if named is not None:
        fields["id"] = [_id(i, value) for i, value in enumerate(table.read(named)[0])]
    return [
        CandidateIn(**dict(zip(fields, row, strict=True)))
        for row in zip(*fields.values(), strict=True)
    ]


def _pair(names: Sequence[str], sky: bool) -> tuple[PositionColumns, tuple[str, str]] | None:
    """The first pair of columns that a table has, and what they are called in it."""
    for pair in POSITION_COLUMNS:
        if pair.sky is not sky:
            continue
        first, second = (
            (name if name in names else None) if pair.exact else _find(names, (name,))
            for name in pair.names
        )
        if first is not None and second is not None:
            return pair, (first, second)
    return None


def _find(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[one.lower()] for one in wanted if one.lower() in by_lower), None)


def _positions(table: _Table, name: str, pair: PositionColumns) -> list[float | None]:
    values, unit = table.read(name)
    factor, first = 1.0, float(pair.first)
    if pair.sky and unit:
        try:
            factor = float(parsed(unit).to(u.deg))
        except (ValueError, u.UnitConversionError):
            raise _unreadable(f"{name} is in {unit}; give degrees") from None
    found: list[float | None] = []
    for value in values:
        number = _number(value)
        found.append(None if number is None else number * factor - first)
    return found


def _number(value: Any) -> float | None:
    if np.ma.is_masked(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _id(row: int, value: Any) -> str | None:
    if value is None or np.ma.is_masked(value):
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    # Tables are padded with blanks.
    text = text.strip(string.whitespace)
    if not text:
        return None
    if len(text) > _LONGEST_NAME or not _NAME.search(text):
        raise InputError(
            "candidate-invalid",
            f"{FIELD}[{row}].id",
            f"an id has at most {_LONGEST_NAME} characters, and no control characters, ends of "
            "lines or noncharacters among them",
        )
    return text


def _open(content: bytes, most: int) -> _Table:
    """The table, by what the content begins with."""
    if content.startswith(_FITS):
        return _of_fits(content)
    if _XML.match(content):
        return _of_votable(content, most)
    if content.startswith(_ECSV):
        return _of_ecsv(content, most)
    if _SEXTRACTOR.match(content):
        return _of_sextractor(content, most)
    return _of_csv(content, most)


def _of_fits(content: bytes) -> _Table:
    found: list[str] = []
    for hdu in hdus.tables(content):
        names = list(hdu.columns.names)
        if _pair(names, sky=False) or _pair(names, sky=True):
            return _Table(names, hdu.header["NAXIS2"], partial(_fits_column, hdu))
        found += names
    raise _unreadable(f"its tables have the columns {', '.join(found)[:500] or 'of no name'}")


def _fits_column(hdu: Any, name: str) -> tuple[Iterable[Any], str | None]:
    column = hdu.columns[name]
    if not _SCALAR.fullmatch(str(column.format).strip()):
        raise _unreadable(f"{name} holds {column.format}, not one number or text")
    values = hdu.data[name]
    if values.ndim != 1:
        raise _unreadable(f"{name} holds an array in each row, not one number or text")
    if column.null is not None and values.dtype.kind in "iu":
        values = np.ma.masked_equal(values, column.null)
    return list(values), column.unit


def _of_votable(content: bytes, most: int) -> _Table:
    if refused := _REFUSED_XML.search(content):
        text = refused.group().decode("ascii", "replace")
        raise _unreadable(f"a VOTable with {text!r}: send its rows as TABLEDATA, in UTF-8")
    for kind, value in _SIZES.findall(content):
        sizes = [int(digits) for digits in re.findall(rb"\d+", value)]
        bound = most if kind == b"nrows" else _LONGEST_TEXT
        if math.prod(sizes) > bound:
            raise TooLargeError(FIELD, f"{kind.decode()} of {value.decode()[:40]}; over {bound}")
    # Astropy parses the unit of every column, and some keep it busy without end.
    content = _UNIT_ATTRIBUTE.sub(lambda m: m[0] if PLAIN.fullmatch(_ascii(m[1])) else b"", content)
    file = votable.parse(io.BytesIO(content), verify="ignore")
    tables = [table.to_table(use_names_over_ids=True) for table in file.iter_tables()]
    return _first_with_positions(tables)


def _ascii(text: bytes | None) -> str:
    return (text or b"").decode("ascii", "replace")


def _first_with_positions(tables: Sequence[Any]) -> _Table:
    for table in tables:
        names = list(table.colnames)
        if _pair(names, sky=False) or _pair(names, sky=True):
            return _Table(names, len(table), partial(_column, table))
    names = [name for table in tables for name in table.colnames]
    raise _unreadable(f"it has the columns {', '.join(names)[:500] or 'of no name'}")


def _column(table: Any, name: str) -> tuple[Iterable[Any], str | None]:
    column = table[name]
    unit = getattr(column, "unit", None)
    values = column.value if isinstance(column, u.Quantity) else column
    return list(values), None if unit is None else str(unit)


def _of_csv(content: bytes, most: int) -> _Table:
    lines = io.StringIO(content.decode("utf-8-sig"), newline="")
    rows = itertools.dropwhile(lambda line: not line.strip() or line.startswith("#"), lines)
    header = next(rows, "")
    delimiter = max(",\t;", key=header.count)
    return _of_rows(itertools.chain([header], rows), delimiter, {}, most)


def _of_ecsv(content: bytes, most: int) -> _Table:
    """By its header, of which units alone are wanted: Astropy would make objects of the rest."""
    lines = content.decode("utf-8").splitlines(keepends=True)
    head = "".join(line[2:] for line in lines if line.startswith("# ") and "%ECSV" not in line)
    said = yaml.load(head, Loader=yaml.BaseLoader)
    units = {one["name"]: one["unit"] for one in said["datatype"] if "unit" in one}
    rows = (line for line in lines if not line.startswith("#"))
    return _of_rows(rows, said.get("delimiter", " "), units, most)


def _of_rows(lines: Iterable[str], delimiter: str, units: Mapping[str, str], most: int) -> _Table:
    """A header and rows, apart by a delimiter."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names = [name.strip() for name in next(reader, [])]
    found = list(itertools.islice((row for row in reader if row), most + 1))
    if len(found) > most:
        raise TooLargeError(FIELD, f"over {most} rows")
    for number, row in enumerate(found, 1):
        if len(row) > len(names):
            raise _unreadable(f"row {number} has {len(row)} cells, the header {len(names)}")
    place: dict[str, int] = {}
    for i, name in enumerate(names):
        place.setdefault(name, i)
    return _of_cells(place, found, units)


def _of_sextractor(content: bytes, most: int) -> _Table:
    """``ASCII_HEAD``: its comments number the columns, of which some take several cells."""
    place: dict[str, int] = {}
    units: dict[str, str] = {}
    rows: list[list[str]] = []
    for line in content.decode("utf-8", "replace").splitlines():
        if line.startswith("#"):
            if said := _SEXTRACTOR_COLUMN.match(line):
                place.setdefault(said[2], int(said[1]) - 1)
                if said[3]:
                    units[said[2]] = said[3]
        elif cells := line.split():
            if len(rows) >= most:
                raise TooLargeError(FIELD, f"over {most} rows")
            rows.append(cells)
    return _of_cells(place, rows, units)


def _of_cells(
    place: Mapping[str, int], rows: Sequence[Sequence[str]], units: Mapping[str, str]
) -> _Table:
    """A table of texts, by the place of each column in a row; a row may end too early."""

    def read(name: str) -> tuple[Iterable[Any], str | None]:
        column = place[name]
        cells = [row[column] if column < len(row) else None for row in rows]
        return cells, units.get(name)

    return _Table(list(place), len(rows), read)
