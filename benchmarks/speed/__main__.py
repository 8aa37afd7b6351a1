"""``python -m benchmarks.speed``: measure, and write ``bench.json`` and ``bench.md``."""

import signal
import sys
import time
from pathlib import Path

import click

from benchmarks.speed.measure import CLIENTS, Plan, measure
from benchmarks.speed.networks import NETWORKS, SETTINGS
from benchmarks.speed.report import NetworkReport, Report, machine, to_json, to_markdown

_TRIES = 8


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder for bench.json and bench.md.")
@click.option(
    "--quick", is_flag=True, help="Three rounds, of half as many exposures, on the first network."
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    type=click.Choice(list(NETWORKS)),
    help="All, if none is named.",
)
@click.option("--rounds", type=int, help="Turns of each contender, if not 7, or 3 if quick.")
@click.option("--count", type=int, help="Exposures a turn, if not what takes some ten seconds.")
@click.option(
    "--only",
    multiple=True,
    help="Contenders by key, and latency, large, rows; if none is named, all of a network's.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    envvar="BENCH_CACHE",
    default="var/bench",
    show_default=True,
    help="Folder for exposures and environments.",
)
def main(
    out: Path | None,
    quick: bool,
    networks: tuple[str, ...],
    rounds: int | None,
    count: int | None,
    only: tuple[str, ...],
    cache: Path,
) -> None:
    """Measure how fast exposures are scored."""
    # As Ctrl-C does, so that no server is left.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()

    def tell(what: str) -> None:
        click.echo(f"{time.monotonic() - began:6.0f} s  {what}", err=True)

    rounds = rounds or (3 if quick else 7)
    report = Report(
        machine=machine(),
        settings={"rounds": rounds, "clients": CLIENTS, **SETTINGS},
    )
    for key in networks or tuple(NETWORKS)[: 1 if quick else None]:

        def save(known: NetworkReport, key: str = key) -> None:
            report.networks[key] = known
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                (out / "bench.json").write_bytes(to_json(report))
                (out / "bench.md").write_text(to_markdown(report))

        network = NETWORKS[key]
        plan = Plan(
            rounds=rounds,
            count=count or (network.count // 2 if quick else network.count),
            tries=0 if quick else _TRIES,
            only=frozenset(only) or network.contenders,
            cache=cache.resolve(),
        )
        measure(network, plan, tell, save)
    click.echo(to_markdown(report))


if __name__ == "__main__":
    main()
