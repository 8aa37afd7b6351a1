"""Medians, spreads and ratios."""

import pytest

from benchmarks.speed.figures import Spread, Turn, fastest_raw, overhead, ratio, ratios, turned


def turn(seconds: float, cpu: float = 1.0) -> Turn:
    return Turn(
        exposures=10,
        seconds=seconds,
        cpu={"client": cpu, "gateway": 1.0},
        memory=1,
        others=0.0,
        foreign=0.0,
    )


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_a_turn_counts_the_client_too() -> None:
    assert turn(5.0).rate == 2.0
    assert turn(5.0, cpu=2.0).cpu_each == pytest.approx(0.3)


def test_the_baseline_is_the_raw_way_of_the_highest_median() -> None:
    slow_once = [turn(1.0), turn(1.0), turn(100.0)]
    turns = {"raw_1x2": [turn(2.0)] * 3, "raw_2x1": slow_once, "gateway": [turn(0.1)] * 3}
    assert fastest_raw(turns) == "raw_2x1"
    assert fastest_raw({"gateway": [turn(1.0)]}) is None
    assert fastest_raw({"raw_2x1": []}) is None


def test_a_ratio_compares_within_rounds() -> None:
    # The machine became half as fast in the second round: nobody's ratio changes.
    turns = {"gateway": [turn(2.0), turn(4.0)], "raw_2x1": [turn(1.0), turn(2.0)]}
    assert ratio(turns, "gateway", "raw_2x1") == Spread(0.5, 0.5, 0.5)


def test_what_was_not_measured_is_absent() -> None:
    turns = {"gateway": [turn(2.0)], "raw_2x1": [turn(1.0)], "mlserver": []}
    assert set(ratios(turns)) == {"gateway_vs_raw"}
    assert ratios({"gateway": [turn(2.0)]}) == {}
    assert overhead({"gateway": [turn(2.0)]}, "gateway") is None


def test_overhead_is_the_cpu_beyond_the_baseline() -> None:
    turns = {"gateway": [turn(2.0, cpu=3.0)], "raw_2x1": [turn(1.0, cpu=1.0)]}
    found = overhead(turns, "gateway")
    assert found is not None
    assert found.median == pytest.approx(0.2)


def test_turns_change_sides() -> None:
    assert turned([1, 2], 0) == [1, 2]
    assert turned([1, 2], 1) == [2, 1]
