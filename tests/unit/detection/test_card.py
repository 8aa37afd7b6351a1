import json
from datetime import UTC, datetime

import msgspec
import pytest

from astrotriton.detection.card import Domain, ModelCard, StampModel, TensorSpec, UNetModel
from astrotriton.detection.errors import CardError
from astrotriton.detection.image.normalisation import Normalisation
from astrotriton.settings import ModelConfig, _warn_of_no_gpu
from astrotriton.training.weights import CARD_FILE, WEIGHTS


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": ""}, "name is empty"),
        ({"version": 0}, "version is 0"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"nms_radius": 0.0}, "nms_radius"),
        ({"polarities": (1, -1)}, "for at most the 1 channels"),
        ({"polarities": ()}, "polarities are []"),
        ({"activation": "softmax"}, "activation is softmax, which needs classes"),
        ({"classes": ("real",), "positive_class": "real"}, "name each of at least two"),
        ({"classes": ("bogus", "real")}, "positive_class is None, classes are ['bogus', 'real']"),
        ({"positive_class": "real"}, "positive_class is 'real', classes are []"),
        ({"domain": Domain(seeing_fwhm=(6.0, 2.0), snr=(3.0, 9.0))}, "seeing_fwhm is 6.0 to 2.0"),
        ({"overlap": 256}, "overlap of 256 px does not fit"),
        ({"input": TensorSpec(name="image", shape=(8, 1, 256, 256))}, "fixed batch of 8"),
        ({"output": TensorSpec(name="p", shape=(-1, 1, 171, 171))}, "output tiles are (171, 171)"),
    ],
)
def test_a_card_says_what_is_wrong(
    card: UNetModel, change: dict[str, object], problem: str
) -> None:
    with pytest.raises(CardError) as caught:
        msgspec.structs.replace(card, **change)
    assert problem in str(caught.value)


def test_all_problems_are_told_at_once(card: UNetModel) -> None:
    with pytest.raises(CardError, match=r"threshold.*nms_radius"):
        msgspec.structs.replace(card, threshold=2.0, nms_radius=-1.0)


def test_what_is_not_a_card() -> None:
    for content in (b"", b"[]", b'{"name": "x"}'):
        with pytest.raises(CardError, match="not a model card"):
            UNetModel.from_json(content)


@pytest.mark.parametrize(
    ("place", "wrong", "nearest"),
    [
        ((), "treshold", "threshold"),
        (("normalisation",), "sofening", "softening"),
        (("input",), "shap", "shape"),
        (("domain",), "seeing", "seeing_fwhm"),
    ],
)
def test_an_unknown_field_is_an_error_that_names_the_nearest(
    card: UNetModel, place: tuple[str, ...], wrong: str, nearest: str
) -> None:
    card = msgspec.structs.replace(card, domain=Domain(seeing_fwhm=(2.0, 6.0), snr=(3.0, 9.0)))
    said = json.loads(card.to_json())
    inside = said
    for name in place:
        inside = inside[name]
    inside[wrong] = 0.9
    with pytest.raises(CardError) as caught:
        UNetModel.from_json(json.dumps(said))
    named = ".".join((*place, wrong))
    assert f"the field {named!r} is unknown: the nearest that is known is {nearest!r}" in str(
        caught.value
    )


def test_a_card_that_says_nothing_new_keeps_its_digest(card: UNetModel) -> None:
    assert not {"activation", "classes", "positive_class"} & json.loads(card.to_json()).keys()
    said = msgspec.structs.replace(
        card, activation="softmax", classes=("bogus", "real"), positive_class="real"
    )
    assert UNetModel.from_json(said.to_json()) == said


def test_settings_have_the_defaults_that_the_readme_names() -> None:
    config = ModelConfig()
    assert config.model_dump() == {
        "model_name": "unet_astronomical",
        "model_version": "latest",
        "confidence_threshold": 0.5,
        "batch_size": 32,
        "input_size": (512, 512),
        "enable_gpu": True,
    }


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTROTRITON_MODEL_VERSION", "7")
    monkeypatch.setenv("ASTROTRITON_INPUT_SIZE", "[256, 256]")
    monkeypatch.setenv("ASTROTRITON_ENABLE_GPU", "false")
    config = ModelConfig()
    assert (config.model_version, config.input_size) == ("7", (256, 256))
    assert config.device() == "cpu"


@pytest.mark.parametrize(
    ("name", "value"),
    [("MODEL_VERSION", "newest"), ("CONFIDENCE_THRESHOLD", "1.5"), ("BATCH_SIZE", "0")],
)
def test_impossible_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ASTROTRITON_{name}", value)
    with pytest.raises(ValueError, match=name.lower()):
        ModelConfig()


def test_a_missing_gpu_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_no_gpu.cache_clear()
    devices = {ModelConfig().device() for _ in range(3)}
    if devices == {"cpu"}:
        assert caplog.text.count("no NVIDIA GPU") == 1
    else:
        assert devices == {"gpu"}


def stamps(**changes: object) -> StampModel:
    said = {
        "name": "braai",
        "trained_at": datetime(2026, 1, 1, tzinfo=UTC),
        "input": TensorSpec(name="triplet", shape=(-1, 1, 63, 63)),
        "output": TensorSpec(name="probability", shape=(-1, 1, 1, 1)),
    }
    return StampModel(**{**said, **changes})  # type: ignore[arg-type]


def test_the_kind_says_the_family(card: UNetModel) -> None:
    classifier = stamps(scaling="l2", polarities=(1, -1))
    said = json.loads(classifier.to_json())
    assert said["kind"] == "stamps"
    assert ModelCard.from_json(classifier.to_json()) == classifier
    # A U-Net's keeps the bytes that it had before there was another family.
    assert "kind" not in json.loads(card.to_json())
    for kind in ({}, {"kind": "unet"}):
        assert ModelCard.from_json(json.dumps({**json.loads(card.to_json()), **kind})) == card


def test_the_reference_networks_card_keeps_its_bytes() -> None:
    content = (WEIGHTS / CARD_FILE).read_bytes()
    assert ModelCard.from_json(content).to_json() == content


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "stamp"}, "kind is 'stamp': say 'unet' or 'stamps'"),
        ({"kind": ["stamps"]}, "kind is ['stamps']"),
        ({"overlap": 96}, "the field 'overlap' is unknown"),
        ({"scalling": "l2"}, "the nearest that is known is 'scaling'"),
        ({"scaling": "L2"}, "Invalid enum value 'L2'"),
        ({"planes": ["science", "template", "difference"]}, "the input has 1 channels"),
        ({"output": {"name": "p", "shape": (-1, 2, 1, 1)}}, "one probability for each"),
        ({"input": {"name": "p", "shape": (-1, 1, 63, 61)}}, "as many rows as columns"),
        ({"normalisation": {"resize": 2.0}}, "resize is 2.0"),
        ({"polarities": []}, "polarities are []"),
        ({"activation": "softmax"}, "which needs classes"),
    ],
)
def test_a_card_of_stamps_says_what_is_wrong(change: dict[str, object], problem: str) -> None:
    said = json.loads(stamps().to_json()) | change
    with pytest.raises(CardError) as caught:
        ModelCard.from_json(json.dumps(said))
    assert problem in str(caught.value)


def test_a_card_of_another_family_is_not_read_as_this_one() -> None:
    with pytest.raises(CardError, match="kind is 'stamps'"):
        UNetModel.from_json(stamps().to_json())


TRIPLET = TensorSpec(name="triplet", shape=(-1, 3, 256, 256))
WIDE = Normalisation(mesh=128, softening=10.0)


def three_planes(card: UNetModel, **changes: object) -> UNetModel:
    how: dict[str, object] = {
        "input": TRIPLET,
        "planes": ("science", "template", "difference"),
        "plane_normalisations": {"science": WIDE, "template": WIDE},
    }
    return msgspec.structs.replace(card, **how | changes)


def test_a_card_names_the_planes_that_channels_show(card: UNetModel) -> None:
    assert (card.channels, card.companions, card.required_planes) == (("difference",), (), ())
    assert (
        not {"planes", "optional_planes", "plane_normalisations"}
        & json.loads(card.to_json()).keys()
    )
    three = three_planes(card)
    assert three.companions == three.required_planes == ("science", "template")
    assert ModelCard.from_json(three.to_json()) == three
    told = three_planes(
        card,
        input=TensorSpec(name="image", shape=(-1, 5, 256, 256)),
        planes=("difference", "science", "template", "has_science", "has_template"),
        optional_planes=("science", "template"),
    )
    assert (told.companions, told.required_planes) == (("science", "template"), ())
    assert ModelCard.from_json(told.to_json()) == told


def test_channels_that_a_published_card_does_not_name_show_the_difference(card: UNetModel) -> None:
    assert msgspec.structs.replace(card, input=TRIPLET).channels == ("difference",) * 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"planes": ("science", "difference")}, "the input has 3 channels: name what each of them"),
        ({"planes": ("science", "template", "template")}, "one of them has to be the difference"),
        ({"planes": ("science", "has_template", "difference")}, "has_template or optional_planes"),
        (
            {"planes": ("science", "has_science", "difference")},
            "science is required, so that it would always be 1",
        ),
        ({"plane_normalisations": {"science": WIDE}}, "say how each of science and template"),
        (
            {"plane_normalisations": {"science": WIDE, "template": Normalisation(resize=2.0)}},
            "plane_normalisations.template.resize is 2.0",
        ),
        (
            {"plane_normalisations": {"science": WIDE, "template": Normalisation(mesh=4)}},
            "plane_normalisations.template needs a mesh of at least 8 px",
        ),
    ],
)
def test_planes_that_contradict_each_other(
    card: UNetModel, change: dict[str, object], problem: str
) -> None:
    with pytest.raises(CardError) as caught:
        three_planes(card, **change)
    assert problem in str(caught.value)
