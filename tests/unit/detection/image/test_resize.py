"""Networks that see an exposure on finer or coarser pixels than its own."""

import msgspec
import numpy as np
import pytest
from scipy import ndimage

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.detection.errors import CardError
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.resize import resize
from astrotriton.detection.scoring.score import Scored, finish
from astrotriton.detection.scoring.tiled_inference import TiledInference
from astrotriton.wire.detections import Candidate
from tests.unit.detection.conftest import field

SOURCES = ((120.3, 80.6, 60.0), (40.2, 150.9, 60.0), (290.7, 3.4, 60.0), (128.0, 20.0, 60.0))


def scaled(card: UNetModel, resize: float, answer: int = 256) -> UNetModel:
    return msgspec.structs.replace(
        card,
        normalisation=msgspec.structs.replace(card.normalisation, resize=resize),
        output=TensorSpec(name="probability", shape=(-1, 1, answer, answer)),
        overlap=64,
    )


def score(data: np.ndarray, card: UNetModel, asked: list[Candidate] | None = None) -> Scored:
    """By a matched filter that is as wide as a source is on the network's pixels."""
    width = 1.7 * card.normalisation.resize
    cut = (card.tile_size[0] - card.answer_size[0]) // 2

    def predict(tiles: np.ndarray) -> np.ndarray:
        assert tiles.shape[1:] == (1, *card.tile_size)
        response = (
            ndimage.gaussian_filter(np.sinh(tiles) * 3.0, (0, 0, width, width), mode="constant")
            * width
        )
        probability = 1.0 / (1.0 + np.exp(-np.clip(3.5 * response - 18.0, -50.0, 50.0)))
        inner = probability[..., cut : cut + card.answer_size[0], cut : cut + card.answer_size[1]]
        return np.ascontiguousarray(inner, dtype=np.float32)

    return finish(TiledInference(Exposure.from_array(data), card, asked).answer(predict, 3))


@pytest.mark.parametrize(("factor", "answer"), [(1.0, 256), (2.0, 256), (0.5, 256), (2.0, 192)])
def test_positions_are_the_exposures_own(card: UNetModel, factor: float, answer: int) -> None:
    result = score(field(sources=SOURCES), scaled(card, factor, answer), [])
    found = sorted((d.x, d.y) for d in result.detections if d.is_real)
    np.testing.assert_allclose(found, sorted(s[:2] for s in SOURCES), atol=0.1)
    widths = [d.fwhm for d in result.detections if d.is_real]
    np.testing.assert_allclose(widths, 1.7 * 2.355, rtol=0.1)


def test_a_candidate_between_tiles_is_read_where_it_is(card: UNetModel) -> None:
    # Tiles cover 128 pixels of the exposure and share 32, so that seams lie 16 further on.
    asked = [Candidate(id="seam", x=112.0, y=100.0), Candidate(id="empty", x=200.0, y=40.0)]
    result = score(field(sources=((112.0, 100.0, 60.0),)), scaled(card, 2.0), asked)
    seen = {d.candidate_id: d for d in result.detections}
    assert seen["seam"].probability == pytest.approx(1.0, abs=1e-3)
    assert seen["empty"].probability == pytest.approx(0.0, abs=1e-3)
    assert len(result.detections) == 2


@pytest.mark.parametrize("factor", [0.0, -1.0, 3.0, 16.0, float("nan")])
def test_tiles_of_part_of_a_pixel_are_refused(card: UNetModel, factor: float) -> None:
    with pytest.raises(CardError, match="resize"):
        scaled(card, factor)


def test_noise_keeps_its_width_on_coarser_pixels(card: UNetModel) -> None:
    noise = np.random.default_rng(3).normal(size=(512, 512)).astype(np.float32)
    tiled = TiledInference(Exposure.from_array(noise), scaled(card, 0.5), [])
    seen = np.sinh(tiled.batch(0, 1)) * 3.0
    assert np.std(seen) == pytest.approx(1.0, rel=0.03)


def test_the_area_is_kept() -> None:
    image = np.random.default_rng(3).normal(size=(40, 60)).astype(np.float32)
    coarse = resize(image, (20, 30))
    np.testing.assert_allclose(coarse, image.reshape(20, 2, 30, 2).mean((1, 3)), atol=1e-6)
    assert resize(image, (40, 60)) is image
    ramp = np.tile(np.arange(60, dtype=np.float32), (40, 1))
    finer = resize(ramp, (80, 120))
    np.testing.assert_allclose(finer[:, 20], (20 + 0.5) / 2 - 0.5, atol=1e-5)
