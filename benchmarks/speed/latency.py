"""One exposure at a time: what the way adds to inference, and what a large exposure costs."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec

from benchmarks.speed.contenders.raw import infer, session
from benchmarks.speed.contenders.served import GatewayHttp
from benchmarks.speed.exposures import Exposure
from benchmarks.speed.figures import Spread, turned
from benchmarks.speed.networks import Served
from benchmarks.speed.processes import forget_peaks, peak_memory, tree

P = ParamSpec("P")

_CORES = 2
_PAUSE = 0.1  # seconds


def p50_overhead(
    shown: Sequence[Exposure], served: Served, gateway: GatewayHttp, rounds: int
) -> Spread:
    """What the gateway's median latency adds to raw inference, as a share of that.

    Raw is one session of one thread, as an instance of Triton's is. Both score each exposure, one
    right after the other, and only then comes the next: what a shared machine does to its speed
    from second to second meets both. In between is a pause, as what the gateway does after it has
    answered is not raw inference's to wait for.
    """
    network = session(served.content, 1)
    ways: list[Callable[[Exposure], None]] = [gateway.score, lambda one: infer(network, one.tiles)]
    for way in ways:
        way(shown[0])
    found = []
    for _ in range(rounds):
        took: dict[Callable[[Exposure], None], list[float]] = {way: [] for way in ways}
        for number, one in enumerate(shown):
            for way in turned(ways, number):
                time.sleep(_PAUSE)
                took[way].append(seconds_of(way, one))
        through, raw = (statistics.median(took[way]) for way in ways)
        found.append(through / raw - 1.0)
    return Spread.of(found)


def large(
    exposure: Exposure, served: Served, gateway: GatewayHttp, rounds: int
) -> dict[str, Spread]:
    """What one large exposure costs through the gateway, beside its tiles' raw inference.

    Returns
    -------
    ``large_vs_tiles``: its seconds over those that a session of one thread on each core needs for
    as many tiles. ``large_memory_vs_exposure``: the gateway's peak over the exposure's size;
    ``large_growth_vs_exposure``: the part of it that was not held before.
    """
    networks = [session(served.content, 1) for _ in range(_CORES)]
    own = {"gateway": tree(served.victim.part("gateway"))}

    def raw(one: Exposure) -> None:
        with ThreadPoolExecutor(_CORES) as threads:
            shares = [one.tiles[start::_CORES] for start in range(_CORES)]
            list(threads.map(infer, networks, shares))

    costs, peaks, growths = [], [], []
    for number in range(rounds):
        forget_peaks(own)
        before = peak_memory(own)
        ways = turned([gateway.score, raw], number)
        through, alone = turned([seconds_of(way, exposure) for way in ways], number)
        costs.append(through / alone)
        peak = peak_memory(own)
        peaks.append(peak / len(exposure.file))
        growths.append((peak - before) / len(exposure.file))
    return {
        "large_vs_tiles": Spread.of(costs),
        "large_memory_vs_exposure": Spread.of(peaks),
        "large_growth_vs_exposure": Spread.of(growths),
    }


def seconds_of(what: Callable[P, object], *asked: P.args, **named: P.kwargs) -> float:
    """How long something takes."""
    began = time.perf_counter()
    what(*asked, **named)
    return time.perf_counter() - began
