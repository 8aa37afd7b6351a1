"""Cards as people write them."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from astrotriton.detection.image.normalisation import OF_COMPANIONS, Normalisation
from astrotriton.export import cards
from astrotriton.export.errors import ExportError
from tests.unit.export import samples

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def completed(given, model):
    return cards.completed(given, model, trained_at=AT, tile_size=(512, 512))


@pytest.fixture(scope="module")
def unet():
    return samples.unet()


def ending_in(activation, channels=1, size=64, planes=1):
    import keras

    image = keras.Input((size, size, planes))
    answer = keras.layers.Conv2D(channels, 3, padding="same", activation=activation)(image)
    return keras.Model(image, answer, name="net")


def test_a_card_is_read_from_toml_and_from_json(tmp_path):
    toml, plain = tmp_path / "card.toml", tmp_path / "card.json"
    toml.write_text(
        'name = "net"\ntrained_at = 2026-11-01T12:00:00Z\noverlap = 16\n[normalisation]\nclip = 5\n'
    )
    plain.write_text(
        '{"name": "net", "trained_at": "2026-11-01T12:00:00Z", "overlap": 16,'
        ' "normalisation": {"clip": 5}}'
    )
    model = ending_in("sigmoid")
    first, second = (completed(cards.read(path), model) for path in (toml, plain))
    assert first == second
    assert first.normalisation == Normalisation(clip=5.0)
    assert first.trained_at == AT


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("card.toml", "name = ", "cannot be read"),
        ("card.json", "[1]", "no table of fields"),
        ("card.toml", "\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_no_card_is_named(tmp_path, name, text, problem):
    (tmp_path / name).write_text(text)
    with pytest.raises(ExportError, match=problem):
        cards.read(tmp_path / name)


def test_what_a_card_leaves_out_is_taken_from_its_model(unet):
    made = completed({}, unet)
    assert made.name == "unet"
    assert made.trained_at == AT
    assert (made.input.name, made.input.shape) == ("image", (-1, 1, 64, 64))
    assert (made.output.name, made.output.shape) == ("probability", (-1, 1, 64, 64))
    # The default of a tile of 512 px, for a tile of 64.
    assert made.overlap == 12
    assert completed({}, ending_in("sigmoid", size=None)).tile_size == (512, 512)
    assert completed({"output": {"name": "p"}}, unet).output.name == "p"
    assert completed({"overlap": 20}, unet).overlap == 20


def test_channels_are_counted_and_a_class_is_one():
    assert completed({}, ending_in("sigmoid", 2)).output.shape[1] == 2
    classes = {"classes": ["bogus", "real"], "positive_class": "real"}
    made = completed(classes, ending_in("softmax", 2))
    assert made.input.shape[1] == 1
    assert made.output.shape[1] == 1


def test_what_may_be_logits_must_be_said():
    with pytest.raises(ExportError, match=r'activation = "sigmoid"'):
        completed({}, ending_in("linear"))
    assert completed({"activation": "sigmoid"}, ending_in("linear")).activation == "sigmoid"
    assert completed({"activation": "none"}, ending_in("linear")).activation == "none"


def test_what_contradicts_itself_or_is_not_known_is_named(unet):
    with pytest.raises(ExportError, match="threshold is 2"):
        completed({"threshold": 2.0}, unet)
    with pytest.raises(ExportError, match="nearest that is known is 'threshold'"):
        completed({"treshold": 0.5}, unet)


def test_what_two_cards_say_differently():
    card = samples.card()
    other = msgspec.structs.replace(
        card, overlap=8, normalisation=Normalisation(clip=5.0), training_metrics={}
    )
    assert cards.differences(card, card) == []
    found = cards.differences(card, other)
    assert "overlap: 16 -> 8" in found
    assert any(line.startswith("normalisation.clip: ") for line in found)
    assert "training_metrics.average_precision: 0.9 -> -" in found


def test_what_is_shown_of_a_card_is_a_card_again():
    shown = json.loads(samples.card().to_json())
    assert cards.checked(shown) == samples.card()


def test_channels_are_named_and_their_normalisation_is_filled_in():
    model = ending_in("sigmoid", planes=3)
    with pytest.raises(ExportError, match="net takes 3 channels: let the card say what each"):
        completed({}, model)
    three = {"planes": ["difference", "science", "template"]}
    usual = OF_COMPANIONS
    made = completed({**three, "plane_normalisations": {"template": {"mesh": 32}}}, model)
    assert made.plane_normalisations == {
        "science": usual,
        "template": msgspec.structs.replace(usual, mesh=32),
    }
    fine = completed({**three, "normalisation": {"resize": 2.0}}, model)
    assert fine.plane_normalisations["science"].resize == 2.0
    same = completed({"planes": ["difference"] * 3}, model)
    assert (same.companions, same.plane_normalisations) == ((), {})
    with pytest.raises(ExportError, match="plane_normalisations has \\['science'\\]"):
        completed({"planes": ["difference"] * 3, "plane_normalisations": {"science": {}}}, model)
