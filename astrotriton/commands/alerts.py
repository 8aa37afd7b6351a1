"""`astrotriton alerts`: packets of ZTF and Rubin with a score added."""

from functools import partial
from pathlib import Path

import click

from astrotriton.alerts.files import pass_on
from astrotriton.alerts.packets import PacketError
from astrotriton.alerts.scoring import scored
from astrotriton.cli import fail
from astrotriton.client import Client, ClientError, InferStamps
from astrotriton.commands.reaching import gateway_at, gateway_options

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Score alert packets of ZTF and Rubin.")
@click.argument("files", type=_FILE, nargs=-1, required=True)
@gateway_options
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The Avro file that gets the packets with their scores.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    default=128,
    show_default=True,
    help="Packets that are scored at a time.",
)
@click.option(
    "--threshold", type=click.FloatRange(0.0, 1.0), help="Least confidence of a real one."
)
@click.option("--version", type=click.IntRange(1), help="The version that answers.")
def alerts(
    files: tuple[Path, ...],
    url: str | None,
    token: str | None,
    out: Path,
    batch: int,
    threshold: float | None,
    version: int | None,
) -> None:
    """Score the alert packets of Avro files, and write each with a field `astrotriton` added.

    They stay in order. Started again after it was ended, the command goes on where it stopped: no
    packet is lost, and none is written twice.
    """
    how = InferStamps(confidence_threshold=threshold, model_version=version)
    with Client(gateway_at(url, "alerts"), token=token) as client:
        try:
            for done in pass_on(files, out, partial(scored, client, how=how), batch):
                click.echo(f"{done} packets in {out}", err=True)
        except (ClientError, PacketError, OSError) as error:
            fail("alerts", error)
