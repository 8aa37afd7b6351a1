"""Errors of measurements against their scatter, and SEP's flags."""

import numpy as np
import pytest
from scipy import ndimage

from astrotriton.detection.card import UNetModel
from astrotriton.detection.scoring.score import finish, prepare
from astrotriton.wire.detections import Candidate, Detection
from tests.unit.detection.conftest import answer, field, to_npy


def measured(card: UNetModel, data: np.ndarray, *asked: tuple[float, float]) -> list[Detection]:
    candidates = [Candidate(id=str(i), x=x, y=y) for i, (x, y) in enumerate(asked)]
    detections = finish(answer(prepare(to_npy(data), card, candidates))).detections
    return sorted((d for d in detections if d.candidate_id), key=lambda d: d.candidate_id or "")


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_the_error_of_the_snr_is_its_scatter(card: UNetModel, smoothing: float) -> None:
    places = [(40.0 + 60.0 * i, 40.0 + 60.0 * j) for i in range(4) for j in range(3)]
    y, x = np.mgrid[:200, :300]
    scatter, error = [], []
    for seed in range(12):
        noise = np.random.default_rng(seed).normal(size=(200, 300))
        if smoothing:
            noise = ndimage.gaussian_filter(noise, smoothing)
        image = noise / noise.std()
        for x0, y0 in places:
            image += 20.0 * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / 1.7**2)
        found = measured(card, image.astype(np.float32), *places)
        scatter += [d.snr for d in found]
        error += [d.snr_err for d in found]
    assert np.median(error) > 1.0
    assert np.std(scatter) == pytest.approx(np.median(error), rel=0.25)


def test_sep_flags_the_edge_a_mask_and_a_blend(card: UNetModel) -> None:
    sources = ((100.0, 2.0, 30.0), (200.0, 100.0, 30.0), (60.0, 100.0, 90.0), (68.0, 100.0, 80.0))
    data = field(sources=sources)
    data[102:104, 200:203] = np.nan
    edge, near_mask, good = measured(card, data, (100.0, 2.0), (200.0, 100.0), (250.0, 40.0))
    assert edge.sep_flags == 16
    assert near_mask.sep_flags == 32
    assert good.sep_flags == 0
    extracted = finish(answer(prepare(to_npy(data), card))).detections
    flags = [d.sep_flags for d in extracted if np.hypot(d.x - 68.0, d.y - 100.0) < 2.0]
    assert flags == [1]
