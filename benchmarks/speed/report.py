"""``bench.json`` and the table, of what was measured."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.speed.figures import Spread, Turn, fastest_raw, overhead, ratio, ratios

_MIB = 1 << 20


class Measured(msgspec.Struct, kw_only=True):
    """What became of a contender.

    Attributes
    ----------
    title
        In words, with the setting that was the best.
    tried
        What settings reached, exposures a second; or why one did not work.
    not_run
        Why it was not run; None if it was.
    turns
        In order of the rounds.
    """

    title: str
    tried: dict[str, float | str] = {}
    not_run: str | None = None
    turns: list[Turn] = []


class NetworkReport(msgspec.Struct, kw_only=True):
    """What was measured with one network.

    Attributes
    ----------
    title, gflop
        Which it is, and the billions of operations that a tile takes.
    sgemm_gflops
        Billions of operations a second that the machine reached in each round.
    contenders
        By key, in the table's order.
    further
        Spreads of what was measured apart from the rounds, by name.
    """

    title: str
    gflop: float
    sgemm_gflops: list[float] = []
    contenders: dict[str, Measured] = {}
    further: dict[str, Spread] = {}

    @property
    def turns(self) -> dict[str, list[Turn]]:
        """By contender, of those that were run."""
        return {key: one.turns for key, one in self.contenders.items() if one.turns}


class Report(msgspec.Struct, kw_only=True):
    """All that was measured, and on what.

    Attributes
    ----------
    machine
        Its facts.
    settings
        Counts, and what the servers were set to.
    networks
        By key.
    """

    machine: dict[str, str | int | float]
    settings: dict[str, str | int | float]
    networks: dict[str, NetworkReport] = {}


def machine() -> dict[str, str | int | float]:
    """Facts of this machine that decide how fast it is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {
        name.strip(): text.strip() for name, _, text in (line.partition(":") for line in lines)
    }
    known = set(facts.get("flags", "").split())
    wanted = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile")
    return {
        "cpu": facts.get("model name", platform.machine()),
        "cores": os.cpu_count() or 0,
        "vector_instructions": " ".join(one for one in wanted if one in known),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def to_json(report: Report) -> bytes:
    """``bench.json``: the ratios of the heavy network first, then all that they come from."""
    networks: dict[str, dict[str, Any]] = {
        key: {
            **msgspec.to_builtins(network),
            "baseline": fastest_raw(network.turns),
            "ratios": _ratios(network),
            "figures": {one: _figures(network, one) for one in network.turns},
        }
        for key, network in report.networks.items()
    }
    first: dict[str, Any] = next(iter(networks.values()), {"ratios": {}, "baseline": None})
    content = {
        "ratios": {name: spread["median"] for name, spread in first["ratios"].items()},
        "baseline": first["baseline"],
        **msgspec.to_builtins(report),
        "networks": networks,
    }
    return msgspec.json.format(msgspec.json.encode(content))


def _ratios(network: NetworkReport) -> dict[str, dict[str, float]]:
    return msgspec.to_builtins(ratios(network.turns) | network.further)  # type: ignore[no-any-return]


def _figures(network: NetworkReport, key: str) -> dict[str, object]:
    turns = network.turns[key]
    baseline = fastest_raw(network.turns)
    return {
        name: msgspec.to_builtins(value)
        for name, value in {
            "exposures_per_second": Spread.of(turn.rate for turn in turns),
            "of_baseline": ratio(network.turns, key, baseline or ""),
            "cpu_seconds_per_exposure": Spread.of(turn.cpu_each for turn in turns),
            "cpu_seconds_beyond_baseline": overhead(network.turns, key),
            "cpu_seconds_by_process": {
                name: Spread.of(turn.cpu[name] / turn.exposures for turn in turns)
                for name in turns[0].cpu
            },
            "peak_memory_bytes": max(turn.memory for turn in turns),
        }.items()
    }


def to_markdown(report: Report) -> str:
    """The table of each network, and the ratios."""
    facts = report.machine
    lines = [
        f"{facts['cpu']}, {facts['cores']} cores ({facts['vector_instructions']}), "
        f"{int(facts['memory_bytes']) / (1 << 30):.0f} GiB.",
        "",
    ]
    for network in report.networks.values():
        lines += [*_table(network), ""]
    return "\n".join(lines)


def _table(network: NetworkReport) -> list[str]:
    baseline = fastest_raw(network.turns)
    rows = [_row(network, key, baseline) for key in network.contenders]
    named = network.contenders[baseline].title if baseline else "none"
    lines = [
        f"### {network.title}, {network.gflop:.1f} GFLOP a tile",
        "",
        f"Baseline: {named}{_of_peak(network, baseline)}.{_disturbed(network)}",
        "",
        "| | exposures/s | of the baseline | CPU ms an exposure | beyond the baseline "
        "| peak memory, MiB |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "| ratio | median | quartiles |",
        "|---|---|---|",
    ]
    found: Mapping[str, Spread] = ratios(network.turns) | network.further
    for name, one in found.items():
        lines.append(f"| `{name}` | {one.median:.3f} | {one.low:.3f} - {one.high:.3f} |")
    return lines


def _of_peak(network: NetworkReport, baseline: str | None) -> str:
    if baseline is None or not network.sgemm_gflops:
        return ""
    rate = Spread.of(turn.rate for turn in network.turns[baseline]).median
    peak = Spread.of(network.sgemm_gflops).median
    return (
        f"; it reaches {rate * network.gflop / peak:.2f} of the {peak:.0f} GFLOP/s that"
        " multiplying matrices reaches here"
    )


def _disturbed(network: NetworkReport) -> str:
    """How much else the machine did meanwhile: where that is much, the spreads say what it cost."""
    turns = [turn for ones in network.turns.values() for turn in ones]
    if not turns:
        return ""
    foreign = Spread.of(turn.foreign for turn in turns)
    waiting = Spread.of(turn.others / turn.seconds for turn in turns)
    return (
        f" In a turn, other work took {foreign.median:.2f} of the machine's cores (quartiles"
        f" {foreign.low:.2f} - {foreign.high:.2f}), and the servers of those who waited"
        f" {waiting.median:.3f} of a core."
    )


def _row(network: NetworkReport, key: str, baseline: str | None) -> str:
    one = network.contenders[key]
    if not one.turns:
        return f"| {one.title} | not run: {one.not_run or 'no round was complete'} | | | | |"
    rate = Spread.of(turn.rate for turn in one.turns)
    of = ratio(network.turns, key, baseline or "")
    cpu = Spread.of(turn.cpu_each for turn in one.turns)
    beyond = overhead(network.turns, key)
    assert of is not None
    assert beyond is not None
    return (
        f"| {one.title} | {rate.median:.2f} ({rate.low:.2f} - {rate.high:.2f})"
        f" | {of.median:.3f} ({of.low:.3f} - {of.high:.3f}) | {1e3 * cpu.median:.0f}"
        f" | {1e3 * beyond.median:+.1f} | {max(turn.memory for turn in one.turns) / _MIB:.0f} |"
    )
