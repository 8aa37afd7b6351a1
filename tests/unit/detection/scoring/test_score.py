import math
from typing import Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrotriton.detection.card import Domain, UNetModel
from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image.exposure import Limits
from astrotriton.detection.scoring.ensemble import candidates_of, with_ensemble_std
from astrotriton.detection.scoring.score import Scored, finish, guarantee_of, prepare
from astrotriton.wire.confidence import Guarantee
from astrotriton.wire.detections import Candidate
from tests.unit.detection.conftest import answer, field, to_fits, to_npy

SOURCES = ((120.3, 80.6, 30.0), (40.2, 150.9, 15.0), (260.0, 30.0, 20.0))


def score(data: np.ndarray, card: UNetModel, candidates: list[Candidate] | None = None) -> Scored:
    return finish(answer(prepare(to_npy(data), card, candidates)), threshold=0.5)


def at(*positions: tuple[float, float]) -> list[Candidate]:
    return [Candidate(id=f"c{i}", x=x, y=y) for i, (x, y) in enumerate(positions)]


def test_sources_are_found_measured_and_ranked(card: UNetModel) -> None:
    result = score(field(sources=SOURCES), card)
    assert result.extracted
    kept = [d for d in result.detections if d.is_real]
    found = sorted((round(d.x), round(d.y)) for d in kept)
    assert found == [(40, 151), (120, 81), (260, 30)]
    best = min(kept, key=lambda d: abs(d.x - 120.3))
    assert (best.x, best.y) == (pytest.approx(120.3, abs=0.1), pytest.approx(80.6, abs=0.1))
    assert best.fwhm == pytest.approx(4.0, abs=0.3)
    assert best.elongation == pytest.approx(1.0, abs=0.15)
    assert best.negative_ratio == pytest.approx(0.0, abs=0.1)
    # SNR of a Gaussian of peak A and width s in white noise is A s sqrt(pi).
    assert best.snr == pytest.approx(30 * 1.7 * math.sqrt(math.pi), rel=0.1)
    assert best.flux == pytest.approx(30 * 2 * math.pi * 1.7**2, rel=0.1)
    confidences = [d.confidence for d in result.detections if d.outcome == "kept"]
    assert confidences == sorted(confidences, key=lambda c: -(c or 0.0))
    assert result.image.seeing_fwhm == pytest.approx(4.0, abs=0.3)


@pytest.fixture
def both(card: UNetModel) -> UNetModel:
    """The card of a network that answers for both signs, one channel each."""
    return msgspec.structs.replace(
        card,
        polarities=(1, -1),
        output=msgspec.structs.replace(card.output, shape=(-1, 2, 256, 256)),
    )


def asked(data: np.ndarray, card: UNetModel, polarity: Literal[1, -1] | None) -> Scored:
    return finish(answer(prepare(to_npy(data), card, polarity=polarity)))


def test_what_fades_is_scored_as_what_brightens(card: UNetModel, both: UNetModel) -> None:
    data = field(sources=SOURCES)
    above, below = asked(data, card, None), asked(-data, card, -1)
    assert len(above.detections) == len(below.detections)
    for one, other in zip(above.detections, below.detections, strict=True):
        assert (other.x, other.y) == pytest.approx((one.x, one.y), abs=1e-3)
        assert other.confidence == pytest.approx(one.confidence, abs=1e-4)
        assert (other.polarity, one.polarity) == (-one.polarity, -other.polarity)
        assert other.snr == pytest.approx(-one.snr, rel=1e-2)
        assert other.flux == pytest.approx(-one.flux, rel=2e-2)
        assert ("negative" in other.flags) != ("negative" in one.flags)
    assert [d.x for d in asked(-data, both, -1).detections] == pytest.approx(
        [d.x for d in below.detections]
    )


def test_both_signs_come_from_one_pass(both: UNetModel) -> None:
    data = field(sources=(*SOURCES, (200.4, 120.2, -25.0)))
    found = asked(data, both, None)
    real = {(round(d.x), round(d.y)): d for d in found.detections if d.is_real}
    assert set(real) == {(120, 81), (40, 151), (260, 30), (200, 120)}
    assert {place: d.polarity for place, d in real.items()}[200, 120] == -1
    assert real[200, 120].flux < 0.0 < real[260, 30].flux
    assert {d.polarity for d in asked(data, both, 1).detections if d.is_real} == {1}
    assert {d.polarity for d in asked(data, both, -1).detections if d.is_real} == {-1}


def test_what_lies_outside_the_domain_is_named_and_nothing_is_sure(card: UNetModel) -> None:
    domain = Domain(seeing_fwhm=(2.0, 6.0), snr=(3.0, 70.0))
    known = msgspec.structs.replace(card, domain=domain)
    result = score(field(sources=SOURCES), known)
    assert result.flags == ("no_wcs",)
    bright = [d for d in result.detections if d.snr is not None and d.snr > 70.0]
    assert bright
    assert all({"out_of_distribution", "brighter_than_trained"} <= set(d.flags) for d in bright)
    broad = msgspec.structs.replace(known, domain=Domain(seeing_fwhm=(6.0, 9.0), snr=(3.0, 1e4)))
    result = score(field(sources=SOURCES), broad)
    assert "seeing_outside_training" in result.flags
    assert all("out_of_distribution" in d.flags for d in result.detections)


def test_an_image_that_is_no_difference_is_suspect(both: UNetModel) -> None:
    grid = [(x, y) for x in range(20, 290, 30) for y in range(20, 190, 30)]
    stars = field(sources=tuple((x, y, 30.0) for x, y in grid))
    assert "subtraction_suspect" in asked(stars, both, None).flags
    mixed = field(sources=tuple((x, y, 30.0 * (-1) ** i) for i, (x, y) in enumerate(grid)))
    assert "subtraction_suspect" not in asked(mixed, both, None).flags


def test_what_is_vouched_for_chooses_the_threshold(card: UNetModel) -> None:
    tiled = prepare(to_npy(field(sources=SOURCES)), card)
    vouched = Guarantee(
        max_false_discovery_rate=0.2, threshold=0.75, confidence_level=0.9, exposures=400
    )
    scored = finish(answer(tiled), threshold=0.999, guarantee=vouched)
    assert scored.guarantee is vouched
    assert scored.threshold == vouched.threshold
    assert guarantee_of(tiled, None) is None
    with pytest.raises(InputError, match="never calibrated") as caught:
        guarantee_of(tiled, 0.2)
    assert caught.value.field == "max_false_discovery_rate"


def test_every_candidate_comes_back(card: UNetModel) -> None:
    data = field(sources=SOURCES)
    data[100:130, 200:230] = np.nan
    asked = at((121, 81), (119, 79.5), (200, 10), (215, 115), (60, 60), (61, 60))
    result = score(data, card, asked)
    assert not result.extracted
    by_id = {d.candidate_id: d for d in result.detections if d.candidate_id}
    assert set(by_id) == {c.id for c in asked}
    assert by_id["c0"].outcome == "kept"
    assert by_id["c0"].is_real
    assert by_id["c1"].outcome == "merged"
    assert result.detections[by_id["c1"].merged_into or 0] is by_id["c0"]
    assert by_id["c2"].outcome == "kept"
    assert not by_id["c2"].is_real
    assert by_id["c3"].outcome == "unscored"
    assert by_id["c3"].confidence is None
    assert by_id["c3"].unscored_reason == "masked"
    assert "masked" in by_id["c3"].flags
    assert {by_id["c4"].outcome, by_id["c5"].outcome} == {"kept", "merged"}
    # What nobody asked for is found all the same, and says so.
    others = [d for d in result.detections if d.candidate_id is None]
    assert len(others) == 2
    assert all("no_candidate" in d.flags for d in others)


def test_an_empty_list_of_candidates_is_not_an_extraction(card: UNetModel) -> None:
    result = score(field(), card, [])
    assert not result.extracted
    assert all(d.candidate_id is None for d in result.detections)


def test_a_dipole_is_flagged(card: UNetModel) -> None:
    data = field(sources=((100, 100, 30.0), (106, 100, -30.0)))
    best = score(data, card, at((100, 100))).detections[0]
    assert best.negative_ratio == pytest.approx(1.0, abs=0.2)
    assert "dipole" in best.flags


def test_a_fading_source_has_negative_polarity(card: UNetModel) -> None:
    best = score(field(sources=((100, 100, -30.0),)), card, at((100, 100))).detections[0]
    assert best.polarity == -1
    assert best.flux is not None
    assert best.flux < 0
    assert not best.is_real


def test_sky_positions(card: UNetModel) -> None:
    tiled = answer(prepare(to_fits(field(), **TAN), card, at((120, 81))))
    best = finish(tiled, threshold=0.5).detections[0]
    assert best.ra == pytest.approx(10.0, abs=2e-5)
    assert best.dec == pytest.approx(0.0, abs=2e-5)
    assert "no_wcs" not in best.flags


TAN = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 10.0,
    "CRVAL2": 0.0,
    "CRPIX1": 121.3,
    "CRPIX2": 81.6,
    "CDELT1": -1e-4,
    "CDELT2": 1e-4,
}

LOST = {
    "NaN": ({"x": math.nan, "y": 1.0}, "not_a_number"),
    "infinite": ({"x": 1.0, "y": math.inf}, "not_a_number"),
    "nothing": ({}, "not_a_number"),
    "half of a place": ({"x": 1.0, "ra": 10.0}, "not_a_number"),
    "right of it": ({"x": 299.5, "y": 1.0}, "off_image"),
    "below it": ({"x": 1.0, "y": -0.51}, "off_image"),
    "far off": ({"x": 1e300, "y": -1e300}, "off_image"),
    "elsewhere in the sky": ({"ra": 190.0, "dec": 0.0}, "off_image"),
    "beside it in the sky": ({"ra": 10.1, "dec": 0.0}, "off_image"),
    "beyond the pole": ({"ra": 10.0, "dec": 91.0}, "off_image"),
}


def test_a_candidate_that_lies_nowhere_does_not_hold_up_the_others(card: UNetModel) -> None:
    lost = [Candidate(id=name, **place) for name, (place, _) in LOST.items()]
    content = to_fits(field(), **TAN)
    result = finish(answer(prepare(content, card, [*lost, *at((120, 81))])), threshold=0.5)
    by_id = {d.candidate_id: d for d in result.detections if d.candidate_id}
    assert by_id["c0"].is_real
    assert by_id["c0"].unscored_reason is None
    for name, (place, reason) in LOST.items():
        found = by_id[name]
        assert (found.outcome, found.unscored_reason) == ("unscored", reason), name
        assert not found.is_real
        assert found.confidence is None
        sent = {axis: getattr(found, axis) for axis in place}
        known = (
            place if name not in ("NaN", "infinite", "half of a place", "beyond the pole") else {}
        )
        assert sent == {axis: known.get(axis) for axis in place}, name
    assert [d.rank for d in result.detections] == list(range(1, len(result.detections) + 1))
    assert len(result.features) == len(result.detections)


def test_candidates_by_their_place_in_the_sky(card: UNetModel) -> None:
    source = Candidate(id="sky", ra=370.0, dec=0.0)
    both = Candidate(id="both", x=120.0, y=81.0, ra=190.0, dec=0.0)
    either = Candidate(id="either", x=math.nan, y=5.0, ra=10.0, dec=0.0)
    content = to_fits(field(), **TAN)
    for candidate in (source, both, either):
        best = finish(answer(prepare(content, card, [candidate])), threshold=0.5).detections[0]
        assert (best.candidate_id, best.outcome) == (candidate.id, "kept")
        assert (best.x, best.y) == (pytest.approx(120.3, abs=0.1), pytest.approx(80.6, abs=0.1))
    for lost in (to_npy(field()), to_fits(field(), **TAN | {"CDELT1": 0.0})):
        result = finish(answer(prepare(lost, card, [source, *at((120, 81))])), threshold=0.5)
        found = {d.candidate_id: d for d in result.detections}
        assert found["sky"].unscored_reason == "no_wcs"
        assert (found["sky"].x, found["sky"].ra, found["sky"].dec) == (None, 10.0, 0.0)
        assert found["c0"].is_real


def test_an_id_twice_and_too_many(card: UNetModel) -> None:
    twice = [Candidate(id="a", x=1, y=1), Candidate(id="a", x=9, y=9)]
    with pytest.raises(InputError, match=r"candidates\[1\].id"):
        prepare(to_npy(field()), card, twice)
    with pytest.raises(TooLargeError):
        prepare(to_npy(field()), card, at((1, 1), (9, 9)), limits=Limits(max_candidates=1))


def test_thousands_on_one_pixel_are_one_source(card: UNetModel) -> None:
    asked = at(*[(120.0 + i * 1e-5, 80.0) for i in range(3000)])
    result = score(field(), card, asked)
    assert len(result.detections) >= 3000
    assert [d.outcome for d in result.detections if d.candidate_id].count("kept") == 1


def test_an_uncalibrated_model_says_so(card: UNetModel) -> None:
    result = score(field(), card)
    best = result.detections[0]
    assert best.confidence == best.probability
    assert "uncalibrated" in best.flags
    # There is no model that the confidence could be derived from.
    assert result.features == [None] * len(result.detections)


@settings(max_examples=12, deadline=None)
@given(dx=st.integers(0, 60), dy=st.integers(0, 60))
def test_shifting_the_exposure_shifts_the_detections(card: UNetModel, dx: int, dy: int) -> None:
    sky = field((300, 400), ((150.4, 140.2, 25.0), (210.7, 170.1, 18.0)), seed=5)
    first = score(sky[:230, :330], card, [])
    moved = score(sky[dy : 230 + dy, dx : 330 + dx], card, [])
    # A peak of the noise may come to lie on an edge, where what is beside it does not speak for it.
    real = [
        [d for d in one.detections if d.is_real and "edge" not in d.flags] for one in (first, moved)
    ]
    near = sorted((d.x - dx, d.y - dy) for d in real[0])
    found = sorted((d.x, d.y) for d in real[1])
    np.testing.assert_allclose(found, near, atol=0.1)


@settings(max_examples=12, deadline=None)
@given(
    row=st.integers(0, 190),
    column=st.integers(0, 290),
    height=st.integers(1, 80),
    width=st.integers(1, 80),
)
def test_missing_pixels_never_make_a_detection(
    card: UNetModel, row: int, column: int, height: int, width: int
) -> None:
    data = field(sources=())
    data[row : row + height, column : column + width] = np.nan
    result = score(data, card)
    assert not [d for d in result.detections if d.is_real]


@pytest.mark.parametrize("spot", [(128, 128), (208, 60), (208, 208), (48, 208), (160, 255)])
def test_a_source_on_a_seam_is_reported_once(card: UNetModel, spot: tuple[int, int]) -> None:
    """With tiles of 256 px that share 96, the first seam is at 208 px."""
    x, y = spot
    result = score(field((400, 400), ((float(x), float(y), 25.0),)), card, [])
    real = [d for d in result.detections if d.is_real]
    assert [(round(d.x), round(d.y)) for d in real] == [spot]


def test_card_round_trip(card: UNetModel) -> None:
    assert UNetModel.from_json(card.to_json()) == card
    assert msgspec.structs.replace(card, version=3).version == 3


def test_versions_that_disagree_say_so(card: UNetModel) -> None:
    content = to_npy(field(sources=SOURCES))
    scored = finish(answer(prepare(content, card)), threshold=0.5)
    same = finish(answer(prepare(content, card, candidates_of(scored))), threshold=0.5)
    unsure = prepare(content, card, candidates_of(scored))
    for start in range(len(unsure)):
        unsure.accept(start, np.full_like(unsure.batch(start, start + 1), 0.02))
    other = finish(unsure, threshold=0.5)

    agreed = with_ensemble_std(scored, [same]).detections[0]
    disputed = with_ensemble_std(scored, [same, other]).detections[0]

    assert agreed.ensemble_std == pytest.approx(0.0, abs=1e-3)
    assert disputed.ensemble_std is not None
    assert disputed.ensemble_std > 1.0
    assert with_ensemble_std(scored, []) is scored


def test_a_centroid_off_the_image_is_put_to_others_on_it(card: UNetModel) -> None:
    scored = finish(answer(prepare(to_npy(field(sources=SOURCES)), card)), threshold=0.5)
    off = msgspec.structs.replace(scored.detections[0], x=-0.8, y=float(scored.shape[0]))
    asked = candidates_of(msgspec.structs.replace(scored, detections=[off]))
    assert [(one.x, one.y) for one in asked] == [(0.0, scored.shape[0] - 1.0)]


def test_augmentation_shows_eight_views(card: UNetModel) -> None:
    content = to_npy(field(sources=SOURCES))
    plain = finish(answer(prepare(content, card)), threshold=0.5)
    tiled = prepare(content, card, tta=True)
    assert len(tiled) == 8 * len(tiled.tiles)
    augmented = finish(answer(tiled), threshold=0.5)
    first, second = plain.detections[0], augmented.detections[0]
    assert (second.x, second.y) == (
        pytest.approx(first.x, abs=0.01),
        pytest.approx(first.y, abs=0.01),
    )
    assert first.tta_std is None
    # A matched filter does not care which way up it is shown a source.
    assert second.tta_std == pytest.approx(0.0, abs=0.05)
