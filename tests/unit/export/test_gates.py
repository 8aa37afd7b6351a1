"""The gates in their order: which are asked of which version, and what stops the next."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit

from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.export.engine import KerasEngine
from astrotriton.export.errors import ServingError
from astrotriton.export.gates import GATES, ask
from astrotriton.export.gates.network import Answers, Batch
from astrotriton.export.gates.quality import Accuracy, AccuracyChange, Calibration, OptionalPlanes
from astrotriton.export.gates.serving import Latency, Memory, Sandbox, cost
from astrotriton.export.gates.version import Quality
from astrotriton.export.sandbox import Cost, Measured
from astrotriton.wire.validation import Gate
from tests.unit.export import samples, stamp_models

GOOD = {"average_precision": 0.9, "completeness": 0.9, "purity": 0.9, "ece": 0.01}
TRIED = SimpleNamespace(
    trial=object(),
    champion=object(),
    precision="fp32",
    card=SimpleNamespace(optional_planes=("science", "template")),
    limits=GateLimits(),
    quality=Quality(GOOD, GOOD, None),
    least_planes=(GOOD, GOOD),
    suspicion=None,
    tried_out=Measured(1e-6, Cost(10.0, 100.0), Cost(10.0, 100.0)),
)


class Told:
    """A gate of which the answer is known; it notes that it was asked."""

    def __init__(self, gate, asked, failing=()):
        self.gate, self.asked, self.failing = gate, asked, failing
        self.name, self.needs, self.applies = gate.name, gate.needs, gate.applies

    def ask(self, version):
        self.asked.append(self.name)
        return Gate.of(self.name, ["no"] if self.name in self.failing else [], "yes")


def asked_of(version, *failing):
    asked = []
    answers = ask(version, [Told(gate, asked, failing) for gate in GATES])
    assert [answer.name for answer in answers] == asked
    assert {answer.name for answer in answers if not answer.passed} == set(failing)
    return asked


def version(**changes):
    return SimpleNamespace(**(vars(TRIED) | changes))


EVERY = [gate.name for gate in GATES]


def test_every_gate_needs_gates_before_it():
    for place, gate in enumerate(GATES):
        assert set(gate.needs) <= set(EVERY[:place])
    assert len(set(EVERY)) == len(EVERY)


def test_a_version_that_is_tried_is_asked_everything():
    assert asked_of(TRIED) == EVERY


def test_what_does_not_apply_is_not_asked_and_holds_nothing_up():
    assert asked_of(version(trial=None)) == ["onnx", "parity", "batch", "answers"]
    assert asked_of(version(champion=None)) == [n for n in EVERY if n != "accuracy_change"]
    assert asked_of(version(precision="int8")) == [n for n in EVERY if n != "detections"]
    alone = version(card=SimpleNamespace(optional_planes=()))
    assert asked_of(alone) == [n for n in EVERY if n != "optional_planes"]


@pytest.mark.parametrize(
    ("failing", "last"),
    [
        (("onnx",), "onnx"),
        (("parity",), "parity"),
        # Both are quick; what comes after them is not.
        (("batch",), "answers"),
        (("answers",), "answers"),
        # These speak of the same fields: all of them are asked, and then no server is troubled.
        (("detections",), "optional_planes"),
        (("accuracy",), "optional_planes"),
        (("detections", "accuracy_change", "calibration"), "optional_planes"),
        (("optional_planes",), "optional_planes"),
        (("sandbox",), "sandbox"),
        (("latency",), "memory"),
    ],
)
def test_the_first_failure_ends_it(failing, last):
    assert asked_of(TRIED, *failing) == EVERY[: EVERY.index(last) + 1]


def test_quality_is_judged_by_the_common_criteria():
    worse = {**GOOD, "average_precision": 0.5, "ece": 0.2}
    found = version(quality=Quality(worse, GOOD, 0.3, 0.2))
    answers = {gate.name: gate.ask(found) for gate in (Accuracy(), AccuracyChange(), Calibration())}
    assert not any(answer.passed for answer in answers.values())
    assert answers["calibration"].figures["ece_before"] == 0.3
    said = "ece is 0.2, at most 0.05 is allowed (0.3000 as it was registered, 0.2000 fitted anew"
    assert answers["calibration"].detail.startswith(said)
    assert all(gate.ask(TRIED).passed for gate in (Accuracy(), AccuracyChange(), Calibration()))


def test_who_sends_the_difference_alone_is_served_as_well():
    said = OptionalPlanes().ask(TRIED)
    assert said.passed
    assert said.detail.startswith("without science and template: average precision 0.900")
    assert said.figures["average_precision_without_optional_planes"] == 0.9
    worse = {**GOOD, "average_precision": 0.87}
    answer = OptionalPlanes().ask(version(least_planes=(worse, GOOD)))
    assert not answer.passed
    told = "without science and template, average_precision is 0.870, the champion's is 0.900"
    assert answer.detail.startswith(told)
    # Where the champion needs them, it cannot be compared with.
    assert OptionalPlanes().ask(version(least_planes=(worse, None))).passed


def test_a_suspected_normalisation_is_told_with_what_it_spoils():
    worse = {**GOOD, "average_precision": 0.5}
    suspicion = "softening is 30, the champion's 3"
    found = version(quality=Quality(worse, GOOD, None), suspicion=suspicion)
    for gate in (Accuracy(), AccuracyChange()):
        assert gate.ask(found).detail.endswith(f"; {suspicion}")
    assert "softening" not in Accuracy().ask(version(suspicion="softening")).detail


def of_network(answer, **changes):
    """A version whose network answers so to the golden tiles of the samples."""
    found = {
        "card": samples.card(),
        "golden_tiles": {"sky": samples.tiles(5)},
        "engine": answer,
        "source": SimpleNamespace(mixing_layer=lambda tiles: "centred"),
    }
    return version(**{**found, **changes})


def spots(tiles):
    return np.clip(tiles / 16.0, 0.0, 1.0)


def test_a_network_that_mixes_its_batch_is_refused_by_name():
    assert Batch().ask(of_network(spots)).passed
    answer = Batch().ask(of_network(lambda tiles: spots(tiles - tiles.mean(axis=0, keepdims=True))))
    assert not answer.passed
    assert "unet_small mixes the tiles of a batch in the layer 'centred'" in answer.detail
    assert "in a batch of 3 a probability differs by" in answer.detail


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda tiles: np.full_like(tiles, 0.25), "answers 0.25 everywhere"),
        (lambda tiles: 9.0 * tiles, r'no probabilities: .* say activation = "sigmoid" in the card'),
        (lambda tiles: expit(tiles), r"calls \d+% of the pixels sources"),
        (lambda tiles: np.full_like(tiles, np.nan), "no probabilities"),
    ],
    ids=["constant", "logits", "everywhere", "nan"],
)
def test_a_hopeless_network_is_refused_by_its_answers(answer, problem):
    said = Answers().ask(of_network(answer))
    assert not said.passed
    assert re.search(problem, said.detail), said.detail
    assert Answers().ask(of_network(spots)).passed


def test_only_a_version_that_is_tried_is_asked_how_much_it_calls_sources():
    assert Answers().ask(of_network(lambda tiles: expit(tiles), trial=None)).passed


def test_any_share_of_stamps_may_be_of_sources():
    def likely(stamps):
        return np.linspace(0.6, 0.9, len(stamps), dtype=np.float32).reshape(-1, 1, 1, 1)

    tried = of_network(likely, card=stamp_models.card(), trial=SimpleNamespace())
    answer = Answers().ask(tried)
    assert answer.passed
    assert "100.0% of the stamps are called sources" in answer.detail
    same = of_network(lambda stamps: likely(stamps) * 0.0, card=stamp_models.card())
    assert "everywhere" in Answers().ask(same).detail


def test_the_layer_that_mixes_a_batch_is_found():
    import keras
    from keras import layers

    image = keras.Input((samples.SIZE, samples.SIZE, 1))
    features = layers.Conv2D(2, 3, padding="same", name="first")(image)
    mean = keras.ops.mean(features, axis=0, keepdims=True)
    model = keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(features - mean))
    engine = KerasEngine(model, ["probability"], samples.card())
    assert "mean" in engine.mixing_layer(samples.tiles())
    assert (
        KerasEngine(samples.unet(), ["probability"], samples.card()).mixing_layer(samples.tiles())
        is None
    )


def test_a_sandbox_that_refuses_says_why():
    class Refused:
        limits = GateLimits()

        @property
        def tried_out(self):
            raise ServingError("it answers nonsense")

    answer = Sandbox().ask(Refused())
    assert not answer.passed
    assert answer.detail == "it answers nonsense"
    assert Sandbox().ask(TRIED).figures == {"sandbox_max_abs": 1e-6}


def test_costs_are_compared_with_the_champions():
    assert Latency().ask(TRIED).figures == {
        "latency_ms": 10.0,
        "champion_latency_ms": 10.0,
        "latency_ratio": 1.0,
    }
    slow = version(tried_out=Measured(0.0, Cost(20.0, 300.0), Cost(10.0, 100.0)))
    assert "2.00 times the champion's 10 ms" in Latency().ask(slow).detail
    assert not Latency().ask(slow).passed
    assert not Memory().ask(slow).passed
    alone = version(tried_out=Measured(0.0, Cost(20.0, 300.0), None))
    assert Latency().ask(alone).passed
    assert "there is no champion" in Memory().ask(alone).detail
    assert not cost("latency", "ms", 2000.0, None, most=1000.0, most_ratio=1.5).passed
