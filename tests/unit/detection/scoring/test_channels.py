"""What the channels of a network show of an exposure, its science image and its template."""

import msgspec
import numpy as np
import pytest
from astropy.wcs import WCS

from astrotriton.detection.card import ModelCard, StampModel, TensorSpec, UNetModel
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.normalisation import Normalisation
from astrotriton.detection.image.planes import Planes
from astrotriton.detection.image.preprocess import normalise
from astrotriton.detection.scoring.inference import Inference
from astrotriton.detection.scoring.score import finish, prepare
from astrotriton.wire.detections import Candidate
from tests.unit.detection.conftest import answer, field, to_fits, to_npy
from tests.unit.detection.scoring.test_stamp_inference import card_of

PLAIN, WIDE = Normalisation(), Normalisation(mesh=128, softening=10.0, clip=9.0)
PLANES = ("difference", "science", "template", "has_science", "has_template")
DIFFERENCE, SCIENCE, TEMPLATE = (field(seed=seed) * 7.0 + 100.0 * seed for seed in (1, 2, 3))
FILES = {"science": to_npy(SCIENCE), "template": to_npy(TEMPLATE)}


@pytest.fixture
def told(card: UNetModel) -> UNetModel:
    """A card of a network that is told which of its optional planes are there."""
    return msgspec.structs.replace(
        card,
        input=TensorSpec(name="image", shape=(-1, 5, 256, 256)),
        planes=PLANES,
        optional_planes=("science", "template"),
        plane_normalisations={"science": WIDE, "template": Normalisation()},
    )


def asked(card: ModelCard, *sent: str, **how: object) -> Inference:
    planes = Planes(**{name: FILES[name] for name in sent})
    candidates = [Candidate(id="a", x=120.0, y=80.0)]
    return prepare(to_npy(DIFFERENCE), card, candidates, planes=planes, **how)  # type: ignore[arg-type]


def seen(image: np.ndarray, how: Normalisation = PLAIN) -> np.ndarray:
    """All of an image as the network sees it."""
    return normalise(image, np.zeros(image.shape, bool), how).image()


def test_each_channel_shows_its_plane_by_its_own_normalisation(told: UNetModel) -> None:
    tiled = asked(told, "science", "template")
    assert tiled.channels.planes == ("difference", "science", "template")
    tile = tiled.batch(0, 1)[0][:, :200, :256]
    for channel, image, how in (
        (0, DIFFERENCE, Normalisation()),
        (1, SCIENCE, WIDE),
        (2, TEMPLATE, Normalisation()),
    ):
        np.testing.assert_allclose(tile[channel], seen(image, how)[:, :256], atol=1e-5)
    assert (tile[3:] == 1.0).all()


def test_all_of_a_plane_that_was_left_out_is_nothing_and_the_network_is_told(
    told: UNetModel,
) -> None:
    for sent, there in (
        ((), (0, 0)),
        (("science",), (1, 0)),
        (("template",), (0, 1)),
    ):
        tiled = asked(told, *sent)
        tile = tiled.batch(0, 1)[0]
        assert tuple(tile[3:, 0, 0]) == there
        assert tuple(tile[1:3].any(axis=(1, 2))) == there
        assert finish(answer(tiled)).image.planes == ("difference", *sent)


def test_a_version_that_uses_no_planes_leaves_them_alone(card: UNetModel) -> None:
    alone, beside = asked(card), asked(card, "science", "template")
    np.testing.assert_array_equal(alone.batch(0, 2), beside.batch(0, 2))
    assert finish(answer(beside)).image.planes == ("difference",)


@pytest.mark.parametrize("missing", ["science", "template"])
def test_a_plane_that_is_needed_is_asked_for_by_name(told: UNetModel, missing: str) -> None:
    other = "template" if missing == "science" else "science"
    names = ("difference", "science", "template")
    needy = msgspec.structs.replace(
        told,
        version=4,
        planes=names,
        optional_planes=(other,),
        input=TensorSpec(name="image", shape=(-1, 3, 256, 256)),
    )
    with pytest.raises(InputError) as caught:
        asked(needy, other)
    assert (caught.value.code, caught.value.field) == ("plane-missing", missing)
    assert f"version 4 needs the {missing} image" in caught.value.detail
    assert f"`{missing}`" in caught.value.detail
    asked(needy, missing)


def test_in_the_negative_science_and_template_change_places(told: UNetModel) -> None:
    negative = asked(told, "science", polarity=-1)
    tile = negative.batch(0, 1)[0][:, :200, :256]
    np.testing.assert_allclose(tile[0], -seen(DIFFERENCE)[:, :256], atol=1e-5)
    np.testing.assert_allclose(tile[2], seen(SCIENCE)[:, :256], atol=1e-5)
    assert not tile[1].any()
    assert tuple(tile[3:, 0, 0]) == (0.0, 1.0)
    # What was used of what was sent, whatever it was shown as.
    assert negative.channels.planes == ("difference", "science")


def test_views_turn_all_planes_alike(told: UNetModel) -> None:
    square = msgspec.structs.replace(told)
    tiled = asked(square, "science", tta=True)
    views = tiled.batch(0, 8)
    for view in range(8):
        turned = np.rot90(views[0], view % 4, axes=(1, 2))
        turned = turned[..., ::-1] if view >= 4 else turned
        np.testing.assert_array_equal(views[view], turned)


def stamps_of(scaling: str, **changes: object) -> StampModel:
    return card_of(
        input=TensorSpec(name="stamp", shape=(-1, 3, 21, 21)),
        planes=("science", "template", "difference"),
        scaling=scaling,
        **changes,
    )


def test_stamps_show_the_planes_of_a_classifier() -> None:
    cut = np.s_[70:91, 110:131]
    stamp = asked(stamps_of("none"), "science", "template").batch(0, 1)[0]
    for channel, image in enumerate((SCIENCE, TEMPLATE, DIFFERENCE)):
        np.testing.assert_array_equal(stamp[channel], image[cut])
    unit = asked(stamps_of("l2"), "science", "template").batch(0, 1)[0]
    np.testing.assert_allclose(np.linalg.norm(unit, axis=(1, 2)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(unit[1], TEMPLATE[cut] / np.linalg.norm(TEMPLATE[cut]), rtol=1e-5)
    with pytest.raises(InputError, match="needs the template image"):
        asked(stamps_of("none"), "science")
    both = {"science": WIDE, "template": WIDE}
    normalised = asked(stamps_of("asinh", plane_normalisations=both), "science", "template")
    np.testing.assert_allclose(normalised.batch(0, 1)[0, 1], seen(TEMPLATE, WIDE)[cut], atol=1e-5)


def test_pixels_that_a_plane_lacks_are_nothing_there(told: UNetModel) -> None:
    holes = SCIENCE.copy()
    holes[40:60, 40:60] = np.nan
    tiled = prepare(to_npy(DIFFERENCE), told, [], planes=Planes(science=to_npy(holes)))
    tile = tiled.batch(0, 1)[0]
    assert not tile[1, 40:60, 40:60].any()
    assert tile[0, 40:60, 40:60].any()


def test_a_plane_with_nothing_in_it_is_named(told: UNetModel) -> None:
    empty = to_npy(np.full(DIFFERENCE.shape, np.nan, np.float32))
    with pytest.raises(InputError) as caught:
        prepare(to_npy(DIFFERENCE), told, [], planes=Planes(template=empty))
    assert (caught.value.code, caught.value.field) == ("no-usable-pixels", "template")


@pytest.mark.parametrize("name", ["science", "template"])
def test_a_plane_of_another_shape_is_refused_by_name(card: UNetModel, name: str) -> None:
    small = Planes(**{name: to_npy(SCIENCE[:-1])})
    with pytest.raises(InputError) as caught:
        prepare(to_npy(DIFFERENCE), card, [], planes=small)
    assert (caught.value.code, caught.value.field) == ("plane-shape", name)


def header(shift: float = 0.0, turn: float = 0.0) -> dict[str, object]:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [150.0, 2.0], [150.5 + shift, 100.5]
    scale, angle = 0.26 / 3600.0, np.deg2rad(turn)
    wcs.wcs.cd = scale * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return dict(wcs.to_header())


def test_a_plane_whose_wcs_lies_elsewhere_is_refused_by_name(card: UNetModel) -> None:
    exposure = to_fits(DIFFERENCE, **header())
    for there in (header(), header(shift=0.3), {}):
        prepare(exposure, card, [], planes=Planes(science=to_fits(SCIENCE, **there)))
    for elsewhere, offset in ((header(shift=0.8), "0.8 px"), (header(turn=0.5), "px from")):
        with pytest.raises(InputError) as caught:
            prepare(exposure, card, [], planes=Planes(template=to_fits(TEMPLATE, **elsewhere)))
        assert (caught.value.code, caught.value.field) == ("plane-wcs", "template")
        assert offset in caught.value.detail
        assert "at most 0.5 px is allowed" in caught.value.detail


def test_planes_may_be_hdus_of_the_exposures_file(told: UNetModel) -> None:
    import io

    from astropy.io import fits

    stream = io.BytesIO()
    images = {"SCI": SCIENCE, "REF": TEMPLATE}
    hdus = [fits.ImageHDU(image, name=name) for name, image in images.items()]
    fits.HDUList([fits.PrimaryHDU(DIFFERENCE), *hdus]).writeto(stream)
    planes = Planes(science_hdu="SCI", template_hdu=2)
    tiled = prepare(stream.getvalue(), told, [], planes=planes)
    np.testing.assert_array_equal(tiled.batch(0, 1), asked(told, "science", "template").batch(0, 1))
