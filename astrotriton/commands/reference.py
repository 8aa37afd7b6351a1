"""Commands of the reference network."""

from pathlib import Path

import click

from reference.train import Training
from reference.train import train as run
from reference.weights import WEIGHTS


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where to write.")
@click.option("--seed", type=int, help="Seed of fields, crops and initial weights.")
@click.option("--epochs", type=int, help="Epochs to train for.")
def train(out: Path | None, seed: int | None, epochs: int | None) -> None:
    """Train the reference U-Net on simulated fields, and fit its confidence."""
    given = {"seed": seed, "epochs": epochs}
    how = Training(**{name: value for name, value in given.items() if value is not None})
    run(how, out or WEIGHTS, click.echo)
