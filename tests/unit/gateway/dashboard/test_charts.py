"""Diagrams: where things go, what their tables say, and what is said where there is nothing."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import msgspec
import pytest

from astrotriton.detection.card import UNetModel
from astrotriton.detection.confidence.model import ConfidenceModel
from astrotriton.gateway.dashboard import charts
from astrotriton.gateway.dashboard.charts import Chart
from astrotriton.gateway.dashboard.views import environment
from astrotriton.wire.detections import StoredDetection
from astrotriton.wire.drift import DriftCheck, Feature, Report
from astrotriton.wire.fields import Window
from astrotriton.wire.models import VersionRef
from astrotriton.wire.performance import Bins, Point
from astrotriton.wire.validation import Curve
from tests.unit.gateway.gateway_samples import run

SINCE = datetime(2026, 11, 24, 6, tzinfo=UTC)


def points(*values: float | None, errors: int = 0) -> list[Point]:
    """Parts of ten minutes with these 95th percentiles; one without has no run."""
    return [
        Point(
            time=SINCE + i * timedelta(minutes=10),
            seconds=600.0,
            runs=0 if value is None else 20,
            errors=errors,
            p50=None if value is None else value / 2,
            p95=value,
            p99=None,
        )
        for i, value in enumerate(values)
    ]


def check(hours: int, status: str, distance: float | None) -> DriftCheck:
    until = SINCE + timedelta(hours=hours)
    return DriftCheck(
        id=UUID(int=hours + 1),
        model=VersionRef(name="unet", version=3),
        created_at=until,
        window=Window(since=SINCE, until=until, seconds=3600.0),
        exposures=30,
        scored=30,
        status=status,
        reason=None,
        drifted=[],
        features=[
            Feature(
                name="noise",
                drifted=False,
                p_value=None,
                distance=distance,
                baseline_median=None,
                live_median=None,
                exposures=30,
            )
        ],
        trend=None,
        baseline=None,
        false_alarms=0.01,
        report=Report(status="off"),
    )


def inside(chart: Chart) -> None:
    """Nothing is drawn outside the axes, and the template draws it: well-formed, with a name."""
    template = '{% import "macros.html" as m with context %}{{ m.chart(chart) }}'
    figure = ElementTree.fromstring(environment().from_string(template).render(chart=chart))
    (drawing,) = figure.findall("svg")
    assert drawing.findtext("title") == chart.title
    assert drawing.findtext("desc")
    assert len(drawing.findall("rect")) == len(chart.bars)
    assert len(figure.findall(".//tbody/tr")) == len(chart.table.rows)
    left, top, right, bottom = chart.plot
    for bar in chart.bars:
        assert left - 0.1 <= bar.x <= bar.x + bar.width <= right + 0.1
        assert top - 0.1 <= bar.y <= bar.y + bar.height <= bottom + 0.1
    for mark in chart.marks:
        assert left - 0.1 <= mark.x <= right + 0.1
        assert top - 0.1 <= mark.y <= bottom + 0.1
    for line in chart.lines:
        for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", line.path):
            assert left - 0.1 <= float(x) <= right + 0.1
            assert top - 0.1 <= float(y) <= bottom + 0.1


def test_a_line_breaks_where_nothing_is_known_and_a_lone_value_is_a_dot():
    chart = charts.latency([("version 3", points(1.0, 1.2, None, 0.8, None, 1.0, 1.0))])
    inside(chart)
    path = chart.lines[1].path
    assert path.count("M") == 3
    assert path.count("h0") == 1
    # What is never known is not drawn.
    assert chart.lines[2].path == ""
    assert chart.table.headers == ["UTC", "p50", "p95", "p99"]
    assert len(chart.table.rows) == 5
    assert chart.table.rows[0] == ["24 Nov 06:00", "0.5", "1", "—"]


def test_two_versions_are_two_lines_and_bars_abreast():
    named = [("version 3", points(1.0, 1.2)), ("version 4", points(2.0, 2.2))]
    latency = charts.latency(named)
    assert [text for _, text in latency.legend] == ["version 3, p95", "version 4, p95"]
    throughput = charts.throughput(named)
    inside(throughput)
    first, second = throughput.bars[:2]
    assert first.height == second.height
    assert first.x + first.width <= second.x + 0.1


def test_errors_stand_on_runs():
    chart = charts.throughput([("version 3", points(1.0, 1.0, errors=5))])
    inside(chart)
    answered, failed = chart.bars[:2]
    assert failed.y + failed.height == pytest.approx(answered.y, abs=0.1)
    assert answered.height == pytest.approx(4 * failed.height, abs=0.1)


def test_reliability_completeness_and_purity_lie_between_0_and_1():
    curve = Curve(x=[0.1, 0.5, 0.9], y=[0.0, 0.6, 1.0], count=[10, 40, 160])
    named = [("version 3", curve), ("version 4", curve)]
    for draw in (charts.reliability, charts.completeness, charts.purity):
        chart = draw(named)
        inside(chart)
        assert len(chart.table.rows) == 6
    chart = charts.reliability(named)
    assert chart.lines[0].style == 0
    # More sources, a larger mark; another version, another shape.
    sizes = [mark.size for mark in chart.marks[:3]]
    assert sizes == sorted(sizes)
    assert {mark.shape for mark in chart.marks} == {"dot", "triangle"}


def test_a_long_curve_has_a_short_table():
    shares = [i / 999 for i in range(1000)]
    chart = charts.purity([("version 3", Curve(x=shares, y=shares))])
    assert len(chart.table.rows) == 20
    assert chart.table.rows[-1][1:] == ["1.000", "1.000", "—"]


def test_figures_that_could_not_be_told_have_no_bar():
    chart = charts.accuracy(
        [
            ("version 3", {"average_precision": 0.9, "completeness": None, "purity": 1.0}),
            ("version 4", {"average_precision": 0.8, "completeness": 0.7}),
        ]
    )
    inside(chart)
    assert [bar.value for bar in chart.bars] == ["0.900", "0.800", "0.700", "1.000"]
    assert chart.table.rows[1] == ["completeness", "—", "0.700"]


def test_drift_is_told_by_shape_and_name():
    chart = charts.drift([check(2, "drifted", 0.7), check(1, "steady", 0.2)])
    inside(chart)
    assert [mark.shape for mark in chart.marks] == ["dot", "triangle"]
    assert "noise" in chart.marks[1].text
    assert chart.table.rows[1] == ["24 Nov 08:00", "drifted", "30", "noise", "0.700"]


def test_a_derivation_is_drawn_term_by_term(confidence_model):
    names = confidence_model.names
    derivation = confidence_model.explain(dict.fromkeys(names[1:], 1.0))
    chart = charts.contributions(derivation)
    inside(chart)
    assert len(chart.bars) == len(names) + 2
    assert chart.table.rows[-1] == ["score", f"{derivation.score:+.3f}"]
    total = sum(float(row[1]) for row in chart.table.rows[:-1])
    assert total == pytest.approx(derivation.score, abs=0.01)
    chart = charts.calibration(derivation)
    inside(chart)
    assert f"{derivation.confidence:.3f}" in chart.marks[0].text


@pytest.fixture(scope="module")
def confidence_model() -> ConfidenceModel:
    """Of the reference network."""
    card = Path(__file__).parents[4] / "astrotriton/training/weights/card.json"
    found = UNetModel.from_json(card.read_bytes()).confidence
    assert found is not None
    return found


@pytest.mark.parametrize(
    "chart",
    [
        charts.latency([("version 3", points(None, None))]),
        charts.throughput([("version 3", points(None))]),
        charts.reliability([("version 3", Curve(x=[], y=[], count=[]))]),
        charts.accuracy([("version 3", {})]),
        charts.trend([]),
        charts.drift([check(1, "too-little-data", None)]),
        charts.confidences(
            Bins(
                edges=[0.0, 0.5, 1.0],
                counts=[0, 0],
                count=0,
                window=Window(since=SINCE, until=SINCE, seconds=0.0),
                source="gateways",
            ),
            "version 3",
        ),
    ],
    ids=lambda chart: chart.name,
)
def test_what_there_is_nothing_of_says_so(chart):
    assert chart.missing
    assert [chart.lines, chart.marks, chart.bars] == [[], [], []]


@pytest.mark.parametrize("most", [1e-7, 0.003, 1.0, 7.3, 250.0, 4e9])
def test_axes_have_some_round_ticks(most):
    chart = charts.latency([("version 3", points(most, most / 3))])
    inside(chart)
    assert 3 <= len(chart.y_ticks) <= 7
    assert chart.y_ticks[0].text == "0"
    assert float(chart.y_ticks[-1].text) >= most * 0.999


@pytest.mark.parametrize("hours", [1, 24, 7 * 24])
def test_time_axes_have_some_round_ticks(hours):
    series = [
        Point(
            time=SINCE + i * timedelta(hours=hours) / 60,
            seconds=hours * 60.0,
            runs=1,
            errors=0,
            p50=1.0,
            p95=1.0,
            p99=1.0,
        )
        for i in range(60)
    ]
    chart = charts.latency([("version 3", series)])
    assert 4 <= len(chart.x_ticks) <= 8
    inside(chart)


def seen(day: int, mag: float | None = 20.0, **changes: Any) -> StoredDetection:
    scored = run(1)
    values: dict[str, Any] = {
        **msgspec.structs.asdict(scored.detections[0]),
        "run_id": scored.run_id,
        "created_at": SINCE,
        "threshold": 0.5,
        "model": scored.model,
        "exposure": msgspec.structs.replace(
            scored.exposure, observed_at=SINCE + timedelta(days=day)
        ),
        "mag": mag,
        "mag_err": None if mag is None else 0.1,
    }
    return StoredDetection(**values | changes)


def test_a_light_curve_has_what_is_bright_at_the_top():
    chart = charts.light_curve([seen(5, 18.0), seen(1, 20.0), seen(3, 19.0, polarity=-1)])
    inside(chart)
    assert [mark.shape for mark in chart.marks] == ["dot", "triangle", "dot"]
    heights = [mark.y for mark in chart.marks]
    assert heights == sorted(heights, reverse=True)
    assert len(chart.lines) == 3
    assert "±" in chart.marks[0].text


def test_without_magnitudes_a_light_curve_is_of_fluxes_that_can_be_compared():
    chart = charts.light_curve([seen(1, None, flux=10.0), seen(2, None, flux=30.0)])
    inside(chart)
    assert "flux" in chart.y_label
    assert chart.marks[1].y < chart.marks[0].y
    other = seen(2, None, flux=30.0)
    other = msgspec.structs.replace(
        other, exposure=msgspec.structs.replace(other.exposure, flux_unit="nJy")
    )
    assert "different units" in str(charts.light_curve([seen(1, None), other]).missing)
    assert "two times" in str(charts.light_curve([seen(1), seen(1)]).missing)
    assert charts.light_curve([]).missing
