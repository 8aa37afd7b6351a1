"""Medians, spreads and ratios: pure functions of what was measured."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

_T = TypeVar("_T")

#: Ratios of exposures a second: the name in ``bench.json``, and the two contenders' keys.
#: The second is ``raw`` for whichever raw way was the fastest.
RATIOS = {
    "triton_vs_raw": ("triton", "raw"),
    "gateway_vs_raw": ("gateway", "raw"),
    "grpc_vs_raw": ("grpc", "raw"),
    "gateway_vs_origin": ("gateway", "origin"),
    "gateway_vs_mlflow_serve": ("gateway", "mlflow_serve"),
    "gateway_vs_mlserver": ("gateway", "mlserver"),
    "gateway_vs_bentoml": ("gateway", "bentoml"),
}


class Spread(msgspec.Struct, frozen=True):
    """The median of some values, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value; of one alone, the quartiles are itself."""
        known = sorted(values)
        if len(known) == 1:
            return cls(known[0], known[0], known[0])
        low, median, high = statistics.quantiles(known, n=4, method="inclusive")
        return cls(median, low, high)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a contender.

    Attributes
    ----------
    exposures
        How many it scored.
    seconds
        From the first request to the last answer.
    cpu
        CPU seconds by what the processes are; ``client`` is this process, and what it started.
    memory
        Bytes, as `benchmarks.speed.processes.peak_memory` counts them.
    others
        CPU seconds that servers of other contenders took meanwhile.
    foreign
        Share of the machine's cores that was taken by what is no part of this.
    """

    exposures: int
    seconds: float
    cpu: dict[str, float]
    memory: int
    others: float
    foreign: float

    @property
    def rate(self) -> float:
        """Exposures a second."""
        return self.exposures / self.seconds

    @property
    def cpu_each(self) -> float:
        """CPU seconds an exposure, the client's included."""
        return sum(self.cpu.values()) / self.exposures


#: The turns of each contender, round by round.
Turns = Mapping[str, Sequence[Turn]]


def fastest_raw(turns: Turns) -> str | None:
    """The key of the baseline: the raw contender of the highest median rate; None without any."""
    raw = [key for key, ones in turns.items() if key.startswith("raw") and ones]
    return max(raw, key=lambda key: statistics.median(one.rate for one in turns[key]), default=None)


def ratio(turns: Turns, above: str, below: str) -> Spread | None:
    """Of the rates of two contenders in the same rounds; None if one of them has no turns."""
    pairs = list(zip(turns.get(above, ()), turns.get(below, ()), strict=False))
    return Spread.of(one.rate / other.rate for one, other in pairs) if pairs else None


def ratios(turns: Turns) -> dict[str, Spread]:
    """All of `RATIOS` that were measured."""
    baseline = fastest_raw(turns)
    found = {
        name: ratio(turns, above, (baseline or "") if below == "raw" else below)
        for name, (above, below) in RATIOS.items()
    }
    return {name: one for name, one in found.items() if one is not None}


def overhead(turns: Turns, key: str) -> Spread | None:
    """CPU seconds an exposure beyond those of the baseline in the same rounds."""
    baseline = fastest_raw(turns)
    pairs = list(zip(turns.get(key, ()), turns.get(baseline or "", ()), strict=False))
    return Spread.of(one.cpu_each - other.cpu_each for one, other in pairs) if pairs else None


def turned(ones: Sequence[_T], number: int) -> list[_T]:
    """As they are in even rounds, the other way round in odd ones."""
    return list(ones)[:: -1 if number % 2 else 1]
