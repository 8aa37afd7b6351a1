from collections.abc import Callable
from typing import Any

from detection import centroids, peaks, quality, spots
from detection.model import UNetModel
from detection.scoring import finish, prepare
from detection.types import Candidate
from detection.warmup import warm_up
from tests.unit.detection.conftest import answer, field, to_fits

COMPILED: list[Callable[..., Any]] = [
    peaks._summits,
    peaks._centroids,
    centroids._windowed,
    spots._stamps,
    quality._sum_up,
]


def test_no_exposure_waits_for_the_compiler(card: UNetModel) -> None:
    warm_up()
    known = [one.signatures for one in COMPILED]  # type: ignore[attr-defined]
    assert all(known)
    for asked in (None, [], [Candidate(id="one", x=120.3, y=80.6)]):
        for full in (False, True):
            work = prepare(to_fits(field()), card, asked, full_uncertainty=full)
            assert finish(answer(work)).detections
    assert [one.signatures for one in COMPILED] == known  # type: ignore[attr-defined]
