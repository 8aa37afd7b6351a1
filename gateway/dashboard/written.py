"""How the pages write times and figures; what there is none of is a dash."""

from datetime import UTC, datetime

from jinja2 import pass_context
from jinja2.runtime import Context

from astrotriton.wire.performance import Figure

#: Stands for a figure that there is none of.
NONE = "—"


def utc(time: datetime) -> str:
    """A time to the second."""
    return time.astimezone(UTC).strftime("%d %b %Y, %H:%M:%S UTC")


@pass_context
def ago(context: Context, time: datetime) -> str:
    """How long it is, as of the page."""
    passed = (context["now"] - time).total_seconds()
    for length, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= 2 * length:
            return f"{passed / length:.0f} {name} ago"
    return "now" if passed < 5 else f"{passed:.0f} s ago"


def seconds(value: float | None) -> str:
    """A length of time in the unit that suits it."""
    if value is None:
        return NONE
    if value < 1.0:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if value < 120.0 else f"{value / 60:.3g} min"


def number(value: float | None, digits: int = 3) -> str:
    """With so many digits after the point."""
    return NONE if value is None else f"{value:.{digits}f}"


def short(value: float | None) -> str:
    """With four digits that count."""
    return NONE if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    """A share of 1."""
    return NONE if value is None else f"{100 * value:.3g} %"


def figure(one: Figure) -> str:
    """A figure with its unit."""
    if one.value is None:
        return NONE
    if one.unit == "s":
        return seconds(one.value)
    if one.unit == "bytes":
        large = one.value >= 2**30
        return f"{one.value / (2**30 if large else 2**20):.3g} {'GiB' if large else 'MiB'}"
    unit = {"1": "", "1/s": "/s"}.get(one.unit, f" {one.unit}")
    return f"{one.value:.3g}{unit}"


def words(name: str) -> str:
    """A name as words."""
    return name.replace("_", " ").replace("-", " ")
