"""Units as files state them, parsed within bounds that Astropy does not set itself."""

import re

from astropy import units as u

_UNIT = r"[A-Za-z]{1,16}(?:(?:\*\*|\^)?[-+]?\d)?"
#: Names of units with powers of one digit, joined by signs: no number that would be worked out.
PLAIN = re.compile(rf"{_UNIT}(?:\s*[./* ]\s*{_UNIT}){{0,7}}")
_SPELLINGS = {
    **dict.fromkeys(("adu", "adus"), "adu"),
    **dict.fromkeys(("count", "counts", "ct", "cts"), "ct"),
    **dict.fromkeys(("e", "e-", "el", "electron", "electrons"), "electron"),
    **dict.fromkeys(("dn", "dns"), "DN"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
}


def spelled(text: str | None) -> str | None:
    """A unit as FITS spells it, where it is a common one in another spelling (``ELECTRONS/S``)."""
    if text is None or not text.strip():
        return None
    parts = [_SPELLINGS.get(part.strip().lower()) for part in text.split("/")]
    return text.strip() if None in parts else "/".join(part for part in parts if part)


def parsed(text: str) -> u.UnitBase:
    """The unit; one that nobody knows, with this text as its name, where it is none.

    Astropy would work out a number in it: ``10**999999999 Jy`` keeps it busy without end.
    """
    if PLAIN.fullmatch(text):
        try:
            return u.Unit(text)
        except Exception:  # of a text that is no unit, in a dozen ways
            pass
    return u.UnrecognizedUnit(text)
