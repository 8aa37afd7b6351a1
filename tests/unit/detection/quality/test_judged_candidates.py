"""The candidates that a classifier is judged on."""

import msgspec
import numpy as np

from astrotriton.detection.card import UNetModel
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.quality.judged_candidates import judged_candidates
from astrotriton.detection.quality.transients import Transients
from tests.unit.detection.conftest import field
from tests.unit.detection.scoring.test_stamp_inference import card_of

# Two stars' residuals, one of which is negative, and two transients, one of which is too faint.
IMAGE = field(sources=((40.0, 30.0, 30.0), (200.0, 100.0, -30.0), (120.0, 80.0, 20.0)))
TRUTH = Transients.of(
    np.array([(120.0, 80.0), (250.0, 150.0)]), np.array([40.0, 3.0]), np.array([1, -1], np.int8)
)


def places(card, truth: Transients = TRUTH) -> list[tuple[int, int]]:
    found = judged_candidates(Exposure.from_array(IMAGE), card, truth)
    assert len({one.id for one in found}) == len(found)
    return [(round(one.x), round(one.y)) for one in found]


def test_transients_come_first_and_then_what_else_looks_like_a_source() -> None:
    both = msgspec.structs.replace(card_of(), polarities=(1, -1))
    found = places(both)
    assert found[:3] == [(120, 80), (250, 150), (40, 30)]
    assert (200, 100) in found
    assert found.count((120, 80)) == 1


def test_only_what_the_network_looks_for() -> None:
    found = places(card_of())
    assert found[:2] == [(120, 80), (40, 30)]
    assert (200, 100) not in found


def test_a_transient_beyond_the_exposure_is_no_candidate() -> None:
    beyond = Transients.of(np.array([(900.0, 3.0)]), np.array([9.0]))
    assert set(places(card_of(), beyond)) == {(40, 30), (120, 80)}


def test_a_network_that_finds_sources_is_sent_none(card: UNetModel) -> None:
    assert judged_candidates(Exposure.from_array(IMAGE), card, TRUTH) is None
