from collections.abc import Callable
from typing import Any

import numpy as np

from astrotriton.detection.card import UNetModel
from astrotriton.detection.image import cutouts
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.scoring.score import finish, prepare
from astrotriton.detection.sources import centroids, peaks, spots
from astrotriton.detection.sources import measurements as quality
from astrotriton.detection.warmup import warm_up
from astrotriton.wire.detections import Candidate
from tests.unit.detection.conftest import answer, field, to_fits

COMPILED: list[Callable[..., Any]] = [
    peaks._summits,
    peaks._centroids,
    centroids._windowed,
    spots._stamps,
    quality._responses,
    quality._sum_up,
    cutouts._shade,
]


def test_no_exposure_waits_for_the_compiler(card: UNetModel) -> None:
    warm_up()
    known = [one.signatures for one in COMPILED]  # type: ignore[attr-defined]
    assert all(known)
    for asked in (None, [], [Candidate(id="one", x=120.3, y=80.6)]):
        for full in (False, True):
            tiled = prepare(to_fits(field()), card, asked, tta=full)
            assert finish(answer(tiled)).detections
    # In the middle, at the edge, beyond it; and of a file whose pixels are used where they lie.
    small = np.zeros((60, 60), np.float32)
    small.flags.writeable = False
    for exposure in (tiled.exposure, Exposure.from_array(small)):
        cutouts.cut_out(exposure, [(100.0, 80.0), (0.0, 0.0), (-900.0, 900.0)], 0.0, 1.0)
    assert [one.signatures for one in COMPILED] == known  # type: ignore[attr-defined]
