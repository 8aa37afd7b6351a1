"""``python -m benchmarks.power``: many power cuts, and the same with settings that must lose."""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from astrotriton.stack import Addresses, down, up
from astrotriton.stack.parts.nats import nats
from astrotriton.stack.parts.s3 import bucket_at, s3
from astrotriton.stack.supervise import cancel_on_signals
from benchmarks.power.disks import why_not
from benchmarks.power.load import objects_lost, objects_put
from benchmarks.power.servers import Server, on_a_disk
from benchmarks.power.trial import (
    Findings,
    Trial,
    moments,
    nats_that_syncs_seldom,
    postgres_that_syncs_later,
    trial,
)

# Cuts after which the promises are looked at.
_AUDIT = 5

_SELDOM = "NATS that syncs every two minutes"


#: What can be cut, in this order.
KINDS = ("nats", "postgresql", "seldom", "old", "s3")


@click.command()
@click.option("--cuts", type=int, default=100, show_default=True, help="Of NATS and PostgreSQL.")
@click.option("--few", type=int, default=10, show_default=True, help="Of each other kind.")
@click.option("--only", type=click.Choice(KINDS), multiple=True, help="Not all kinds.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--triton", help="host:port of a Triton that serves; left out: a stack is started.")
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), help="What it serves from."
)
def main(
    cuts: int,
    few: int,
    only: tuple[str, ...],
    seed: int,
    triton: str | None,
    repository: Path | None,
) -> None:
    """Cut the power of NATS, PostgreSQL and the S3 store under load, and print what was lost.

    The kinds: `nats` and `postgresql` as the stack sets them, `seldom` a NATS that acknowledges
    before it syncs, `old` what has to lose, and `s3` the store. Exit code 1: something was lost
    that should not have been, or nothing was lost that had to be.
    """
    if (reason := why_not()) is not None:
        raise click.ClickException(reason)
    plan = Plan(set(only or KINDS), cuts, few, moments(seed))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if triton is not None and repository is not None:
            sys.exit(asyncio.run(plan.run(triton, repository, folder)))
        stack = folder / "stack"
        owner = [sys.executable, "-m", "astrotriton.one_machine.owner", str(stack)]
        try:
            addresses: Addresses = up(stack, owner, on_progress=lambda part, what: None)
            served = (addresses.triton_grpc, stack / "model_repository")
            sys.exit(asyncio.run(plan.run(*served, folder)))
        finally:
            down(stack)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which kinds are cut, how often, and after how many seconds of load each time."""

    kinds: set[str]
    cuts: int
    few: int
    moment: Callable[[], float]

    async def run(self, triton: str, repository: Path, folder: Path) -> int:
        """Cut, print the findings, and give the exit code."""
        cancel_on_signals()  # so that nothing runs on, and nothing stays mounted
        lost, lucky = 0, False
        if self.kinds - {"s3"}:
            async with trial(triton, repository, folder) as one:
                if "nats" in self.kinds:
                    lost += await _cut(one, "NATS", one.broker, self.cuts, self.moment)
                if "postgresql" in self.kinds:
                    lost += await _cut(one, "PostgreSQL", one.database, self.cuts, self.moment)
                if self.kinds & {"seldom", "old"}:
                    one.broker.describe = nats_that_syncs_seldom
                    await one.broker.restart()
                if "seldom" in self.kinds:
                    lost += await _cut(one, _SELDOM, one.broker, self.few, self.moment)
                if "old" in self.kinds:
                    lucky = await self._cut_old(one)
        if "s3" in self.kinds:
            lost += await _cut_store(folder, self.few, self.moment)
        return 1 if lost or lucky else 0

    async def _cut_old(self, one: Trial) -> bool:
        """Cut what has to lose; whether one of the two lost nothing."""
        click.echo("these have to lose:")
        await one.forget_places()
        title = f"{_SELDOM}, an outbox that notes no place"
        kept = not await _cut(one, title, one.broker, self.few, self.moment)
        one.broker.describe = nats
        one.database.describe = postgres_that_syncs_later
        await asyncio.gather(one.broker.restart(), one.database.restart())
        title = "PostgreSQL with synchronous_commit=off"
        return kept or not await _cut(one, title, one.database, self.few, self.moment)


async def _cut(
    one: Trial, title: str, victim: Server, cuts: int, moment: Callable[[], float]
) -> int:
    """Cut a server's power so often, print the findings, and count what was lost."""
    findings = Findings()
    for number in range(1, cuts + 1):
        await one.cut(victim, seconds=moment())
        if number % _AUDIT == 0 or number == cuts:
            findings += await one.audit()
            click.echo(f"{title}, so far: {findings}", err=True)
    click.echo(f"{title}: {findings}")
    for text in findings.broken[:5]:
        click.echo(f"  {text}")
    return findings.lost


async def _cut_store(folder: Path, cuts: int, moment: Callable[[], float]) -> int:
    lost, answered = 0, dict[str, bytes]()
    async with on_a_disk(s3, "s3", folder, 4096) as server:
        for _ in range(cuts):
            bucket = bucket_at(server.addresses)
            async with objects_put(bucket, answered):
                await asyncio.sleep(2.0 + moment())
                await server.cut()
            lost += await objects_lost(bucket, answered)
    click.echo(f"S3 store: {cuts} cuts; {len(answered) + lost} objects were answered; lost: {lost}")
    return lost


if __name__ == "__main__":
    main()
