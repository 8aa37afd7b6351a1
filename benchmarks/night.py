"""A night by one command, beside what the same gateway does for clients that never stop asking.

``python -m benchmarks.night [N]`` starts a stack of its own. Each round sends N exposures of
512x512 pixels by the loop of `benchmarks.load`, and N others by `astrotriton score FOLDER --out
FOLDER`, both four at a time. It prints the seconds of both, and their ratio: 1.15 at most is
wanted. The command's seconds have its start in them, which counts for less the more exposures there
are.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from astrotriton.stack import down, up
from benchmarks.clients import CLIENTS
from benchmarks.load import Gateway, Outcomes, exposure

_WANTED = 1.15


async def by_the_loop(url: str, count: int) -> float:
    """Seconds in which a few clients, each with its next request at once, get so many answers.

    Raises
    ------
    RuntimeError
        If one is not answered.
    """
    gateway, outcomes, left = Gateway(url), Outcomes(), iter(range(count))

    async def client() -> None:
        for _ in left:
            await gateway.ask(outcomes)

    await gateway.alone()
    started = time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())
    seconds = time.perf_counter() - started
    if len(outcomes.waits) < count:
        raise RuntimeError(f"not answered: {dict(outcomes.others)}")
    return seconds


def by_the_command(url: str, folder: Path, seeds: range) -> float:
    """Seconds in which one command scores exposures that the gateway has not seen.

    Raises
    ------
    subprocess.CalledProcessError
        If it does not score them all.
    """
    night = folder / f"night-{seeds.start}"
    night.mkdir()
    for seed in seeds:
        (night / f"{seed}.npy").write_bytes(exposure(seed))
    command = [sys.executable, "-m", "astrotriton", "score", str(night), "--url", url]
    command += ["--out", str(folder / f"scored-{seeds.start}"), "--jobs", str(CLIENTS)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


@click.command()
@click.argument("count", type=click.IntRange(1), default=200)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def main(count: int, rounds: int) -> None:
    """Score COUNT exposures each way, and print the ratio; 1 if it is over what is wanted."""
    ratios = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = folder / "stack"
        owner = [sys.executable, "-m", "astrotriton.one_machine.owner", str(data)]
        try:
            told = up(data, owner, on_progress=lambda part, what: click.echo(f"{part} {what}"))
            url = told.gateway_url
            for number in range(rounds):
                loop = asyncio.run(by_the_loop(url, count))
                seeds = range(1 + number * count, 1 + (number + 1) * count)
                command = by_the_command(url, folder, seeds)
                ratios.append(command / loop)
                click.echo(
                    f"{count} exposures: the loop {loop:.1f} s, the command {command:.1f} s, "
                    f"{ratios[-1]:.2f} times that"
                )
        finally:
            down(data)
    ratio = statistics.median(ratios)
    click.echo(f"median of {rounds}: {ratio:.2f}; wanted: {_WANTED} at most")
    raise SystemExit(ratio > _WANTED)


if __name__ == "__main__":
    main()
