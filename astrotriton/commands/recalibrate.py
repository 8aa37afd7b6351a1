"""The command that fits a confidence anew to labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from astrotriton.cli import fail
from astrotriton.client import Client, ClientError, ProblemError
from astrotriton.commands.models.settings import quiet, settings_of
from astrotriton.commands.models.telling import Report
from astrotriton.commands.reaching import gateway_at, gateway_options
from astrotriton.settings import ModelConfig

if TYPE_CHECKING:
    from astrotriton.detection.card import ModelCard
    from astrotriton.recalibration.fit import Recalibrated

_SAID = {
    "none": "nothing",
    "shift": "every confidence is shifted, in log odds",
    "line": "the log odds are stretched and shifted",
    "features": "the weights of the measurements",
}


@click.command()
@click.argument("model", required=False)
@gateway_options
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Table of labels, in place of those that the gateway keeps: label, and detection_id, or "
    "exposure (or run_id) with x and y or ra and dec.",
)
@click.option("--register", "registers", is_flag=True, help="Register it in MLflow as a version.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def recalibrate(
    model: str | None,
    url: str | None,
    token: str | None,
    labels: Path | None,
    registers: bool,
    as_json: bool,
) -> None:
    """Fit the confidence of MODEL anew to what people said of its detections.

    MODEL is NAME:VERSION or NAME@champion, as the gateway knows it; without it, the champion. The
    command says what the labels change. With --register, the same network with the new confidence
    becomes a version in MLflow; nothing serves it yet.
    """
    from astrotriton.detection.card import ModelCard
    from astrotriton.label_tables import LabelTableError
    from astrotriton.recalibration.collect import labels_of_gateway, labels_of_table, sources_of
    from astrotriton.recalibration.fit import UnfitLabelsError
    from astrotriton.recalibration.fit import recalibrate as fit

    report = Report("recalibrate", as_json)
    gateway = gateway_at(url, "recalibrate")
    found: dict[str, Recalibrated] = {}
    refused: dict[str, str] = {}
    try:
        with Client(gateway, token=token) as client:
            served = client.model(model or f"{ModelConfig().model_name}@champion")
            card = ModelCard.from_json(msgspec.json.encode(served.card))
            if labels is None:
                collected = labels_of_gateway(client, served.version)
            else:
                collected = labels_of_table(client, served.version, labels)
            for kind, tta in (("confidence", False), ("confidence_tta", True)):
                confidence = card.confidence_for(2 if tta else 1)
                if confidence is None:
                    refused[kind] = "the version has none that could be fitted anew"
                    continue
                sources = sources_of(
                    client, collected, confidence, tta=tta, progress=report.progress
                )
                if sources is None:
                    refused[kind] = "no labels"
                    continue
                try:
                    found[kind] = fit(confidence, sources)
                except UnfitLabelsError as error:
                    refused[kind] = str(error)
    except (ClientError, ProblemError, LabelTableError) as error:
        fail("recalibrate", error)
    if not found:
        fail("recalibrate", refused["confidence"])
    name = f"{card.name}:{card.version}"
    text = "\n".join(_text(kind, one) for kind, one in found.items())
    text += "".join(f"\n{kind}: as it was ({why})" for kind, why in refused.items())
    if collected.passed_over:
        text += f"\n{collected.passed_over} labels speak of no scored detection of {name}"
    data: dict[str, Any] = {kind: _data(one) for kind, one in found.items()}
    changed = {kind: one for kind, one in found.items() if one.method != "none"}
    version = None
    if not changed:
        text += "\nthe labels do not speak against the confidence: nothing to register"
    elif registers:
        version = _register(card, changed, report)
        text += (
            f"\n{card.name} version {version} is registered: the network of version {card.version},"
            " with this confidence"
        )
    else:
        text += "\nnothing is registered: --register makes a version of it"
    report.result(text, of=name, passed_over=collected.passed_over, version=version, **data)


def _register(card: "ModelCard", changed: "dict[str, Recalibrated]", report: Report) -> int:
    """Make a version of the network that the card is of, with its confidences changed."""
    settings_of(None)
    quiet()
    from astrotriton.export import registry
    from astrotriton.export.errors import ExportError
    from astrotriton.export.recalibrated import register_recalibrated

    try:
        return register_recalibrated(
            registry.resolve(f"models:/{card.name}/{card.version}"),
            {kind: one.model for kind, one in changed.items()},
            {kind: _data(one) for kind, one in changed.items()},
            report.progress,
        )
    except ExportError as error:
        fail("recalibrate", error)


def _data(one: "Recalibrated") -> dict[str, Any]:
    weights = one.weights
    return {
        "changes": one.method,
        "labels": one.labels,
        "real": one.real,
        "exposures": one.exposures,
        "sources": one.sources,
        "prevalence": one.prevalence,
        "log_loss_gain": one.gain,
        "log_loss_gain_error": one.gain_error,
        "before": msgspec.to_builtins(one.before),
        "after": msgspec.to_builtins(one.after),
        "effective_labels": weights.effective,
        "clipped": weights.clipped,
        "unspoken": weights.unspoken,
    }


def _text(kind: str, one: "Recalibrated") -> str:
    rows = [
        f"{kind}: {one.labels} labels ({one.real} real) of {one.exposures} exposures,"
        f" which stand for {one.sources} sources",
        f"  worth {one.weights.effective:.0f} labels of equal weight; {one.weights.clipped} would"
        " have stood for more than ten times the mean",
        f"  {one.weights.unspoken:.1%} of the sources are surer or less sure than any that is"
        " labelled",
        f"  of the sources, {one.prevalence:.2%} are real",
        "                           before    after",
    ]
    for name in ("log_loss", "brier", "ece", "expected"):
        title = {"expected": "mean confidence", "ece": "calibration error"}.get(name, name)
        before, after = getattr(one.before, name), getattr(one.after, name)
        rows.append(f"  {title.replace('_', ' '):<22} {before:>8.4f} {after:>8.4f}")
    rows.append(
        f"  what changes: {_SAID[one.method]}; on exposures left out the log loss falls by"
        f" {one.gain:.4f} +- {one.gain_error:.4f}"
    )
    return "\n".join(rows)
