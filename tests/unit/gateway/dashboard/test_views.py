"""What pages are given, and how they write it."""

import inspect
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from astrotriton.detection.confidence.features import features
from astrotriton.gateway.dashboard import exposure_plot, views
from astrotriton.gateway.dashboard.written import TERMS, elsewhere, sexagesimal
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.handlers.dashboard.session import _within
from astrotriton.wire.detections import StoredDetection
from astrotriton.wire.fields import Window
from astrotriton.wire.models import ModelInfo, VersionRef
from astrotriton.wire.performance import Figure
from astrotriton.wire.validation import Curve, Curves, Validation
from tests.unit.gateway.gateway_samples import run

NOW = datetime.now(UTC)
WINDOW = Window(since=NOW, until=NOW, seconds=0.0)
CURVE = Curve(x=[0.5], y=[0.5], count=[1])
CURVES = Curves(completeness=CURVE, precision_recall=CURVE, reliability=CURVE)


def info(version: int, *roles: str, served: bool = True, card: str = "a") -> ModelInfo:
    return ModelInfo(
        id=uuid4(),
        name="unet",
        version=version,
        digest="d",
        card_digest=card,
        roles=list(roles),
        served=served,
        first_used_at=None,
    )


def validation(version: int, against: int | None = None, status: str = "complete") -> Validation:
    return Validation(
        id=uuid4(),
        model=VersionRef(name="unet", version=version),
        compare_with=None if against is None else VersionRef(name="unet", version=against),
        dataset="default",
        status=status,
        progress=1.0,
        fields=4,
        created_at=NOW,
        requested_by="key:x",
        figures={"ece": 0.1},
        compared={} if against is None else {"ece": 0.2},
        curves=CURVES,
        compared_curves=None if against is None else CURVES,
    )


def test_the_champion_is_shown_unless_another_is_asked_for():
    infos = [info(9), info(8, "champion"), info(7, served=False)]
    assert views.choose(infos, None, None).chosen is infos[1]
    assert views.choose(infos[::2], None, None).chosen is infos[0]
    asked = views.choose(infos, "unet:7", "unet:8")
    assert asked.shown == [infos[2], infos[1]]
    assert views.choose(infos, "unet:7", "unet:7").shown == [infos[2]]
    assert views.choose([], None, "").shown == []
    for model, against in (("unet:99", None), (None, "unet:99"), ("<script>", None)):
        with pytest.raises(NotFoundError, match="choose one"):
            views.choose(infos, model, against)


def test_a_version_with_several_cards_is_listed_once():
    newest, older = info(8, card="b"), info(8, card="a")
    assert views.choose([newest, older], None, None).all == [newest]


def test_versions_that_scored_the_same_fields_are_compared_by_those():
    apart, together = validation(4), validation(4, against=3)
    other = validation(3)
    running = validation(4, against=3, status="running")
    shown = views.newest_sides([[running, apart, together], [other]])
    assert [side.name for side in shown] == ["version 4", "version 3"]
    assert all(side.validation is together for side in shown)
    assert shown[1].figures == {"ece": 0.2}
    shown = views.newest_sides([[apart], [other]])
    assert [side.validation for side in shown] == [apart, other]
    assert [side.name for side in views.newest_sides([[], [other]])] == ["version 3"]
    assert views.newest_sides([]) == []
    assert len(views.diagrams(shown)) == 4
    assert views.diagrams([]) == []


def written(template: str, value: object) -> str:
    return views.environment().from_string(template).render(value=value, now=NOW)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("seconds", None, "—"),
        ("seconds", 0.0123, "12.3 ms"),
        ("seconds", 1.234, "1.23 s"),
        ("seconds", 300.0, "5 min"),
        ("number", None, "—"),
        ("number", 0.98765, "0.988"),
        ("percent", 0.0061, "0.61 %"),
        ("words", "psf_match", "psf match"),
        ("ago", NOW, "now"),
        ("ago", NOW - timedelta(seconds=90), "90 s ago"),
        ("ago", NOW - timedelta(hours=5), "5 h ago"),
        ("ago", NOW - timedelta(days=9), "9 d ago"),
        ("utc", datetime(2026, 11, 24, 6, 5, 4, tzinfo=UTC), "24 Nov 2026, 06:05:04 UTC"),
    ],
)
def test_figures_are_written_for_people(name, value, text):
    assert written(f"{{{{ value | {name} }}}}", value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "—"),
        (0.25, "s", "250 ms"),
        (3 * 2**30, "bytes", "3 GiB"),
        (5 * 2**20, "bytes", "5 MiB"),
        (0.5, "1/s", "0.5/s"),
        (0.5, "1", "0.5"),
        (12.0, "runs", "12 runs"),
    ],
)
def test_a_figure_has_its_unit(value, unit, text):
    figure = Figure(value=value, unit=unit, count=1, window=WINDOW, source="gateways")
    assert written("{{ value | figure }}", figure) == text


def test_what_is_rare_is_counted():
    day = Window(since=NOW, until=NOW, seconds=86400.0)
    rare = Figure(value=34 / 86400, unit="1/s", count=34, window=day, source="gateways")
    assert written("{{ value | figure }}", rare) == "34 in 24 h"
    often = msgspec.structs.replace(rare, value=2.0)
    assert written("{{ value | figure }}", often) == "2/s"


def test_a_place_is_written_and_looked_up():
    assert sexagesimal(318.10823, -0.01572) == "21:12:25.975 -00:00:56.59"
    found = elsewhere(318.10823, 66.01572)
    assert list(found) == ["Aladin", "SIMBAD", "TNS", "Legacy Survey"]
    assert all(address.startswith("https://") for address in found.values())
    assert "318.108230+%2B66.015720" in found["SIMBAD"]


def test_every_feature_of_a_confidence_has_a_name_for_people():
    given = inspect.getsource(features)
    assert all(f'"{name}"' in given for name in TERMS)
    assert written("{{ value | term }}", "of_another_card") == "of another card"


def test_what_comes_from_outside_is_escaped():
    assert written("{{ value }}", "<script>") == "&lt;script&gt;"


def detections(count: int) -> list[StoredDetection]:
    scored = run(count)
    return [
        StoredDetection(
            **msgspec.structs.asdict(one),
            run_id=scored.run_id,
            created_at=scored.created_at,
            threshold=0.5,
            model=scored.model,
            exposure=scored.exposure,
        )
        for one in scored.detections
    ]


@pytest.mark.parametrize(("height", "width"), [(300, 400), (4000, 200), (1, 10_000), (9, 9)])
def test_an_exposure_is_drawn_to_scale_from_the_bottom(height, width):
    corner, far = (
        msgspec.structs.replace(detections(1)[0], x=x, y=y)
        for x, y in ((-0.5, -0.5), (width - 0.5, height - 0.5))
    )
    plot = exposure_plot.plot(height, width, [corner, far])
    left, top, across, up = plot.frame
    assert across / up == pytest.approx(width / height, rel=0.1 if min(height, width) > 9 else 1.0)
    last, first = plot.spots
    assert (first.x, first.y) == pytest.approx((left, top + up), abs=0.11)
    assert (last.x, last.y) == pytest.approx((left + across, top), abs=0.11)
    assert 1 <= len(plot.x_ticks) <= 6
    assert 1 <= len(plot.y_ticks) <= 6


def test_what_is_not_listed_is_a_dot_on_the_plot():
    listed = msgspec.structs.replace(detections(1)[0], x=10.0, y=20.0)
    plot = exposure_plot.plot(300, 600, [listed], [(10.0, 20.0), (30.0, 40.0), (-50.0, 9.0)])
    left, top, _, up = plot.frame
    assert plot.others == f"M{left + 30.5:.0f} {top + up - 40.5:.0f}h0"
    assert exposure_plot.plot(300, 600, [listed]).others == ""


def test_shapes_tell_what_became_of_a_detection():
    real = detections(1)[0]
    others = [
        msgspec.structs.replace(real, is_real=False),
        msgspec.structs.replace(real, outcome="merged", merged_into=UUID(int=9), confidence=None),
        msgspec.structs.replace(real, outcome="unscored", confidence=None, label="artefact"),
    ]
    assert [exposure_plot.kind_of(one) for one in (real, *others)] == list(exposure_plot.KINDS)
    texts = [spot.text for spot in exposure_plot.plot(300, 300, [real, *others]).spots]
    assert "labelled artefact" in texts[0]
    assert "confidence 1.000" in texts[-1]


@pytest.mark.parametrize(
    "path",
    [
        "https://elsewhere.example/dashboard",
        "//elsewhere.example",
        "/detections/",
        "/dashboard\r\nSet-Cookie: a=b",
        "/dashboard\\@elsewhere.example",
        "javascript:alert(1)",
        "",
    ],
)
def test_one_goes_on_within_the_pages_only(path):
    assert _within(path) == "/dashboard"
    assert _within("/dashboard/drift?model=unet%3A3") == "/dashboard/drift?model=unet%3A3"
