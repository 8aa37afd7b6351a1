"""``python -m benchmarks.speed.growth``: how cost grows with what is asked.

Exposures of 256x256 to 8192x8192 pixels, none to 100,000 candidates, one to 64 clients; and queries
over a million to ten million stored detections. Writes ``growth.json`` and ``growth.png``.
"""

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import httpx
import matplotlib.pyplot as plt
import msgspec
import numpy as np

from benchmarks.speed.contenders.raw import infer, session
from benchmarks.speed.contenders.served import GatewayHttp
from benchmarks.speed.exposures import SIDE, Exposure, asked, exposures
from benchmarks.speed.figures import Spread
from benchmarks.speed.latency import seconds_of
from benchmarks.speed.networks import NETWORKS, Served, serving
from benchmarks.speed.processes import forget_peaks, free_port, peak_memory, tree
from benchmarks.speed.queries import Queried, grow_and_ask
from benchmarks.speed.wire import MULTIPART, multipart, post

_SIDES = (256, 512, 1024, 2048, 4096, 8192)
_CANDIDATES = (0, 100, 1_000, 10_000, 100_000)
_CANDIDATES_SIDE = 4096
_CLIENTS = (1, 2, 4, 8, 16, 32, 64)
_COUNT = 96
_SHOWN = 16
_REPEATS = 3
_WARM_UP = 8


class Sized(msgspec.Struct, frozen=True):
    """What an exposure of a size costs through the gateway, and its tiles' raw inference."""

    side: int
    tiles: int
    seconds: Spread
    raw_seconds: float
    peak_over_size: float


class Matched(msgspec.Struct, frozen=True):
    """Seconds of a run's parts, by how many candidates it has."""

    candidates: int
    seconds: Spread
    stages: dict[str, float]


class Crowded(msgspec.Struct, frozen=True):
    """Exposures a second, and what a client waits for one, by the number of clients."""

    clients: int
    rate: Spread
    wait: Spread


class Growth(msgspec.Struct):
    """All of it."""

    sizes: list[Sized] = []
    candidates: list[Matched] = []
    clients: list[Crowded] = []
    queries: list[Queried] = []


def sizes(served: Served, gateway: GatewayHttp, cache: Path, largest: int) -> list[Sized]:
    """Exposures of growing size, one at a time."""
    network = session(served.content, 1)
    infer(network, exposures(1, served.card, cache)[0].tiles)
    own = {"gateway": tree(served.victim.part("gateway"))}
    found = []
    for side in (one for one in _SIDES if one <= largest):
        exposure = exposures(1, served.card, cache, side)[0]
        alone = seconds_of(infer, network, exposure.tiles[:4]) / len(exposure.tiles[:4])
        forget_peaks(own)
        took = [seconds_of(gateway.score, exposure) for _ in range(_REPEATS)]
        peak = peak_memory(own) / len(exposure.file)
        tiles = len(exposure.tiles)
        found.append(Sized(side, tiles, Spread.of(took), alone * tiles, peak))
    return found


def candidates(served: Served, cache: Path) -> list[Matched]:
    """One exposure with a growing number of candidates."""
    address = urlsplit(served.victim.addresses.gateway_url).netloc
    exposure = exposures(1, served.card, cache, _CANDIDATES_SIDE)[0]
    rng = np.random.default_rng(1)
    found = []
    for count in _CANDIDATES:
        positions = rng.uniform(0, _CANDIDATES_SIDE - 1, size=(count, 2))
        body = multipart(exposure.file, request=asked(positions.tolist()))
        own = threading.local()
        before = _stages(address)

        took = [
            seconds_of(post, own, address, "/detections/infer", body, MULTIPART)
            for _ in range(_REPEATS)
        ]
        after = _stages(address)
        parts = {name: (after[name] - before.get(name, 0.0)) / _REPEATS for name in after}
        found.append(Matched(count, Spread.of(took), parts))
    return found


def clients(shown: Sequence[Exposure], gateway: GatewayHttp) -> list[Crowded]:
    """The same exposures, asked for by a growing number of clients."""
    found = []
    for count in _CLIENTS:
        took = [gateway.drain(max(_COUNT, 2 * count), count) for _ in range(_REPEATS)]
        rates = [max(_COUNT, 2 * count) / one for one in took]
        # Each client has one exposure on its way at any time (Little's law).
        found.append(Crowded(count, Spread.of(rates), Spread.of(count / one for one in rates)))
    return found


def _stages(address: str) -> dict[str, float]:
    """Seconds that the gateway has spent in each part of its runs so far."""
    text = httpx.get(f"http://{address}/metrics", trust_env=False).text
    name = "astrotriton_run_stage_duration_seconds_sum{stage="
    lines = [line.removeprefix(name) for line in text.splitlines() if line.startswith(name)]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def plot(growth: Growth, path: Path) -> None:
    """What grew, each on axes of its own."""
    figure, axes = plt.subplots(2, 2, figsize=(10.0, 7.5), layout="constrained")
    first, second, third, fourth = axes.ravel()
    pixels = [one.side for one in growth.sizes]
    first.loglog(pixels, [one.seconds.median for one in growth.sizes], "o-", label="gateway")
    first.loglog(pixels, [one.raw_seconds for one in growth.sizes], "s--", label="tiles, one core")
    first.set(xlabel="side (px)", ylabel="s", title="one exposure")
    first.set_xticks(pixels, [str(one) for one in pixels], minor=False)
    first.minorticks_off()
    many = [one.candidates for one in growth.candidates]
    for name in ("prepare", "infer", "finish", "store"):
        parts = [one.stages.get(name, 0.0) for one in growth.candidates]
        second.plot(many, parts, "o-", label=name)
    second.set_xscale("symlog", linthresh=100)
    second.set(xlabel="candidates", ylabel="s", title=f"parts of a run, {_CANDIDATES_SIDE} px")
    crowd = [one.clients for one in growth.clients]
    third.semilogx(crowd, [one.rate.median for one in growth.clients], "o-", label="exposures/s")
    third.plot(crowd, [one.wait.median for one in growth.clients], "s--", label="wait (s)")
    third.set_xticks(crowd, [str(one) for one in crowd])
    third.minorticks_off()
    third.set(xlabel="clients", title=f"exposures of {SIDE} px", ylim=(0, None))
    for query in dict.fromkeys(one.query for one in growth.queries):
        own = [one for one in growth.queries if one.query == query]
        times = [1e3 * one.seconds for one in own]
        fourth.semilogx([one.stored for one in own], times, "o-", label=query)
    fourth.set(xlabel="stored detections", ylabel="ms", title="queries", ylim=(0, None))
    for ax in axes.flat:
        if ax.get_lines():
            ax.legend()
    figure.savefig(path, dpi=120)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="out", show_default=True)
@click.option("--network", type=click.Choice(list(NETWORKS)), default="reference")
@click.option("--largest", type=int, default=_SIDES[-1], show_default=True, help="Side, pixels.")
@click.option("--rows", type=int, default=10_000_000, show_default=True, help="Most detections.")
@click.option("--only", multiple=True, type=click.Choice(Growth.__struct_fields__))
@click.option("--cache", type=click.Path(path_type=Path), envvar="BENCH_CACHE", default="var/bench")
def main(
    out: Path, network: str, largest: int, rows: int, only: tuple[str, ...], cache: Path
) -> None:
    """Measure how cost grows with what is asked.

    What is not asked for stays as an earlier run left it in OUT.
    """
    # As Ctrl-C does, so that no server is left.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "growth.json"
    growth = msgspec.json.decode(kept.read_bytes(), type=Growth) if kept.exists() else Growth()
    with serving(NETWORKS[network], free_port()) as served:
        shown = exposures(_SHOWN, served.card, cache)
        gateway = GatewayHttp(shown, served)
        parts: dict[str, Callable[[], list[Any]]] = {
            "clients": lambda: clients(shown, gateway),
            "candidates": lambda: candidates(served, cache),
            "sizes": lambda: sizes(served, gateway, cache, largest),
            "queries": lambda: grow_and_ask(served, rows),
        }
        try:
            gateway.drain(_WARM_UP, _WARM_UP)
            for name, part in parts.items():
                if not only or name in only:
                    setattr(growth, name, part())
                    kept.write_bytes(msgspec.json.format(msgspec.json.encode(growth)))
        finally:
            gateway.stop()
            plot(growth, out / "growth.png")


if __name__ == "__main__":
    main()
