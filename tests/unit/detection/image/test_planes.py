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
