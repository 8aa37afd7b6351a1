"""Commands of the reference network."""

import json
from pathlib import Path
from typing import Any

import click

from astrotriton.cli import fail
from astrotriton.training.evaluate import DEFAULT_SEED
from astrotriton.training.evaluate import evaluate as run_evaluation
from astrotriton.training.figures import table, write_figures
from astrotriton.training.train import VARIABLE_STARS, Training, recalibrate
from astrotriton.training.train import train as run_training
from astrotriton.training.weights import WEIGHTS, load_card, load_network
from astrotriton.wire.exposures import COMPANIONS

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--out", type=_FOLDER, help="Where to write.")
@click.option("--seed", type=int, help="Seed of fields, crops and initial weights.")
@click.option("--epochs", type=int, help="Epochs to train for.")
@click.option("--start", type=_FOLDER, help="Weights to go on from; without it, from nothing.")
@click.option(
    "--planes", is_flag=True, help="Look at science and template, too, as far as they are there."
)
@click.option(
    "--confidence-only", is_flag=True, help="Keep the weights, fit their confidence anew."
)
def train(
    out: Path | None,
    seed: int | None,
    epochs: int | None,
    start: Path | None,
    planes: bool,
    confidence_only: bool,
) -> None:
    """Train the reference U-Net on simulated fields, and fit its confidence."""
    if confidence_only:
        recalibrate(out or WEIGHTS, click.echo)
        return
    if planes and out is None:
        fail("train", "with --planes say where to write, --out FOLDER")
    given = {"seed": seed, "epochs": epochs}
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if planes:
        known |= {"planes": True, "on_star": VARIABLE_STARS}
    how = Training(**known)
    run_training(how, out or WEIGHTS, click.echo, start=start)


@click.command()
@click.option("--seed", type=int, default=DEFAULT_SEED, show_default=True, help="Of the fields.")
@click.option("--fields", type=int, default=240, show_default=True, help="Number of mixed fields.")
@click.option("--out", type=_FOLDER, help="Folder for evaluation.json and the figures.")
@click.option("--weights", type=_FOLDER, default=WEIGHTS, help="Weights and card to evaluate.")
@click.option("--alone", is_flag=True, help="Leave out science and template, where that may be.")
def evaluate(seed: int, fields: int, out: Path | None, weights: Path, alone: bool) -> None:
    """Measure the reference U-Net on fields that nothing was tuned to."""
    card = load_card(weights)
    if card.confidence is None:
        fail("evaluate", f"{weights} was never calibrated: run `make train`")
    # As it is served, which answers twice as fast as Keras.
    from astrotriton.export.convert import convert
    from astrotriton.export.engine import OnnxEngine

    predict = OnnxEngine(convert(load_network(weights), card, "evaluation"), card)
    sent = card.required_planes if alone else COMPANIONS
    result = run_evaluation(
        card, predict, seed=seed, fields=fields, sent=sent, on_progress=click.echo
    )
    click.echo(f"\n{table(result.figures)}\n\nseed {seed}, {fields} mixed fields")
    if out is not None:
        for path in write_figures(result, out):
            click.echo(f"wrote {path}")
        (out / "evaluation.json").write_text(
            json.dumps({"seed": seed, **result.figures}, indent=2) + "\n"
        )
        click.echo(f"wrote {out / 'evaluation.json'}")
