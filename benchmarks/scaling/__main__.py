"""``python -m benchmarks.scaling`` checks the simulation against a load on this machine.

Then it says what surveys would need, by the costs that were measured.
"""

import asyncio
import math
import os
import sys
import tempfile
from pathlib import Path

import click

from astrotriton.gateway.settings import GatewaySettings
from astrotriton.stack import down, up
from benchmarks.faults import Victim
from benchmarks.scaling.measurement import (
    costs_of,
    gateway,
    load_of,
    second_triton,
    stored_bytes,
)
from benchmarks.scaling.simulation import Costs, Outcome, Site, closed, opened
from benchmarks.scaling.surveys import SURVEYS, Survey
from benchmarks.speed.exposures import SIDE, made
from benchmarks.speed.networks import UNDISTURBED
from benchmarks.speed.processes import free_port

_WITHIN = 0.20
# Enough that a queue which grows is seen to.
_EXPOSURES = 8
_BATCH = 32
_INSIDE = GatewaySettings.model_fields["max_runs"].default
_GROWTH = 1.1


@click.command()
@click.option("--clients", type=int, default=8, show_default=True)
@click.option("--exposures", type=int, default=160, show_default=True, help="Of the load.")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--gpu", type=float, multiple=True, default=(100.0, 500.0, 2000.0), show_default=True)
def main(clients: int, exposures: int, rounds: int, gpu: tuple[float, ...]) -> None:
    """Measure, simulate, compare; ``--gpu`` are tiles a second that one GPU is taken to answer."""
    os.environ |= UNDISTURBED
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "stack"
        owner = [sys.executable, "-m", "astrotriton.one_machine.owner", str(data)]
        try:
            addresses = up(data, owner, on_progress=lambda part, what: click.echo(f"{part} {what}"))
            victim = Victim(data, addresses)
            costs, pairs = asyncio.run(
                _compare(victim, Path(folder) / "second", clients, exposures, rounds)
            )
            detection, cutouts = asyncio.run(stored_bytes(addresses.database_url))
        finally:
            down(data)
    click.echo(_costs(costs))
    click.echo(
        f"bytes of a stored detection: {detection:.0f}; of an exposure's cut-outs: {cutouts:.0f}"
    )
    click.echo(f"\n{'':<10}{'measured':>22}{'simulated':>22}")
    worst = 0.0
    for measured, simulated in pairs:
        click.echo(f"{'load':<10}{_told(measured):>22}{_told(simulated):>22}")
        worst = max(worst, *_errors(measured, simulated))
    click.echo(f"largest error {worst:.1%}; at most {_WITHIN:.0%} is called right")
    for rate in gpu:
        click.echo(f"\nGPUs of {rate:g} tiles a second each")
        click.echo(_needs(costs, rate))
    raise SystemExit(worst > _WITHIN)


async def _compare(
    victim: Victim, folder: Path, clients: int, exposures: int, rounds: int
) -> tuple[Costs, list[tuple[Outcome, Outcome]]]:
    content = [made(number, SIDE, folder / "exposures") for number in range(8)]
    cores = len(os.sched_getaffinity(0))
    pairs = []
    async with second_triton(victim, folder) as second:
        tritons = [victim.addresses.triton_grpc, second]
        with gateway(victim, tritons, free_port()) as trial:
            for _ in range(rounds):
                costs = await costs_of(trial, content, 30)
                measured = await load_of(trial, content, clients, exposures)
                site = Site(tritons=2, instances=2, inside=_INSIDE, batch=2, cores=cores)
                pairs.append((measured, closed(site, costs, clients, exposures)))
    return costs, pairs


def _errors(measured: Outcome, simulated: Outcome) -> tuple[float, float]:
    return (
        abs(simulated.throughput / measured.throughput - 1.0),
        abs(simulated.quantile(0.95) / measured.quantile(0.95) - 1.0),
    )


def _told(outcome: Outcome) -> str:
    return f"{outcome.throughput:.2f}/s, p95 {outcome.quantile(0.95):.2f} s"


def _costs(costs: Costs) -> str:
    inference = sum(costs.inference) / len(costs.inference)
    return (
        "CPU seconds of a 512x512 exposure: "
        f"client {costs.client:.4f}, gateway {costs.before + costs.after:.4f}, "
        f"Triton {costs.server:.4f}, its model {inference:.4f}, "
        f"PostgreSQL and NATS {costs.database:.4f}"
    )


def _needs(costs: Costs, rate: float) -> str:
    lines = [f"{'':<12}{'tiles/s':>9}{'GPUs':>6}{'gateways':>10}{'rows/night':>13}{'p95 (s)':>9}"]
    for survey in SURVEYS:
        gpus, gateways, outcome = plan(survey, costs, rate)
        lines.append(
            f"{survey.name:<12}{survey.tiles_per_second:>9.0f}{gpus:>6}{gateways:>10}"
            f"{survey.rows_per_night:>13,}{outcome.quantile(0.95):>9.1f}"
        )
    return "\n".join(lines)


def plan(survey: Survey, costs: Costs, rate: float) -> tuple[int, int, Outcome]:
    """The fewest GPUs and gateways of one core with which a survey's exposures don't pile up.

    All detectors of an exposure arrive at once; the last exposure must not wait longer than the
    first.

    Returns
    -------
    tuple
        GPUs, gateways, and how exposures go with them.
    """
    # Work on an exposure of one tile, taken to grow with its tiles; what Triton gets are
    # batches of them.
    seconds = costs.before + costs.after
    on_gpu = Costs(
        before=seconds / 2 * survey.tiles,
        after=seconds / 2 * survey.tiles,
        inference=[_BATCH / rate],
        database=costs.database,
    )
    arrivals = [
        number * survey.cadence for number in range(_EXPOSURES) for _ in range(survey.detectors)
    ]
    gpus = math.ceil(survey.tiles_per_second / rate)
    gateways = math.ceil(survey.tiles_per_second * seconds)
    while True:
        site = Site(gateways=gateways, inside=64, tritons=gpus, batch=1)
        outcome = opened(site, on_gpu, arrivals, math.ceil(survey.tiles / _BATCH))
        latest = outcome.latencies[-survey.detectors :].mean()
        if latest <= _GROWTH * outcome.latencies[: survey.detectors].mean():
            return gpus, gateways, outcome
        gpus, gateways = math.ceil(1.1 * gpus), math.ceil(1.1 * gateways)


if __name__ == "__main__":
    main()
