"""What the pages' templates are given, and how they write it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from astrotriton.gateway.dashboard import charts, written
from astrotriton.gateway.dashboard.charts import Chart
from astrotriton.gateway.dashboard.exposure_plot import KINDS, kind_of
from astrotriton.gateway.errors import NotFoundError
from astrotriton.wire.detections import UNSCORED_REASONS, Sort
from astrotriton.wire.flags import FLAGS, meaning_of
from astrotriton.wire.models import ModelInfo
from astrotriton.wire.validation import Curves, Validation

#: Style sheets and pictures of the pages.
STATIC = Path(__file__).parent / "static"

#: The windows that a page offers, and what they are called.
WINDOWS = {"1h": "1 hour", "24h": "24 hours", "7d": "7 days"}

#: Orders of detections that a page offers, and what they are called.
SORTS: list[tuple[Sort, str]] = [
    ("newest", "newest exposure first"),
    ("-confidence", "most confident"),
    ("confidence", "least confident"),
    ("-entropy", "most uncertain"),
    ("-snr", "largest SNR"),
    ("snr", "smallest SNR"),
    ("mag", "brightest magnitude"),
    ("-mag", "faintest magnitude"),
    ("-observed_at", "latest observed"),
]


class Versions(NamedTuple):
    """Which version a page is about.

    Attributes
    ----------
    all
        Those to choose from.
    chosen
        The one, None if there are none.
    against
        The one to compare it with, if any.
    """

    all: list[ModelInfo]
    chosen: ModelInfo | None
    against: ModelInfo | None

    @property
    def shown(self) -> list[ModelInfo]:
        """The chosen one, and the one to compare it with."""
        return [one for one in (self.chosen, self.against) if one is not None]


def choose(infos: Sequence[ModelInfo], model: str | None, against: str | None) -> Versions:
    """The versions that are asked for; by default the champion, or else the newest served one.

    Parameters
    ----------
    infos
        Every version, as the catalogue has them.
    model, against
        ``NAME:VERSION``; None or empty: not said.

    Raises
    ------
    NotFoundError
        If one of them is not there.
    """
    by_ref: dict[str, ModelInfo] = {}
    for info in infos:  # of a version with several cards the newest comes first
        by_ref.setdefault(ref(info), info)
    every = list(by_ref.values())

    def find(wanted: str) -> ModelInfo:
        if wanted not in by_ref:
            raise NotFoundError(f"no model version is {wanted!r}; choose one of the list")
        return by_ref[wanted]

    if model:
        chosen: ModelInfo | None = find(model)
    else:
        ranked = sorted(every, key=lambda one: ("champion" not in one.roles, not one.served))
        chosen = ranked[0] if ranked else None
    other = find(against) if against else None
    return Versions(every, chosen, None if other is chosen else other)


class Side(NamedTuple):
    """A version's part of a validation.

    Attributes
    ----------
    name
        Of the version.
    validation
        It, which another version may share that was compared in it.
    figures, curves
        Of this version.
    """

    name: str
    validation: Validation
    figures: dict[str, float | None]
    curves: Curves | None


def sides(found: Validation) -> list[Side]:
    """The version that was validated, and the one that it was compared with."""
    own = Side(f"version {found.model.version}", found, found.figures, found.curves)
    if found.compare_with is None or found.compared_curves is None:
        return [own]
    other = f"version {found.compare_with.version}"
    return [own, Side(other, found, found.compared, found.compared_curves)]


def newest_sides(lists: Sequence[Sequence[Validation]]) -> list[Side]:
    """The newest complete validation of one version, or of two to be compared.

    Of two, a validation in which both scored the same fields goes before.

    Parameters
    ----------
    lists
        The validations of each version, the newest first.
    """
    complete = [[one for one in found if one.status == "complete"] for found in lists]
    if len(lists) == 2:
        versions = {found[0].model.version for found in lists if found}
        for one in complete[0]:
            if one.compare_with is not None and one.compare_with.version in versions:
                return sides(one)
    return [sides(found[0])[0] for found in complete if found]


def diagrams(shown: Sequence[Side]) -> list[Chart]:
    """The diagrams of validations, version against version."""
    drawn = [(side.name, side.curves) for side in shown if side.curves is not None]
    if not drawn:
        return []
    return [
        charts.reliability([(name, curves.reliability) for name, curves in drawn]),
        charts.completeness([(name, curves.completeness) for name, curves in drawn]),
        charts.purity([(name, curves.precision_recall) for name, curves in drawn]),
        charts.accuracy([(side.name, side.figures) for side in shown]),
    ]


def ref(info: ModelInfo) -> str:
    """``NAME:VERSION``."""
    return f"{info.name}:{info.version}"


def environment() -> Environment:
    """The templates, with what they write figures by."""
    found = Environment(
        loader=PackageLoader("astrotriton.gateway.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "ago": written.ago,
        "utc": written.utc,
        "seconds": written.seconds,
        "number": written.number,
        "short": written.short,
        "percent": written.percent,
        "figure": written.figure,
        "words": written.words,
        "term": written.term,
        "meaning": meaning_of,
        "ref": ref,
        "kind": kind_of,
        "brief_utc": written.brief_utc,
        "with_words": lambda name: (str(name), written.words(name)),
    }
    found.filters.update(filters)
    found.globals.update({"WINDOWS": WINDOWS, "KINDS": KINDS, "FLAGS": FLAGS})
    found.globals["SORTS"] = (SORTS, [("newest", "real ones first"), *SORTS[1:]])
    found.globals["UNSCORED_REASONS"] = UNSCORED_REASONS
    found.globals.update({"sexagesimal": written.sexagesimal, "elsewhere": written.elsewhere})
    return found
