"""Looking around in an exposure."""

import math

import msgspec
import pytest

from astrotriton.gateway.dashboard.viewer import look
from astrotriton.wire.detections import StoredDetection
from tests.unit.gateway.gateway_samples import run


def test_one_begins_with_all_of_it_and_comes_closer():
    found = look(300, 420, 1, None, None, 1)
    assert found.box == (0, 0, 300, 420)
    assert [name for name, place in found.moves.items() if place] == ["closer"]
    closer = found.moves["closer"]
    assert closer is not None
    found = look(300, 420, 1, *closer)
    assert found.box == (75, 105, 150, 210)
    assert all(found.moves[name] for name in ("left", "right", "up", "down", "farther"))


@pytest.mark.parametrize(("height", "width", "binning"), [(300, 420, 1), (4001, 999, 3), (9, 9, 1)])
def test_wherever_one_goes_one_stays_on_the_exposure(height, width, binning):
    """Every step changes what is shown, and all of the exposure can be reached."""
    seen, todo = {}, [look(height, width, binning, None, None, 1)]
    while todo:
        found = todo.pop()
        box = found.box
        assert 0 <= box.row <= box.row + box.rows < height + binning
        assert 0 <= box.column <= box.column + box.columns < width + binning
        assert not (box.row % binning)
        assert not (box.column % binning)
        if box in seen or found.place.scale > 4:
            continue
        seen[box] = found
        for place in found.moves.values():
            if place is not None:
                there = look(height, width, binning, *place)
                assert there.box != box
                todo.append(there)
    assert (0, 0) in {(box.row, box.column) for box in seen}
    assert max(box.row + box.rows for box in seen) >= height
    assert max(box.column + box.columns for box in seen) >= width


@pytest.mark.parametrize("far", [-1e6, 1e6, math.nan, math.inf])
def test_what_lies_off_the_exposure_leads_to_it(far):
    box = look(300, 420, 1, far, far, 4).box
    assert (box.rows, box.columns) == (75, 105)
    assert 0 <= box.row <= 225
    assert 0 <= box.column <= 315


def test_a_click_leads_to_what_was_clicked():
    found = look(300, 420, 1, None, None, 1)
    (top_left,) = (one for one in found.clicks if (one.left, one.top) == (0.0, 0.0))
    # The first row is at the bottom.
    assert top_left.place == (69.5, 249.5, 2)
    assert look(300, 420, 1, *top_left.place).box == (150, 0, 150, 210)
    assert look(64, 64, 1, None, None, 2).clicks == []


def test_detections_are_marked_where_they_lie():
    answer = run(1)
    stored = StoredDetection(
        **msgspec.structs.asdict(answer.detections[0]) | {"x": 105.0, "y": 76.0},
        run_id=answer.run_id,
        created_at=answer.created_at,
        threshold=answer.threshold,
        model=answer.model,
        exposure=answer.exposure,
    )
    found = look(300, 420, 1, 209.5, 149.5, 2).marked([stored])
    (spot,) = found.spots
    unit = found.width / 210
    assert spot.x == pytest.approx(0.5 * unit, abs=0.1)
    assert spot.y == pytest.approx(found.height - 1.5 * unit, abs=0.1)
