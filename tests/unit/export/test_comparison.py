"""Two versions side by side."""

import math
from datetime import UTC, datetime

import msgspec
import pytest

from astrotriton.detection.quality.labelled import ValidationSet
from astrotriton.export import accuracy, comparison, registry
from astrotriton.export.comparison import Comparison, Row
from astrotriton.export.errors import ServingError
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import Repository
from astrotriton.wire.agreement import Agreement
from astrotriton.wire.fields import Window
from astrotriton.wire.models import VersionRef
from tests.unit.export import samples

NAME = "unet_small"
NOW = datetime.now(UTC)


def registered(version):
    return RegisteredVersion(
        name=NAME, version=version, run_id="r", digest=None, manifest_digest=None
    )


def agreement(**changes) -> Agreement:
    given = Agreement(
        model=VersionRef(name=NAME, version=7),
        other=VersionRef(name=NAME, version=9),
        window=Window(since=NOW, until=NOW, seconds=0.0),
        exposures=3,
        shadowed=2,
        matched=10,
        only_model=1,
        only_other=4,
        verdicts_changed=1,
        agreement=0.9,
        mean_difference=0.05,
        largest_difference=0.4,
    )
    return msgspec.structs.replace(given, **changes)


def test_both_are_measured_on_the_same_fields_as_the_gates_do(tmp_path, monkeypatch):
    seen = []

    def evaluate(fields, card, predict):
        seen.append(fields)
        return {"average_precision": predict, "ece": math.nan}

    found = {7: 0.9, 9: 0.8}
    monkeypatch.setattr(accuracy, "evaluate", evaluate)
    monkeypatch.setattr(comparison, "_network", lambda one, _: (None, found[one.version]))
    fields = ValidationSet([samples.field(1), samples.field(2)], "two fields")
    described, rows = comparison.on_fields(
        registered(7), registered(9), Repository(tmp_path), lambda: fields
    )
    assert described == "two fields"
    assert rows[0] == Row(name="average_precision", one=0.9, other=0.8)
    assert rows[0].difference == pytest.approx(-0.1)
    assert rows[1] == Row(name="ece", one=None, other=None)
    assert seen[0] is seen[1]
    assert len(seen[0]) == 2


def test_what_is_not_published_is_measured_as_keras_runs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load_card", lambda _: samples.card(NAME))
    monkeypatch.setattr(registry, "load_keras", lambda _: samples.detector())
    fields = ValidationSet([samples.field(1), samples.field(2)], "two fields")
    _, rows = comparison.on_fields(
        registered(7), registered(9), Repository(tmp_path), lambda: fields
    )
    figures = {row.name: row for row in rows}
    assert figures["average_precision"].one > 0.5
    assert all(row.difference in (None, 0.0) for row in rows)


def test_it_is_told_in_tables():
    text = Comparison(
        name=NAME,
        one=7,
        other=9,
        window="24h",
        fields="two fields",
        figures=[Row(name="average_precision", one=0.91, other=None)],
        lately=[Row(name="runs", one=120.0, other=80.0), Row(name="ece", one=0.02, other=0.03)],
        agreement=agreement(),
        faults=["the sky"],
    ).text()
    assert text.splitlines() == [
        "unet_small, on two fields:",
        "                     version 7  version 9  difference",
        "  average_precision      0.910          -           -",
        "unet_small, served in the last 24h:",
        "        version 7  version 9  difference",
        "  runs        120         80         -40",
        "  ece       0.020      0.030      +0.010",
        "the same 3 exposures (2 in the shadow): both scored 10 sources, version 7 alone 1,"
        " version 9 alone 4",
        "they agree on 90.0% of the verdicts; confidences differ by 0.050 in the mean, 0.400 at"
        " most",
        "cannot be told: the sky",
    ]


def test_without_exposures_in_common_the_reason_is_told():
    none = agreement(exposures=0, matched=0, agreement=None, reason="no exposure was scored")
    text = Comparison(name=NAME, one=7, other=9, window="1h", agreement=none).text()
    assert text == "the same exposures in the last 1h: no exposure was scored"


class Gateway:
    """Knows no version."""

    def performance(self, name, version, window):
        raise ServingError(f"no version {version}")


def test_what_the_gateway_does_not_know_is_a_fault_and_stops_nothing():
    rows, both, faults = comparison.lately(registered(7), registered(9), Gateway(), "1h")
    assert (rows, both) == ([], None)
    assert faults == ["no version 7", "no version 9"]
