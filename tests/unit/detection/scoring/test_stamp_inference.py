"""What a classifier of stamps is shown, and what becomes of its answers."""

from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from astrotriton.detection.card import StampModel, TensorSpec
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.scoring.inference import Inference
from astrotriton.detection.scoring.score import finish, prepare_exposure
from astrotriton.wire.detections import Candidate
from tests.unit.detection.conftest import field

SIZE = 21
SOURCES = ((120.3, 80.6, 30.0), (40.2, 30.1, 20.0))


def card_of(size: int = SIZE, **changes: object) -> StampModel:
    card = StampModel(
        name="classifier",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        input=TensorSpec(name="stamp", shape=(-1, 1, size, size)),
        output=TensorSpec(name="probability", shape=(-1, 1, 1, 1)),
        scaling="none",
    )
    return msgspec.structs.replace(card, **changes)


def at(*places: tuple[float, float]) -> list[Candidate]:
    return [Candidate(id=f"c{i}", x=x, y=y) for i, (x, y) in enumerate(places)]


def prepared(image: np.ndarray, *places: tuple[float, float], **more: object) -> Inference:
    card = more.pop("card", None) or card_of()
    return prepare_exposure(Exposure.from_array(image), card, at(*places), **more)  # type: ignore[arg-type]


def peaks(stamps: np.ndarray) -> np.ndarray:
    """A stand-in network: how bright the middle is, as one number for a stamp."""
    middle = stamps.shape[2] // 2
    near = stamps[:, :, middle - 1 : middle + 2, middle - 1 : middle + 2]
    return 1.0 / (1.0 + np.exp(8.0 - near.mean(axis=(1, 2, 3), keepdims=True)))


@pytest.mark.parametrize(("size", "middle"), [(21, 10), (20, 10)])
def test_a_stamp_is_centred_on_the_pixel_of_its_candidate(size: int, middle: int) -> None:
    image = field(sources=())
    stamp = prepared(image, (120.4, 79.6), card=card_of(size)).batch(0, 1)
    assert stamp.shape == (1, 1, size, size)
    assert stamp[0, 0, middle, middle] == image[80, 120]
    cut = np.s_[80 - middle : 80 - middle + size, 120 - middle : 120 - middle + size]
    np.testing.assert_array_equal(stamp[0, 0], image[cut])


@pytest.mark.parametrize("scaling", ["none", "l2", "asinh"])
def test_what_is_masked_or_beyond_the_exposure_is_nothing(scaling: str) -> None:
    image = field(sources=())
    image[:5, :] = np.nan
    image[:, 20:] += 1000.0
    inference = prepared(image, (-0.4, 199.3), (2.0, 2.0), card=card_of(scaling=scaling))
    corner, top = inference.batch(0, 2)[:, 0]
    # The middle of the stamp is the exposure's first column and last row.
    assert not corner[:, :10].any()
    assert not corner[11:].any()
    assert corner[:11, 10:].any()
    assert not top[: 8 + 5].any()
    assert np.isfinite(top).all()


def test_scalings() -> None:
    image = field(sources=SOURCES) * 50.0 + 7000.0
    places = [(x, y) for x, y, _ in SOURCES]
    plain, norm, stretched = (
        prepared(image, *places, card=card_of(scaling=scaling)).batch(0, 2)
        for scaling in ("none", "l2", "asinh")
    )
    assert plain.min() > 5000.0
    np.testing.assert_allclose((norm.astype(np.float64) ** 2).sum(axis=(1, 2, 3)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(norm[0] / norm[0].max(), plain[0] / plain[0].max(), rtol=1e-5)
    # As a U-Net sees it: the background is gone, in units of the noise.
    assert abs(float(np.median(stretched))) < 0.3
    assert stretched.max() <= 8.0


def test_an_empty_stamp_has_no_norm_to_be_divided_by() -> None:
    image = field(sources=())
    image[:60, :60] = np.nan
    assert not prepared(image, (20.0, 20.0), card=card_of(scaling="l2")).batch(0, 1).any()


def test_every_candidate_gets_its_own_answer() -> None:
    image = field(shape=(700, 900), sources=((600.2, 650.1, 40.0), (40.2, 30.1, 25.0)))
    places = [(40.0, 30.0), (300.0, 300.0), (600.0, 650.0), (899.4, 0.2)]
    for size in (1, 3, 64):
        scored = finish(prepared(image, *places).answer(peaks, size))
        said = {one.candidate_id: one for one in scored.detections}
        assert set(said) == {"c0", "c1", "c2", "c3"}
        assert said["c0"].probability > 0.9 > 0.1 > said["c1"].probability
        assert said["c2"].probability > 0.9
        # Measured as any source is.
        assert abs(said["c2"].x - 600.2) < 0.3
        assert said["c2"].snr > 50.0
        assert said["c2"].probability_mean is None
        assert [one.outcome for one in scored.detections] == ["kept"] * 4
        assert not scored.extracted


def test_it_finds_nothing_by_itself() -> None:
    image = field(sources=SOURCES)
    scored = finish(prepared(image, (200.0, 150.0)).answer(peaks, 8))
    assert len(scored.detections) == 1
    assert finish(prepared(image)).detections == []


def test_without_candidates_the_remedy_is_said() -> None:
    with pytest.raises(InputError, match="send those that your pipeline has found") as caught:
        prepare_exposure(Exposure.from_array(field()), card_of(), None)
    assert (caught.value.code, caught.value.field) == ("candidates-missing", "candidates")


def test_a_masked_candidate_and_one_that_lies_nowhere_come_back() -> None:
    image = field(sources=SOURCES)
    image[148:153, 198:203] = np.nan
    scored = finish(prepared(image, (200.0, 150.0), (40.0, 30.0), (5000.0, 3.0)).answer(peaks, 8))
    said = {one.candidate_id: (one.outcome, one.unscored_reason) for one in scored.detections}
    assert said == {
        "c0": ("unscored", "masked"),
        "c1": ("kept", None),
        "c2": ("unscored", "off_image"),
    }


def test_of_two_candidates_of_one_source_the_likelier_stands_for_it() -> None:
    image = field(sources=SOURCES)
    scored = finish(prepared(image, (42.0, 31.0), (40.0, 30.0)).answer(peaks, 8))
    kept, merged = scored.detections
    assert (kept.candidate_id, merged.candidate_id) == ("c1", "c0")
    assert (merged.outcome, merged.merged_into) == ("merged", 0)


def test_in_eight_orientations_the_answers_are_averaged() -> None:
    image = field(sources=SOURCES)
    inference = prepared(image, (40.0, 30.0), (120.0, 81.0), tta=True)
    assert len(inference) == 16
    whole = inference.batch(0, 16)
    pieces = np.concatenate([inference.batch(start, start + 3) for start in range(0, 15, 3)])
    np.testing.assert_array_equal(whole[:15], pieces)
    np.testing.assert_array_equal(whole[4, 0], whole[0, 0][:, ::-1])

    def corner(stamps: np.ndarray) -> np.ndarray:
        return 0.5 + 0.4 * np.tanh(stamps[:, :, :1, :1])

    said = {
        one.candidate_id: one
        for one in finish(prepared(image, (40.0, 30.0), tta=True).answer(corner, 5)).detections
    }
    expected = corner(whole[:8])
    assert said["c0"].probability == pytest.approx(float(expected.mean()))
    assert said["c0"].tta_std > 0.0


def test_sources_that_fade_are_shown_as_the_card_says() -> None:
    image = field(sources=((40.2, 30.1, -25.0),))
    as_it_is = prepared(image, (40.0, 30.0), card=card_of(polarities=(1, -1)))
    negative = prepared(image, (40.0, 30.0), polarity=-1)
    np.testing.assert_array_equal(negative.batch(0, 1), -as_it_is.batch(0, 1))
    [one] = finish(negative.answer(peaks, 1)).detections
    assert one.polarity == -1
    assert one.flux < 0.0
    assert one.probability > 0.9
    [one] = finish(as_it_is.answer(peaks, 1)).detections
    assert one.polarity == -1
    assert one.probability < 0.1


def test_an_unanswered_stamp_is_an_error() -> None:
    inference = prepared(field(), (40.0, 30.0), (60.0, 60.0))
    inference.accept(0, np.full((1, 1, 1, 1), 0.5, np.float32))
    with pytest.raises(RuntimeError, match="1 of 2 stamps"):
        finish(inference)


def test_looking_meanwhile_changes_nothing() -> None:
    image = field(shape=(600, 1100), sources=((600.2, 450.1, 40.0), (40.2, 30.1, 25.0)))
    places = [(40.0, 30.0), (600.0, 450.0), (1090.0, 590.0)]
    plain = finish(prepared(image, *places).answer(peaks, 2))
    looked = prepared(image, *places)
    looked.look(0, 2)
    looked.look(2, 3)
    looked.look(0, 3)
    assert finish(looked.answer(peaks, 2)).detections == plain.detections
