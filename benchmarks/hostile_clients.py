"""Clients that send slowly for ever, and whether honest ones notice.

``python -m benchmarks.hostile_clients`` starts a stack of its own, scores exposures alone and then
beside hundreds of connections whose headers or bodies never end, and compares the latency of the
honest requests and the memory of the gateway. ``--gateway`` takes a gateway that runs already, on
this machine and under the process id ``--pid``.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click
import httpx
import numpy as np
import psutil

from astrotriton.stack import down, up
from benchmarks.faults import Victim
from benchmarks.load import exposure

_MIB = 1 << 20
_EVERY = 1.0  # seconds between two bytes of a connection
_HEAD = "GET /detections HTTP/1.1\r\nHost: {host}\r\nX-Slow: "
_BODY = (
    "POST /detections/infer HTTP/1.1\r\nHost: {host}\r\n{authorization}"
    "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 500000000\r\n\r\n"
    '--b\r\nContent-Disposition: form-data; name="exposure"\r\n\r\n'
)


class Slowloris:
    """Holds connections open, a byte at a time, and opens each again when it is closed.

    Attributes
    ----------
    endings
        How often a connection ended with which status, or without one.
    """

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        authorization = "" if key is None else f"Authorization: Bearer {key}\r\n"
        self._begin = [
            text.format(host=parts.netloc, authorization=authorization).encode()
            for text in (_HEAD, _BODY)
        ]
        self.endings: Counter[str] = Counter()

    async def attack(self, connections: int) -> None:
        """Half of the connections never end their headers, the others their bodies."""
        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                group.create_task(self._hold(self._begin[number % 2], number / connections))

    async def _hold(self, begin: bytes, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            try:
                reader, writer = await asyncio.open_connection(*self._address)
            except OSError:
                self.endings["not connected"] += 1
                await asyncio.sleep(_EVERY)
                continue
            try:
                self.endings[await self._drip(reader, writer, begin)] += 1
            finally:
                writer.close()

    async def _drip(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begin: bytes
    ) -> str:
        answer = asyncio.create_task(reader.readline())
        try:
            writer.write(begin)
            while not answer.done():
                writer.write(b"a")
                await asyncio.wait([answer], timeout=_EVERY)
            return answer.result().decode().strip() or "closed"
        except ConnectionError:
            return "reset"
        finally:
            answer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await answer


class Honest:
    """Scores one exposure after the other, and notes the seconds that each took."""

    def __init__(self, url: str, key: str | None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(
            base_url=url, trust_env=False, timeout=120.0, headers=headers
        )
        self._content = exposure()
        self.others: Counter[int] = Counter()

    async def score(self, seconds: float) -> list[float]:
        """The waits of requests that were begun within so many seconds."""
        waits, until = [], time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            answer = await self._http.post("/detections/infer", files={"exposure": self._content})
            if answer.status_code == 200:
                waits.append(time.perf_counter() - began)
            else:
                self.others[answer.status_code] += 1
        return waits


async def largest_memory(process: psutil.Process) -> float:
    """The most resident memory until it is cancelled, MiB."""
    most = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            most = max(most, process.memory_info().rss / _MIB)
            await asyncio.sleep(0.5)
    return most


async def measure(
    url: str, pid: int, keys: tuple[str | None, str | None], connections: int, seconds: float
) -> list[str]:
    """Print what happens, and say which promises were broken."""
    process = psutil.Process(pid)
    honest, hostile = Honest(url, keys[0]), Slowloris(url, keys[1])
    await honest.score(seconds / 4)
    alone = await honest.score(seconds)
    memory = process.memory_info().rss / _MIB
    watching = asyncio.create_task(largest_memory(process))
    attacking = asyncio.create_task(hostile.attack(connections))
    await asyncio.sleep(2.0)
    beside = await honest.score(seconds)
    attacking.cancel()
    await asyncio.gather(attacking, return_exceptions=True)
    watching.cancel()
    most = await watching
    p95 = [float(np.quantile(waits, 0.95)) for waits in (alone, beside)]
    click.echo(
        f"{connections} connections, half with headers and half with bodies that never end, "
        f"{seconds:g} s: ended and opened again {dict(hostile.endings)}"
    )
    for name, waits, late in zip(("alone", "beside them"), (alone, beside), p95, strict=True):
        middle = float(np.median(waits))
        click.echo(f"honest, {name}: {len(waits)} scored, p50 {middle:.3f} s, p95 {late:.3f} s")
    click.echo(f"honest, not answered: {dict(honest.others)}")
    click.echo(f"gateway's memory: {memory:.0f} MiB before, at most {most:.0f} MiB meanwhile")
    kept = {
        "every honest request is answered": not honest.others,
        "the honest p95 is within 2 times": p95[1] <= 2.0 * p95[0],
        "memory is within 50 MiB of before": most <= memory + 50.0,
    }
    return [promise for promise, holds in kept.items() if not holds]


@contextmanager
def own_stack() -> Iterator[tuple[str, int]]:
    """A stack until the block ends: its gateway's address and process id."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        try:
            owner = [sys.executable, "-m", "astrotriton.one_machine.owner", str(data)]
            addresses = up(data, owner, on_progress=lambda part, what: click.echo(f"{part} {what}"))
            yield addresses.gateway_url, Victim(data, addresses).part("gateway").pid
        finally:
            down(data)


@click.command()
@click.option("--connections", type=int, default=500, show_default=True)
@click.option("--seconds", type=float, default=60.0, show_default=True)
@click.option("--gateway", help="Address of a gateway that runs already.")
@click.option("--pid", type=int, help="Its process id.")
@click.option("--key", help="API key of the honest client, with the scope `infer`.")
@click.option("--hostile-key", help="API key of the hostile one, with the scope `infer`.")
def main(
    connections: int,
    seconds: float,
    gateway: str | None,
    pid: int | None,
    key: str | None,
    hostile_key: str | None,
) -> None:
    """Compare honest requests alone with those beside hostile clients."""
    if (gateway is None) != (pid is None):
        raise click.UsageError("give both of --gateway and --pid, or neither")
    keys = key, hostile_key
    if gateway is not None and pid is not None:
        broken = asyncio.run(measure(gateway, pid, keys, connections, seconds))
    else:
        with own_stack() as (url, own):
            broken = asyncio.run(measure(url, own, keys, connections, seconds))
    for promise in broken:
        click.echo(f"not kept: {promise}")
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
