"""More requests than a gateway can answer, and whether it stays honest and keeps its promises.

``python -m benchmarks.load --minutes 5 --times 4`` starts a stack of its own, finds how many
exposures it scores in a second, sends so many times that, whether or not answers come, and looks at
what became of each request, at the gateway's memory, and at the latency afterwards.
"""

import asyncio
import io
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx
import numpy as np

from astrotriton.stack import down, up
from benchmarks.clients import asking
from benchmarks.faults import Victim

DEADLINE = 30.0
SIDE = 512
_SECONDS = 30.0
_ALONE = 15
_SAMPLE = 5.0
_MIB = 1 << 20


@dataclass(slots=True)
class Outcomes:
    """What became of requests.

    Attributes
    ----------
    waits
        Seconds until each exposure was answered.
    others
        How many of the rest ended how.
    silent
        How many were told to come back, and not when.
    """

    waits: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    silent: int = 0

    def wait(self, share: float) -> float:
        """Seconds within which this share of the answered ones was answered."""
        return float(np.quantile(self.waits, share))


def exposure(seed: int = 1) -> bytes:
    """A difference exposure of 40 sources, as a ``.npy`` file."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    image = rng.normal(size=(SIDE, SIDE))
    for column, row in rng.uniform(16, SIDE - 16, size=(40, 2)):
        image += 20.0 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * 1.8**2))
    file = io.BytesIO()
    np.save(file, image.astype(np.float32))
    return file.getvalue()


class Gateway:
    """Sends the same exposure again and again, each time once."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            trust_env=False,
            timeout=2 * DEADLINE,
            headers={"Request-Timeout": str(DEADLINE)},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )
        self._content = exposure()

    async def ask(self, outcomes: Outcomes) -> None:
        """Send it, and note what becomes of it."""
        started = time.perf_counter()
        try:
            response = await self._http.post("/detections/infer", files={"exposure": self._content})
        except httpx.HTTPError as error:
            outcomes.others[type(error).__name__] += 1
            return
        if response.status_code == 200:
            outcomes.waits.append(time.perf_counter() - started)
            return
        outcomes.others[f"{response.status_code} {response.json()['type'].split(':')[-1]}"] += 1
        if response.status_code in (429, 503) and "retry-after" not in response.headers:
            outcomes.silent += 1

    async def alone(self) -> Outcomes:
        """One request after the other."""
        outcomes = Outcomes()
        for _ in range(_ALONE):
            await self.ask(outcomes)
        return outcomes

    async def capacity(self) -> float:
        """Exposures a second that a few clients get answered who always want the next one."""
        outcomes, started = Outcomes(), time.perf_counter()

        async with asking(lambda number, turn: self.ask(outcomes)):
            await asyncio.sleep(_SECONDS)
        return len(outcomes.waits) / (time.perf_counter() - started)

    async def flood(self, rate: float, seconds: float) -> Outcomes:
        """So many requests a second, at even distances, whatever becomes of them."""
        outcomes, started = Outcomes(), time.perf_counter()
        async with asyncio.TaskGroup() as requests:
            for number in range(round(rate * seconds)):
                await asyncio.sleep(max(started + number / rate - time.perf_counter(), 0.0))
                requests.create_task(self.ask(outcomes))
        return outcomes


async def sample_memory(victim: Victim, found: list[float]) -> None:
    """The gateway's resident memory every 5 s, MiB."""
    gateway = victim.part("gateway")
    while True:
        found.append(gateway.memory_info().rss / _MIB)
        await asyncio.sleep(_SAMPLE)


async def measure(victim: Victim, minutes: float, times: float) -> list[str]:
    """Print what happens, and say which promises were broken."""
    gateway = Gateway(victim.addresses.gateway_url)
    await gateway.alone()
    capacity = await gateway.capacity()
    before = await gateway.alone()
    memory: list[float] = []
    sampling = asyncio.create_task(sample_memory(victim, memory))
    flood = await gateway.flood(times * capacity, 60.0 * minutes)
    sampling.cancel()
    after = await gateway.alone()

    sent = len(flood.waits) + flood.others.total()
    per_minute = memory[:: round(60.0 / _SAMPLE)] + memory[-1:]
    click.echo(f"capacity: {capacity:.2f} exposures of {SIDE}x{SIDE} a second")
    click.echo(f"sent: {sent} in {minutes:g} min, {times:g} times that")
    click.echo(
        f"answered: {len(flood.waits)}, p50 {flood.wait(0.5):.2f} s, p99 {flood.wait(0.99):.2f} s, "
        f"longest {max(flood.waits):.2f} s of a deadline of {DEADLINE:g} s"
    )
    click.echo(f"not answered: {dict(flood.others)}; without Retry-After: {flood.silent}")
    click.echo(f"gateway's memory, MiB, by minute: {', '.join(f'{one:.0f}' for one in per_minute)}")
    click.echo(f"one at a time: p50 {before.wait(0.5):.2f} s before, {after.wait(0.5):.2f} s after")
    refused = {"429 too-many-requests", "503 busy"}
    kept = {
        "the p99 of those answered is within the deadline": flood.wait(0.99) <= DEADLINE,
        "the rest were told to come back, and when": set(flood.others) <= refused
        and not flood.silent,
        "memory is flat": max(memory) <= 1.25 * memory[len(memory) // 5],
        "latency is afterwards as before": after.wait(0.5) <= 1.5 * before.wait(0.5),
    }
    return [promise for promise, holds in kept.items() if not holds]


@click.command()
@click.option("--minutes", type=float, default=5.0, show_default=True)
@click.option("--times", type=float, default=4.0, show_default=True, help="Of the capacity.")
def main(minutes: float, times: float) -> None:
    """Send a stack of its own more than it can do."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        try:
            owner = [sys.executable, "-m", "astrotriton.one_machine.owner", str(data)]
            addresses = up(data, owner, on_progress=lambda part, what: click.echo(f"{part} {what}"))
            broken = asyncio.run(measure(Victim(data, addresses), minutes, times))
        finally:
            down(data)
    for promise in broken:
        click.echo(f"not kept: {promise}")
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
