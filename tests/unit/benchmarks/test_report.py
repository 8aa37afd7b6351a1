"""The table and ``bench.json``."""

import json

from benchmarks.speed.figures import Spread, Turn
from benchmarks.speed.report import Measured, NetworkReport, Report, machine, to_json, to_markdown


def turns(*seconds: float) -> list[Turn]:
    return [
        Turn(
            exposures=10,
            seconds=one,
            cpu={"client": 0.5, "server": 1.5},
            memory=3 << 20,
            others=0.0,
            foreign=0.1,
        )
        for one in seconds
    ]


def report() -> Report:
    network = NetworkReport(
        title="a network",
        gflop=28.0,
        sgemm_gflops=[100.0, 200.0, 150.0],
        contenders={
            "raw_2x1": Measured(title="raw", turns=turns(1.0, 2.0, 1.0)),
            "gateway": Measured(title="the gateway", turns=turns(2.0, 4.0, 2.0)),
            "mlserver": Measured(title="MLServer", not_run="cannot be installed: no wheel"),
        },
        further={"copy_vs_bare": Spread(0.9, 0.8, 1.0)},
    )
    return Report(machine=machine(), settings={"rounds": 3}, networks={"wide": network})


def test_json_has_what_was_measured_alone() -> None:
    content = json.loads(to_json(report()))
    assert content["ratios"] == {"gateway_vs_raw": 0.5, "copy_vs_bare": 0.9}
    assert content["baseline"] == "raw_2x1"
    network = content["networks"]["wide"]
    assert network["ratios"]["gateway_vs_raw"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert network["contenders"]["mlserver"]["not_run"] == "cannot be installed: no wheel"
    figures = network["figures"]["gateway"]
    assert figures["exposures_per_second"]["median"] == 5.0
    assert figures["cpu_seconds_by_process"]["server"]["median"] == 0.15
    assert "mlserver" not in network["figures"]


def test_table_names_the_baseline_and_who_was_not_run() -> None:
    table = to_markdown(report())
    assert "Baseline: raw; it reaches 1.87 of the 150 GFLOP/s" in table
    assert "other work took 0.10 of the machine's cores" in table
    assert "| the gateway | 5.00 (3.75 - 5.00) | 0.500 (0.500 - 0.500) | 200 | +0.0 | 3 |" in table
    assert "| MLServer | not run: cannot be installed: no wheel | | | | |" in table
    assert "| `copy_vs_bare` | 0.900 | 0.800 - 1.000 |" in table


def test_nothing_measured_is_a_report_too() -> None:
    empty = Report(machine=machine(), settings={})
    assert json.loads(to_json(empty))["ratios"] == {}
    nobody = NetworkReport(title="a network", gflop=1.0)
    empty.networks["wide"] = nobody
    assert "Baseline: none." in to_markdown(empty)
