"""How the pages write times and figures; what there is none of is a dash."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from astropy.coordinates import Angle
from jinja2 import pass_context
from jinja2.runtime import Context

from astrotriton.wire.performance import Figure

#: Stands for a figure that there is none of.
NONE = "—"


def utc(time: datetime) -> str:
    """A time to the second."""
    return time.astimezone(UTC).strftime("%d %b %Y, %H:%M:%S UTC")


def brief_utc(time: datetime) -> str:
    """A time to the minute, UTC, for tables."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


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
    if one.unit == "1/s" and one.value < 1.0 and one.window.seconds >= 60.0:
        # Of what is rare, nobody can picture how much of it there is in a second.
        return f"{one.count} in {_length(one.window.seconds)}"
    unit = {"1": "", "1/s": "/s"}.get(one.unit, f" {one.unit}")
    return f"{one.value:.3g}{unit}"


def _length(seconds: float) -> str:
    """A window as people ask for it."""
    for unit, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= unit and (unit < 86400.0 or seconds >= 2 * unit):
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def sexagesimal(ra: float, dec: float) -> str:
    """ICRS degrees as hours, minutes and seconds, and degrees, minutes and seconds."""
    hours = Angle(ra, "deg").to_string("hour", sep=":", precision=3, pad=True)
    degrees = Angle(dec, "deg").to_string("deg", sep=":", precision=2, pad=True, alwayssign=True)
    return f"{hours} {degrees}"


def elsewhere(ra: float, dec: float) -> dict[str, str]:
    """Where else a place in the sky can be looked up: a name, and the address of a page."""
    place, alpha, delta = f"{ra:.6f} {dec:+.6f}", f"{ra:.6f}", f"{dec:.6f}"
    pages = {
        "Aladin": ("aladin.cds.unistra.fr/AladinLite/", {"target": place, "fov": 0.05}),
        "SIMBAD": (
            "simbad.cds.unistra.fr/simbad/sim-coo",
            {"Coord": place, "Radius": 10, "Radius.unit": "arcsec"},
        ),
        "TNS": (
            "www.wis-tns.org/search",
            {"ra": alpha, "decl": delta, "radius": 10, "coords_unit": "arcsec"},
        ),
        "Legacy Survey": (
            "www.legacysurvey.org/viewer",
            {"ra": alpha, "dec": delta, "zoom": 16, "mark": f"{alpha},{delta}"},
        ),
    }
    return {name: f"https://{page}?{urlencode(query)}" for name, (page, query) in pages.items()}


#: Features of a confidence, by the names that cards have for them.
TERMS = {
    "logit_peak": "network, at the peak",
    "logit_mean": "network, mean",
    "spread": "spread over views",
    "log_snr": "SNR",
    "log_snr_squared": "SNR, squared",
    "psf_match": "likeness to the PSF",
    "log_sharpness": "sharpness",
    "negative_ratio": "negative lobe",
    "log_elongation": "elongation",
    "log_trail": "trail",
    "width": "width by seeing",
    "masked_fraction": "masked pixels",
    "near_edge": "near the edge",
}


def term(name: str) -> str:
    """A feature of a confidence, as people call it."""
    return TERMS.get(name) or words(name)


def words(name: str) -> str:
    """A name as words."""
    return name.replace("_", " ").replace("-", " ")
