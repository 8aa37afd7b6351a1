"""The trained reference network, as it is served, and the real exposures where they are at hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from astrotriton.detection.arrays import Image
from astrotriton.detection.card import UNetModel
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.scoring.score import Scored, finish, prepare, prepare_exposure
from astrotriton.training.weights import WEIGHTS, load_card, load_network
from astrotriton.wire.detections import Candidate

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

Predict = Callable[[Image], Image]


def real(name: str) -> bytes:
    """A real exposure; the test that wants it is skipped where it is missing."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real data not at hand: ../shared/data/{name}")
    return path.read_bytes()


@pytest.fixture(scope="session")
def card() -> UNetModel:
    return load_card()


@pytest.fixture(scope="session")
def predict() -> Predict:
    import onnxruntime

    from astrotriton.export.convert import convert

    content = convert(load_network(WEIGHTS), load_card(WEIGHTS), "tests")
    session = onnxruntime.InferenceSession(content)
    return lambda tiles: np.asarray(session.run(None, {"image": tiles})[0])


@pytest.fixture(scope="session")
def score(card: UNetModel, predict: Predict) -> Callable[..., Scored]:
    """Scores a file, or an array, with the trained network."""

    def run(
        exposure: bytes | np.ndarray,
        candidates: list[Candidate] | None = None,
        *,
        full: bool = False,
    ) -> Scored:
        if isinstance(exposure, bytes):
            tiled = prepare(exposure, card, candidates, tta=full)
        else:
            tiled = prepare_exposure(Exposure.from_array(exposure), card, candidates, tta=full)
        return finish(tiled.answer(predict, tiled.views))

    return run
