from typing import Any

import numpy as np
import pytest

from astrotriton.detection.card import UNetModel
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.planes import Planes
from astrotriton.detection.scoring.score import finish, prepare
from astrotriton.wire.detections import Candidate
from tests.unit.detection.conftest import answer, field, to_fits, to_npy

DATA = field(sources=((120.0, 80.0, 30.0),))


def score(card: UNetModel, planes: Planes) -> tuple[str, float]:
    asked = [Candidate(id="a", x=120.0, y=80.0)]
    tiled = prepare(to_npy(DATA), card, asked, planes=planes)
    result = finish(answer(tiled))
    return next(d.outcome for d in result.detections if d.candidate_id == "a"), (
        result.image.masked_fraction
    )


def test_a_data_quality_plane_masks(card: UNetModel) -> None:
    quality = np.zeros(DATA.shape, np.int16)
    quality[70:91, 110:131] = 4
    assert score(card, Planes(mask=to_fits(quality))) == ("unscored", 21 * 21 / DATA.size)
    # Bit 1 is not set anywhere.
    assert score(card, Planes(mask=to_fits(quality), mask_bits=1)) == ("kept", 0.0)


def test_a_weight_map_masks_where_it_is_not_positive(card: UNetModel) -> None:
    weight = np.ones(DATA.shape, np.float32)
    weight[70:91, 110:131] = 0.0
    weight[0, 0] = np.nan
    assert score(card, Planes(weight=to_fits(weight))) == ("unscored", (21 * 21 + 1) / DATA.size)


NOISE = np.where(np.arange(300) < 150, 1.0, 4.0) * np.ones((200, 1))


@pytest.mark.parametrize(
    ("power", "header", "weight_type"),
    [
        (-2, {}, None),
        (-2, {"EXTNAME": "WHT"}, None),
        (2, {"EXTNAME": "VARIANCE"}, None),
        (1, {"EXTNAME": "ERR"}, None),
        (2, {"EXTNAME": "UNCERT", "UTYPE": "VarianceUncertainty"}, None),
        (1, {}, "standard_deviation"),
        (2, {"EXTNAME": "WHT"}, "variance"),
    ],
)
def test_a_weight_map_says_the_noise_of_each_pixel(
    card: UNetModel, power: int, header: dict[str, str], weight_type: Any
) -> None:
    data = (np.random.default_rng(5).normal(size=NOISE.shape) * NOISE).astype(np.float32)
    plane = to_fits((0.3 * NOISE**power).astype(np.float32), **header)
    tiled = prepare(to_npy(data), card, [], planes=Planes(weight=plane, weight_type=weight_type))
    _, rms = tiled.normalised.maps(slice(0, 200), slice(0, 300))
    assert rms == pytest.approx(NOISE, rel=0.05)
    significance, _, _ = tiled.normalised.piece(slice(0, 200), slice(0, 300))
    for half in (significance[:, :150], significance[:, 150:]):
        assert half.std() == pytest.approx(1.0, abs=0.05)


def test_a_weight_map_that_is_the_same_everywhere_leaves_the_measured_noise(
    card: UNetModel,
) -> None:
    data = (np.random.default_rng(5).normal(size=NOISE.shape) * NOISE).astype(np.float32)
    without, told = (
        prepare(to_npy(data), card, [], planes=planes).normalised
        for planes in (None, Planes(weight=to_fits(np.full(data.shape, 7.0, np.float32))))
    )
    everywhere = slice(0, 200), slice(0, 300)
    assert np.array_equal(without.maps(*everywhere)[1], told.maps(*everywhere)[1])


@pytest.mark.parametrize(
    ("psf", "detail"),
    [
        (np.zeros((25, 25)), "no positive sum"),
        (np.pad([[1.0]], ((2, 22), (2, 22))), "not in its middle"),
        (np.ones((201, 201)), "px wide"),
        (np.ones((600, 600)), "at most 511"),
    ],
)
def test_an_image_that_shows_no_psf(card: UNetModel, psf: np.ndarray, detail: str) -> None:
    with pytest.raises(InputError, match=detail) as caught:
        score(card, Planes(psf=to_npy(psf)))
    assert caught.value.field == "psf"


@pytest.mark.parametrize("name", ["mask", "weight"])
def test_a_plane_of_another_shape(card: UNetModel, name: str) -> None:
    with pytest.raises(InputError) as caught:
        score(card, Planes(**{name: to_npy(np.ones((20, 30)))}))
    assert (caught.value.code, caught.value.field) == ("plane-shape", name)


@pytest.mark.parametrize("content", [b"rubbish", b""])
def test_a_plane_that_cannot_be_read(card: UNetModel, content: bytes) -> None:
    with pytest.raises(InputError) as caught:
        score(card, Planes(mask=content))
    assert (caught.value.code, caught.value.field) == ("not-fits", "mask")
