"""Commands of the one-machine stack."""

import asyncio
import sys
from pathlib import Path

import click

from astrotriton import stack
from astrotriton.cli import fail
from astrotriton.folders import data_folder


@click.command()
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="FITS or .npy file to score; without it, a simulated difference exposure.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out"),
    show_default=True,
    help="Folder for detections.json, detections.png and, if it was simulated, exposure.fits.",
)
def demo(image: Path | None, out: Path) -> None:
    """Run the whole way once, on real servers, for one exposure."""
    from astrotriton.one_machine.demo import DemoError, run

    try:
        asyncio.run(run(_made(data_folder()), image, out))
    except DemoError as error:
        fail("demo", error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.secho("demo interrupted; everything that it started is stopped", err=True)
        raise SystemExit(130) from None


@click.command()
def up() -> None:
    """Start every server and keep it serving, also when this command ends."""
    data = _made(data_folder())
    owner = [sys.executable, "-m", "astrotriton.one_machine.owner", str(data)]
    try:
        addresses = stack.up(
            data, owner, on_progress=lambda part, what: click.echo(f"{part:<8}  {what}")
        )
    except stack.StackError as error:
        fail("up", error)
    for part, address in addresses.public().items():
        click.echo(f"{part:<8}  {address}")
    click.echo(
        f"\nTo look:   {addresses.gateway_url}/dashboard"
        f"\nTo ask:    export GATEWAY={addresses.gateway_url}"
        "\nTo score:  `make demo` scores an exposure here, and keeps it as out/exposure.fits"
        "\nTo stop:   `make down`"
    )


@click.command()
def down() -> None:
    """Stop what `up` started."""
    try:
        stopped = stack.down(data_folder())
    except stack.StackError as error:
        fail("down", error)
    click.echo("stopped" if stopped else "nothing is running")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
