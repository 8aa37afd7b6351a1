"""Two versions side by side: on labelled fields, and on what was scored of late."""

import math
from collections.abc import Callable

import msgspec

from astrotriton.detection.card import ModelCard
from astrotriton.detection.quality.labelled import ValidationSet
from astrotriton.detection.scoring.inference import Predict
from astrotriton.export import accuracy, registry
from astrotriton.export.engine import KerasEngine, OnnxEngine
from astrotriton.export.errors import ServingError
from astrotriton.export.gates.version import Progress
from astrotriton.export.gateway_routes import Gateway
from astrotriton.export.lowering import servable
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import MODEL_FILE, Repository
from astrotriton.wire.agreement import Agreement
from astrotriton.wire.performance import Bins, Performance

# Figures that are told without decimals.
_COUNTS = (
    *("runs", "detections", "labels"),
    *("validation_fields", "validation_sources", "validation_transients"),
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of both versions; None where it is not known."""

    name: str
    one: float | None
    other: float | None

    @property
    def difference(self) -> float | None:
        """How much more the other has."""
        if self.one is None or self.other is None:
            return None
        return self.other - self.one


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions of a model.

    Attributes
    ----------
    name, one, other
        The versions.
    fields
        What the labelled fields are, in words; None if none were scored.
    figures
        Of both on these fields, as the gates measure them.
    window
        The time that the next two are of.
    lately
        What the gateway measured of both while they served; empty without one.
    agreement
        What both made of the same exposures; None if the gateway does not say.
    faults
        What cannot be told, and why.
    """

    name: str
    one: int
    other: int
    fields: str | None = None
    figures: list[Row] = []
    window: str
    lately: list[Row] = []
    agreement: Agreement | None = None
    faults: list[str] = []

    def text(self) -> str:
        """Tables."""
        heads = (f"version {self.one}", f"version {self.other}", "difference")
        lines = []
        if self.fields is not None:
            lines += _table(self.name, f"on {self.fields}", heads, self.figures)
        if self.lately:
            lines += _table(self.name, f"served in the last {self.window}", heads, self.lately)
        if (both := self.agreement) is not None:
            if both.reason is not None:
                lines.append(f"the same exposures in the last {self.window}: {both.reason}")
            else:
                lines.append(
                    f"the same {both.exposures} exposures ({both.shadowed} in the shadow): both"
                    f" scored {both.matched} sources, version {self.one} alone {both.only_model},"
                    f" version {self.other} alone {both.only_other}"
                )
            if both.agreement is not None:
                lines.append(
                    f"they agree on {both.agreement:.1%} of the verdicts; confidences differ by"
                    f" {both.mean_difference:.3f} in the mean, {both.largest_difference:.3f} at"
                    " most"
                )
        return "\n".join([*lines, *(f"cannot be told: {fault}" for fault in self.faults)])


def on_fields(
    one: RegisteredVersion,
    other: RegisteredVersion,
    repository: Repository,
    fields: Callable[[], ValidationSet],
    on_progress: Progress = lambda _: None,
) -> tuple[str, list[Row]]:
    """The figures that the gates use, of two versions on the same labelled fields.

    A version that is published is measured as it is served; another one as Keras runs it.

    Parameters
    ----------
    fields
        Makes them.

    Returns
    -------
    description : str
        What the fields are.
    figures : list of Row
        As `detection.quality.figures` names them.

    Raises
    ------
    ExportError
        If a version cannot be loaded.
    """
    # As the gates see them: their pixels are a little rounded.
    labelled = ValidationSet.from_fits(fields().to_fits())
    found = []
    for version in (one, other):
        on_progress(f"scoring {len(labelled.fields)} fields with version {version.version}")
        card, predict = _network(version, repository)
        found.append(accuracy.evaluate(labelled.fields, card, predict))
    first, second = found
    names = [*first, *(name for name in second if name not in first)]
    rows = [Row(name=n, one=_number(first.get(n)), other=_number(second.get(n))) for n in names]
    return labelled.description, rows


def lately(
    one: RegisteredVersion, other: RegisteredVersion, gateway: Gateway, window: str
) -> tuple[list[Row], Agreement | None, list[str]]:
    """What a gateway knows of two versions.

    Returns
    -------
    figures : list of Row
        What was measured while they served.
    agreement : Agreement or None
        On exposures that both have scored.
    faults : list of str
        What it does not know, in words.
    """
    faults = []
    found: list[dict[str, float | None]] = []
    for version in (one, other):
        try:
            found.append(_served(gateway.performance(version.name, version.version, window)))
        except ServingError as error:
            faults.append(str(error))
            found.append({})
    first, second = found
    rows = [Row(name=n, one=first.get(n), other=second.get(n)) for n in first or second]
    agreement = None
    if not faults:
        try:
            agreement = gateway.agreement(one.name, one.version, other.version, window)
        except ServingError as error:
            faults.append(str(error))
    return rows, agreement, faults


def _network(version: RegisteredVersion, repository: Repository) -> tuple[ModelCard, Predict]:
    name, number = version.name, version.version
    if repository.holds(name, number):
        card = repository.read(name, number)
        return card, OnnxEngine(repository.file(name, number, MODEL_FILE), card)
    card = registry.load_card(version)
    served = servable(registry.load_keras(version), card)
    return card, KerasEngine(served.model, served.outputs, card)


def _served(measured: Performance) -> dict[str, float | None]:
    request = measured.latency["request"]
    return {
        "runs": float(measured.throughput["runs"].count),
        "errors_share": measured.errors["share"].value,
        "request_p50_s": request.p50,
        "request_p95_s": request.p95,
        "detections": float(measured.confidence.count),
        "mean_confidence": _mean(measured.confidence),
        "real_share": _share(measured.confidence, 0.5),
        "labels": float(measured.labels.agreement.count),
        "labels_agreement": measured.labels.agreement.value,
        "labels_ece": measured.labels.ece.value,
    }


def _mean(bins: Bins) -> float | None:
    """Of a histogram, by the middles of its bins."""
    if not bins.count:
        return None
    middles = [(low + high) / 2 for low, high in zip(bins.edges, bins.edges[1:], strict=False)]
    return sum(m * n for m, n in zip(middles, bins.counts, strict=True)) / bins.count


def _share(bins: Bins, least: float) -> float | None:
    """Of a histogram, what lies in bins from ``least`` up."""
    if not bins.count:
        return None
    low = zip(bins.edges[:-1], bins.counts, strict=True)
    return sum(n for edge, n in low if edge >= least) / bins.count


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _table(name: str, title: str, heads: tuple[str, ...], rows: list[Row]) -> list[str]:
    cells = [("", *heads)]
    cells += [
        (
            row.name,
            _said(row, row.one),
            _said(row, row.other),
            _said(row, row.difference, sign="+"),
        )
        for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for first, *rest in cells:
        aligned = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *aligned]))
    return [f"{name}, {title}:", *(f"  {line}" for line in lines)]


def _said(row: Row, value: float | None, *, sign: str = "") -> str:
    if value is None:
        return "-"
    digits = 0 if row.name in _COUNTS else 3
    return f"{value:{sign}.{digits}f}"
