"""Networks without padding, which answer for the middle of what they see; and of three channels."""

import msgspec
import numpy as np
import pytest
from scipy import ndimage

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.detection.scoring.score import Scored, finish, prepare
from astrotriton.detection.scoring.tiled_inference import TiledInference
from tests.unit.detection.conftest import answer, field, to_npy

BORDER = 20
SOURCES = ((2.2, 3.1, 30.0), (120.3, 80.6, 30.0), (88.4, 88.2, 25.0), (297.0, 197.4, 30.0))


def smaller(card: UNetModel, channels: int = 1) -> UNetModel:
    """A card of tiles of 128 pixels, of whose middle 88 are answered."""
    return msgspec.structs.replace(
        card,
        input=TensorSpec(name="image", shape=(-1, channels, 128, 128)),
        output=TensorSpec(name="probability", shape=(-1, 1, 88, 88)),
        overlap=24,
    )


def answer_the_middle(tiled: TiledInference) -> TiledInference:
    for start in range(len(tiled)):
        tile = tiled.batch(start, start + 1).mean(axis=1)[0]
        response = ndimage.gaussian_filter(np.sinh(tile) * 3.0, 1.7) * 6.0
        probability = 1.0 / (1.0 + np.exp(-2.0 * (response - 6.0)))
        tiled.accept(start, probability[None, None, BORDER:-BORDER, BORDER:-BORDER])
    return tiled


def positions(scored: Scored) -> list[tuple[float, float]]:
    return sorted((one.x, one.y) for one in scored.detections if one.is_real)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(200, 300), (88, 88), (60, 400), (30, 40)])
def test_smaller_answers_lead_to_the_same_detections(
    card: UNetModel, shape: tuple[int, int], channels: int
) -> None:
    inside = tuple(one for one in SOURCES if one[0] < shape[1] and one[1] < shape[0])
    content = to_npy(field(shape, inside))
    expected = positions(finish(answer(prepare(content, card)), threshold=0.5))
    tiled = prepare(content, smaller(card, channels))
    assert tiled.batch(0, 1).shape == (1, channels, 128, 128)

    found = positions(finish(answer_the_middle(tiled), threshold=0.5))

    assert len(found) == len(expected) >= 1
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_orientations_are_turned_back(card: UNetModel) -> None:
    content = to_npy(field(sources=SOURCES))
    plain = finish(answer_the_middle(prepare(content, smaller(card))), threshold=0.5)
    augmented = prepare(content, smaller(card), tta=True)
    found = positions(finish(answer_the_middle(augmented), threshold=0.5))
    np.testing.assert_allclose(found, positions(plain), atol=0.1)


def test_what_a_tile_sees_beyond_the_exposure_is_zero(card: UNetModel) -> None:
    tiled = prepare(to_npy(field((60, 70)) + 5.0), smaller(card))
    shown = tiled.batch(0, 1)[0, 0]
    assert not shown[:BORDER].any()
    assert not shown[:, :BORDER].any()
    assert shown[BORDER : BORDER + 60, BORDER : BORDER + 70].all()
    assert not shown[BORDER + 60 :].any()
    assert not shown[:, BORDER + 70 :].any()
