"""Windows of time up to now: how a caller, a setting or the chart writes one."""

import re
from datetime import timedelta

#: The whole grammar, as a JSON Schema has it: minutes, hours or days, 30 days at most.
WINDOWS = "^([1-9][0-9]{0,3}m|([1-9][0-9]?|[1-6][0-9]{2}|7[01][0-9]|720)h|([1-9]|[12][0-9]|30)d)$"
#: The longest one.
LONGEST = timedelta(days=30)

_GRAMMAR = re.compile(WINDOWS)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def length_of(window: str) -> timedelta:
    """How long a window is.

    Parameters
    ----------
    window
        As `WINDOWS` says, such as ``24h``.

    Raises
    ------
    ValueError
        If it is none; the message says what to give.
    """
    if not _GRAMMAR.fullmatch(window):
        raise ValueError(
            "give minutes (9999m at most), hours or days, as in 15m, 24h or 7d; 30d at most"
        )
    return timedelta(**{_UNITS[window[-1]]: int(window[:-1])})
