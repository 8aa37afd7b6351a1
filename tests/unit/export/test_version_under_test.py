"""What the gates share: which confidence is kept, and which normalisation is suspected."""

from dataclasses import replace
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from astrotriton.detection.card import TensorSpec
from astrotriton.detection.image.normalisation import Normalisation
from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.detection.quality.golden import GOLDEN_FILE, Golden
from astrotriton.detection.quality.labelled import VALIDATION_FILE, LabelledField, ValidationSet
from astrotriton.export import accuracy
from astrotriton.export.errors import ExportError
from astrotriton.export.gates.suspicion import alternatives
from astrotriton.export.gates.version import Trial, VersionUnderTest
from astrotriton.export.sandbox import Version
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.recipe import mixed_recipe
from astrotriton.training.calibrate import transients_of
from tests.unit.export import samples, stamp_models

GOOD = {"average_precision": 0.9, "completeness": 0.9, "purity": 0.9, "ece": 0.01}
# A card's threshold stands for its confidence.
REGISTERED, REFITTED, CHAMPIONS = 0.5, 0.6, 0.7


def version_of(card, champion=None, trial=None):
    """A version that is not published, and none of whose parts is needed."""
    return VersionUnderTest(
        card=card,
        files={},
        published=False,
        source=None,
        tiles=lambda _: {},
        precision="fp32",
        champion=champion,
        trial=trial,
        settings=None,
        profile="cpu",
        on_progress=lambda _: None,
    )


def under_test(monkeypatch, figures, *, champion=None, softening=3.0, calibrated=True):
    """A version whose figures with each confidence are known."""
    card = msgspec.structs.replace(samples.card(), normalisation=Normalisation(softening=softening))

    def calibrate(card, _):
        return msgspec.structs.replace(card, threshold=REFITTED)

    trial = Trial(
        validation=lambda: None,
        open_sandbox=None,
        calibrate=calibrate if calibrated else None,
        limits=GateLimits(),
    )
    version = version_of(card, champion, trial)
    fields = SimpleNamespace(fields=[None] * 32, description="fields")
    vars(version).update(fields=fields, engine=lambda tiles: tiles / 16.0, _fields_file=b"")
    monkeypatch.setattr(version, "_score", lambda _, card: ([], figures[card.threshold]))
    monkeypatch.setattr(version, "_pack", lambda *_: None)
    return version


@pytest.mark.parametrize(("refitted", "kept"), [(0.02, REFITTED), (0.3, REGISTERED)])
def test_the_better_confidence_is_kept_and_both_are_told(monkeypatch, refitted, kept):
    figures = {REGISTERED: GOOD | {"ece": 0.2}, REFITTED: GOOD | {"ece": refitted}}
    version = under_test(monkeypatch, figures)
    quality = version.quality
    assert version.card.threshold == kept
    assert quality.figures == figures[kept]
    assert (quality.ece_before, quality.ece_refitted) == (0.2, refitted)


def test_a_good_confidence_is_not_fitted_anew(monkeypatch):
    quality = under_test(monkeypatch, {REGISTERED: GOOD}).quality
    assert (quality.ece_before, quality.ece_refitted) == (None, None)


def test_a_fit_that_spoils_the_detections_is_not_kept(monkeypatch):
    spoiled = GOOD | {"ece": 0.06, "completeness": 0.1}
    version = under_test(monkeypatch, {REGISTERED: GOOD | {"ece": 0.2}, REFITTED: spoiled})
    assert version.quality.figures["completeness"] == 0.9
    assert version.card.threshold == REGISTERED


def test_a_copy_of_the_champion_has_its_confidence(monkeypatch):
    tile = samples.tiles(1)
    card = msgspec.structs.replace(samples.card(), version=1)
    golden = Golden(tile, tile / 16.0).to_npz()
    champion = Version(card, {GOLDEN_FILE: golden, "model.onnx": b""})
    figures = {REGISTERED: GOOD | {"ece": 0.2}, CHAMPIONS: GOOD}
    version = under_test(monkeypatch, figures, champion=champion)
    monkeypatch.setattr("astrotriton.export.gates.version.OnnxEngine", lambda *_: None)
    monkeypatch.setattr(accuracy, "evaluate", lambda *_: GOOD)
    same = version._with_champions_confidence()
    assert same == version.card

    with_theirs = msgspec.structs.replace(same, threshold=CHAMPIONS)
    monkeypatch.setattr(version, "_with_champions_confidence", lambda: with_theirs)
    quality = version.quality
    assert (quality.figures, version.card.threshold) == (GOOD, CHAMPIONS)
    assert (quality.ece_before, quality.ece_refitted) == (0.2, None)

    other = Version(card, {GOLDEN_FILE: Golden(tile, np.zeros_like(tile)).to_npz()})
    assert under_test(monkeypatch, {}, champion=other)._with_champions_confidence() is None


def test_a_wrong_normalisation_is_suspected_by_name(monkeypatch):
    def evaluate(fields, card, _):
        assert len(fields) == 8
        return {"average_precision": 0.9 if card.normalisation.softening == 3.0 else 0.4}

    monkeypatch.setattr(accuracy, "evaluate", evaluate)
    wrong = under_test(monkeypatch, {}, softening=30.0)
    assert wrong.suspicion == (
        "a wrong normalisation is suspected: softening is 30, the default 3, and with that the"
        " average precision on 8 fields is 0.900 in place of 0.400; correct the card and register"
        " the model again"
    )
    assert under_test(monkeypatch, {}).suspicion is None


def test_a_classifier_travels_with_its_fields_and_without_a_baseline():
    """What it would be compared with are the candidates that somebody sent."""
    card = stamp_models.card()
    fields = ValidationSet([samples.field(seed) for seed in (1, 2)], "two fields")
    version = version_of(card)

    def brightness(stamps):
        middle = stamps[:, :, 30:33, 30:33].mean(axis=(1, 2, 3), keepdims=True)
        return np.clip(middle * 4.0, 0.0, 1.0)

    vars(version).update(engine=brightness)
    version.pack(fields)
    assert set(version.files) == {VALIDATION_FILE}
    scored, figures = version._score(fields, card)
    # Every true source is a candidate, so none is missing.
    assert [len(one.detections) >= 5 for one in scored] == [True, True]
    assert figures["validation_transients"] == 10
    assert figures["average_precision"] > 0.8


def test_a_wrong_scaling_of_stamps_is_suspected_by_name():
    field = simulate(77, mixed_recipe(0))
    found = LabelledField(field.difference, transients_of(field))

    def brightness(stamps):
        """Knows what `asinh` makes of sources; of what is as faint as no source, nothing."""
        middle = np.abs(stamps[:, :, 30:33, 30:33].mean(axis=(1, 2, 3), keepdims=True))
        return np.where(middle < 0.15, 0.9 - middle, np.clip(middle - 0.2, 0.0, 1.0))

    wrong = version_of(stamp_models.card(scaling="l2"))
    vars(wrong).update(engine=brightness, fields=ValidationSet([found], "a field"))
    assert wrong.suspicion.startswith(
        "a wrong scaling is suspected: scaling is l2, another asinh, and with that the average"
    )


def test_what_is_tried_in_the_place_of_a_card():
    def tried(card, champion=None):
        return [other.said for other in alternatives(card, champion)]

    smooth = msgspec.structs.replace(samples.card(), normalisation=Normalisation(mesh=32))
    assert tried(samples.card(), samples.card()) == []
    assert tried(smooth) == ["mesh is 32, the default 64"]
    assert tried(samples.card(), smooth) == ["mesh is 64, the champion's 32"]
    stamps = stamp_models.card(scaling="l2")
    assert tried(stamps) == ["scaling is l2, another asinh", "scaling is l2, another none"]
    raw = stamp_models.card(scaling="none")
    assert tried(stamps, raw) == [
        "scaling is l2, the champion's none",
        "scaling is l2, another asinh",
    ]
    # The other scaling needs to be told how the template is normalised.
    pair = msgspec.structs.replace(
        stamps,
        planes=("difference", "template"),
        input=TensorSpec(name="pair", shape=(-1, 2, 63, 63)),
    )
    assert tried(pair) == ["scaling is l2, another none"]


def with_planes(**changes):
    """A card of three channels; science and template may be left out."""
    planes = ("difference", "science", "template")
    said = {
        "planes": planes,
        "optional_planes": ("science", "template"),
        "plane_normalisations": {name: Normalisation() for name in planes[1:]},
        "input": TensorSpec(name="image", shape=(-1, 3, 64, 64)),
        **changes,
    }
    return msgspec.structs.replace(samples.card(), **said)


def fields_with_planes():
    return ValidationSet(
        [
            replace(one, companions=dict.fromkeys(("science", "template"), one.image + 100.0))
            for one in map(samples.field, (1, 2))
        ],
        "two fields",
    )


def test_the_fields_bring_what_the_network_and_the_champion_look_at():
    trial = Trial(
        validation=fields_with_planes, open_sandbox=None, calibrate=None, limits=GateLimits()
    )
    unlike = {"science", "template"}
    for card, champion, expected in (
        (samples.card(), None, set()),
        (with_planes(), None, unlike),
        (samples.card(), Version(with_planes(), {}), unlike),
    ):
        fields = version_of(card, champion, trial).fields
        assert [set(one.companions) for one in fields.fields] == [expected] * 2


def test_what_is_measured_without_planes_has_none_of_the_optional_ones():
    seen = []

    def answer(tiles):
        seen.append(tiles[:, 1:].any())
        return np.clip(tiles[:, :1] / 3.0, 0.0, 1.0)

    version = version_of(with_planes())
    vars(version).update(engine=answer, fields=fields_with_planes())
    figures, champion = version.least_planes
    assert figures["validation_transients"] == 10
    assert champion is None
    assert not any(seen)
    version._score(version.fields, version.card)
    assert seen[-1]


def test_fields_without_what_a_network_needs_are_refused():
    needing = with_planes(optional_planes=("template",))
    version = version_of(needing)
    vars(version).update(engine=lambda tiles: tiles[:, :1], fields=fields_with_planes())
    version._score(version.fields, needing)
    with pytest.raises(ExportError, match="needs science beside the difference, which"):
        version._score(version.fields.showing(["template"]), needing)
