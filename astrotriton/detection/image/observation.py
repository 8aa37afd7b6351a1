"""When, through what and how an exposure was taken, as its headers and its sender say."""

import contextlib
import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from astropy import units as u
from astropy.io import fits
from astropy.time import Time

from astrotriton.detection.image.units import parsed, spelled
from astrotriton.wire.exposures import Observation, TimeScale
from astrotriton.wire.fields import printable

# FITS Standard 4.0, table 30, with those that it calls obsolete; GPS runs 19 s behind TAI. What is
# local time cannot be told.
_SCALES: dict[str, tuple[TimeScale, float]] = {
    "UTC": ("UTC", 0.0),
    "GMT": ("UTC", 0.0),
    "UT": ("UTC", 0.0),
    "UT1": ("UT1", 0.0),
    "TAI": ("TAI", 0.0),
    "IAT": ("TAI", 0.0),
    "GPS": ("TAI", 19.0),
    "TT": ("TT", 0.0),
    "TDT": ("TT", 0.0),
    "ET": ("TT", 0.0),
    "TDB": ("TDB", 0.0),
    "TCG": ("TCG", 0.0),
    "TCB": ("TCB", 0.0),
}
_MIDDLE = ("MJD-AVG", "MJD-MID", "MJDMID", "EXPMID", "DATE-AVG", "DATE-MID")
# The standard (9.5) has DATE-OBS and MJD-OBS mean the start, unless the comment says otherwise.
_BEGIN = (
    *("MJD-BEG", "MJD-OBS", "OBSMJD", "MJDOBS", "EXPSTART"),
    *("DATE-BEG", "DATE-OBS", "OBSJD", "JD"),
)
_END = ("MJD-END", "EXPEND", "DATE-END")
_TIME_OF_DAY = ("TIME-OBS", "UTC-OBS", "UT", "UTSTART", "UTC")
_EXPOSURE_TIME = ("EXPTIME", "EXPOSURE", "XPOSURE", "TEXPTIME", "EXP_TIME", "ITIME")
_FILTER = ("FILTER", "FILTNAM", "FILTNAME", "FLTRNAME", "BAND", "INSFILTE", "FPA.FILTERID")
_WHEELS = (
    *(("FILTER1", "FILTER2", "FILTER3"), ("ESO INS FILT1 NAME", "ESO INS FILT2 NAME")),
    ("FILTER01", "FILTER02"),
)
_ZERO_POINT = (
    *("MAGZERO", "MAGZPT", "MAGZP", "ZEROPT", "ZEROPNT", "PHOTZP", "MAG_ZP", "ZPTMAG", "ZP"),
)
_NOTHING = {"", "NONE", "N/A", "NA", "NULL", "UNKNOWN", "UNDEFINED"}
_OPEN = _NOTHING | {"OPEN", "CLEAR", "FREE", "EMPTY", "BLANK", "CLEAR1L", "CLEAR2L", "CLEAR1S"}

_FIRST_MJD, _LAST_MJD = 15020.0, 88069.0  # 1900 and 2100
_SHORTEST, _LONGEST = 1e-9, 1e7  # seconds
_BRIGHTEST, _FAINTEST = 5.0, 50.0  # of the zero points that can be meant
_DAY = 86_400.0

_PER_SECOND = re.compile(r"\bper\s+s(ec(ond)?)?\b|/\s*s(ec(ond)?)?\b", re.IGNORECASE)
_MINUTES = re.compile(r"\bmin(ute)?s?\b", re.IGNORECASE)
_MILLISECONDS = re.compile(r"\b(ms|msec|milli-?sec(ond)?s?)\b", re.IGNORECASE)
_IN_THE_MIDDLE = re.compile(r"\bmid(dle|-?point|-?time|-?exposure)?\b", re.IGNORECASE)
_USUAL_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?")
_MJD_0 = datetime(1858, 11, 17)
_OLD_DATE = re.compile(r"(\d\d)/(\d\d)/(\d\d)")  # the form before the year 2000: DD/MM/YY


class _Found(NamedTuple):
    """A number of a header, and which keyword has it."""

    value: float
    keyword: str


class _Headers:
    """The headers that describe an image, the nearest first; a card that is broken is none."""

    def __init__(self, headers: Iterable[fits.Header]) -> None:
        self._headers = tuple(headers)

    def get(self, keyword: str) -> tuple[object, str] | None:
        """The value and the comment of a keyword."""
        for header in self._headers:
            try:
                if keyword in header:
                    return header[keyword], str(header.comments[keyword])
            except Exception:  # a card that cannot be parsed says so only when it is read
                continue
        return None

    def number(self, keyword: str, low: float, high: float) -> float | None:
        """A number above ``low`` and up to ``high``."""
        found = self.get(keyword)
        if found is None or isinstance(found[0], bool):
            return None
        try:
            value = float(found[0])  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None
        return value if low < value <= high else None

    def text(self, keyword: str) -> str | None:
        """A text that says something."""
        found = self.get(keyword)
        text = printable(found[0].strip()) if found and isinstance(found[0], str) else None
        return None if text is None or text.upper() in _NOTHING else text

    def comment(self, keyword: str) -> str:
        """What stands beside a value."""
        found = self.get(keyword)
        return "" if found is None else found[1]


def observation_of(headers: Sequence[fits.Header], asked: Observation | None = None) -> Observation:
    """What is known of how an exposure was taken. What its sender says goes before its headers.

    Parameters
    ----------
    headers
        Those that describe it, the nearest first: the image's, and the file's first. A keyword
        whose value cannot be meant (a zero point of 0, an exposure time of -1) is passed over.
    asked
        What the sender says.
    """
    asked = asked or Observation()
    cards = _Headers(headers)
    exposure_time = _exposure_time(cards)
    if asked.exposure_time is not None:
        exposure_time = _Found(asked.exposure_time, "exposure_time")
    unit = spelled(asked.flux_unit or cards.text("BUNIT"))
    zero_point = _zero_point(cards, unit, exposure_time)
    if unit is not None and (density := _of_flux_density(unit)) is not None:
        zero_point = (density, "flux_unit" if asked.flux_unit else "BUNIT")
    if asked.zero_point is not None:
        zero_point = (asked.zero_point, "request")
    time = _time(cards, exposure_time)
    if asked.mjd_mid is not None:
        time = (asked.mjd_mid, asked.time_scale or "UTC", "request")
    return Observation(
        mjd_mid=time and time[0],
        time_scale=time and time[1],
        observed_at=time and _utc(time[0], time[1]),
        time_source=time and time[2],
        exposure_time=exposure_time and exposure_time.value,
        filter=asked.filter or _filter(cards),
        flux_unit=unit,
        zero_point=zero_point and zero_point[0],
        zero_point_source=zero_point and zero_point[1],
    )


def _of_flux_density(unit: str) -> float | None:
    """The AB magnitude of a flux of 1 in this unit (Oke & Gunn 1983); None if it is no density."""
    try:
        return float((1.0 * parsed(unit)).to(u.ABmag).value)
    except (ValueError, TypeError, u.UnitConversionError):
        return None


def _exposure_time(cards: _Headers) -> _Found | None:
    """In seconds."""
    for keyword in _EXPOSURE_TIME:
        seconds = cards.number(keyword, _SHORTEST, _LONGEST)
        if seconds is not None:
            comment = cards.comment(keyword)
            factor = 60.0 if _MINUTES.search(comment) else 1.0
            factor = 1e-3 if _MILLISECONDS.search(comment) else factor
            return _Found(seconds * factor, keyword)
    return None


def _filter(cards: _Headers) -> str | None:
    for keyword in _FILTER:
        if (text := cards.text(keyword)) is not None:
            return text
    for wheels in _WHEELS:
        named = [text for keyword in wheels if (text := cards.text(keyword))]
        if inside := [text for text in named if text.upper() not in _OPEN]:
            return "+".join(inside)
    return None


def _zero_point(
    cards: _Headers, unit: str | None, exposure_time: _Found | None
) -> tuple[float, str] | None:
    """Magnitude of a flux of 1, and which keyword says so.

    One that is said to be per second is of the whole exposure once 2.5 log10 of its time is added,
    unless the pixels are per second too.
    """
    for keyword in _ZERO_POINT:
        magnitude = cards.number(keyword, _BRIGHTEST, _FAINTEST)
        if magnitude is None:
            continue
        rate = unit is not None and unit.endswith("/s")
        if not _PER_SECOND.search(cards.comment(keyword)) or rate:
            return magnitude, keyword
        if exposure_time is not None:
            whole = magnitude + 2.5 * math.log10(exposure_time.value)
            return whole, f"{keyword} + 2.5 log10({exposure_time.keyword})"
    return None


def _time(cards: _Headers, exposure_time: _Found | None) -> tuple[float, TimeScale, str] | None:
    """Mid-exposure as MJD, its scale, and which keywords say so.

    The beginning stands for it where neither an end nor an exposure time is known.
    """
    stated = (cards.text("TIMESYS") or "UTC").upper().partition("(")[0].strip()
    if stated not in _SCALES:
        return None
    scale, late = _SCALES[stated]
    found = _first_time(cards, _MIDDLE) or _first_time(cards, _BEGIN)
    if found is None:
        return None
    mjd, source = found
    if source in _BEGIN and not _IN_THE_MIDDLE.search(cards.comment(source)):
        end = _first_time(cards, _END)
        if end is not None and 0.0 < end.value - mjd <= 1.0:
            mjd, source = 0.5 * (mjd + end.value), f"{source}, {end.keyword}"
        elif exposure_time is not None:
            mjd += 0.5 * exposure_time.value / _DAY
            source = f"{source} + {exposure_time.keyword}/2"
    return mjd + late / _DAY, scale, source


def _first_time(cards: _Headers, keywords: Sequence[str]) -> _Found | None:
    """The first of these times that is one, MJD in the header's own scale."""
    for keyword in keywords:
        if "JD" in keyword or keyword.startswith("EXP"):
            julian = 0.0 if "MJD" in keyword or keyword.startswith("EXP") else 2_400_000.5
            number = cards.number(keyword, _FIRST_MJD + julian, _LAST_MJD + julian)
            mjd = None if number is None else number - julian
        else:
            mjd = _of_date(cards, keyword)
        if mjd is not None:
            return _Found(mjd, keyword)
    return None


def _of_date(cards: _Headers, keyword: str) -> float | None:
    """MJD of a date with its time of day, which may stand in a keyword of its own."""
    text = cards.text(keyword)
    if text is None:
        return None
    text = text.replace(" ", "T").removesuffix("Z")
    if old := _OLD_DATE.fullmatch(text):
        text = f"19{old[3]}-{old[2]}-{old[1]}"
    if "T" not in text:
        clocks = [clock for name in _TIME_OF_DAY if ":" in (clock := cards.text(name) or "")]
        if not clocks:
            return None
        text = f"{text}T{clocks[0]}"
    try:
        mjd = _mjd(text)
    except ValueError:
        return None
    return mjd if _FIRST_MJD < mjd <= _LAST_MJD else None


def _mjd(text: str) -> float:
    """MJD of a date as the FITS Standard 4.0 writes it (9.1.1).

    The scale plays no part: a day has 86400 s in all of them but for a leap second. Python reads
    the usual form faster; Astropy reads all.

    Raises
    ------
    ValueError
        If it is no date.
    """
    if _USUAL_DATE.fullmatch(text):
        with contextlib.suppress(ValueError):
            return (datetime.fromisoformat(text) - _MJD_0) / timedelta(days=1)
    return float(Time(text, format="isot", scale="tai").mjd)


def _utc(mjd: float, scale: TimeScale) -> datetime | None:
    """The same in UTC. UT1 is within 0.9 s of it, and taken for it."""
    known = "utc" if scale == "UT1" else scale.lower()
    try:
        # `Time.to_datetime` takes longer than the rest of a header.
        time = Time(mjd, format="mjd", scale=known, precision=6).utc
        return datetime.fromisoformat(str(time.isot)).replace(tzinfo=UTC)
    except ValueError:  # a leap second is none that `datetime` has
        return None
