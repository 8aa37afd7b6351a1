"""The one command line. Each command imports what it needs, so that `--help` answers at once."""

import asyncio
import os
import sys
from pathlib import Path

import click

import astrotriton

ROOT = Path(__file__).resolve().parent.parent


def _data_folder() -> Path:
    return Path(os.environ.get("ASTROTRITON_DATA", ROOT / "var"))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(astrotriton.__version__)
def main() -> None:
    """Serve an astronomical U-Net on Triton, and score the detections of an exposure."""


@main.command()
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="FITS or .npy file to score; without it, a simulated difference exposure.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "out",
    show_default="out/",
    help="Folder for detections.json and detections.png.",
)
def demo(image: Path | None, out: Path) -> None:
    """Run the whole way once, on real servers, for one exposure."""
    from astrotriton.demo import DemoError, run

    try:
        asyncio.run(run(_data_folder(), image, out))
    except DemoError as error:
        click.secho(f"demo failed: {error}", fg="red", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.secho("demo interrupted; everything it started is stopped", err=True)
        sys.exit(130)


@main.command()
def up() -> None:
    """Start every server and keep it serving, also when this command ends."""
    import stack

    def on_progress(part: str, what: str) -> None:
        click.echo(f"{part:<8}  {what}")

    data = _data_folder()
    data.mkdir(parents=True, exist_ok=True)
    try:
        addresses = stack.up(
            data, [sys.executable, "-m", "astrotriton.owner", str(data)], on_progress=on_progress
        )
    except stack.StackError as error:
        click.secho(f"up failed: {error}", fg="red", err=True)
        sys.exit(1)
    for part, address in addresses.public().items():
        click.echo(f"{part:<8}  {address}")
    click.echo("`make down` stops it")


@main.command()
def down() -> None:
    """Stop what `up` started."""
    import stack

    try:
        stopped = stack.down(_data_folder())
    except stack.StackError as error:
        click.secho(f"down failed: {error}", fg="red", err=True)
        sys.exit(1)
    click.echo("stopped" if stopped else "nothing is running")


@main.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where to write.")
@click.option("--seed", type=int, help="Seed of fields, crops and initial weights.")
@click.option("--epochs", type=int, help="Epochs to train for.")
def train(out: Path | None, seed: int | None, epochs: int | None) -> None:
    """Train the reference U-Net on simulated fields, and fit its confidence."""
    from reference.train import Training
    from reference.train import train as run
    from reference.weights import WEIGHTS

    given = {"seed": seed, "epochs": epochs}
    how = Training(**{name: value for name, value in given.items() if value is not None})
    run(how, out or WEIGHTS, click.echo)


if __name__ == "__main__":
    main()
