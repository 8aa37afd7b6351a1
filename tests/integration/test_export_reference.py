"""The limits of the gates as they come: the reference network passes, spoiled ones are refused.

Parity, accuracy, calibration, latency and memory are measured as `astrotriton promote` does, on
fewer fields.
"""

import mlflow
import msgspec
import numpy as np
import onnx
import pytest

from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.export import convert, pipeline, registry
from astrotriton.export.errors import GateError
from astrotriton.export.gates.version import Trial
from astrotriton.export.manifest import Manifest
from astrotriton.export.repository import Repository
from astrotriton.one_machine.trial_triton import open_sandbox
from astrotriton.settings import ModelConfig
from astrotriton.training.calibrate import Sizes, calibrated
from astrotriton.training.exposures import golden_tiles, validation_set
from astrotriton.training.weights import load_card, load_network

pytestmark = pytest.mark.export

SETTINGS = ModelConfig(batch_size=4, enable_gpu=False)
LIMITS = GateLimits()


@pytest.fixture(scope="module")
def fields():
    return validation_set(16)


@pytest.fixture(scope="module")
def site(tmp_path_factory, fields):
    """Verifies a model beside the champion, which is the reference network as it was committed."""
    folder = tmp_path_factory.mktemp("reference")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    repository = Repository(folder / "model_repository")

    def verify(model, card, converter=convert.convert, calibrate=None):
        version = registry.register(model, card)
        return pipeline.verify(
            registry.resolve(f"{card.name}/{version}"),
            repository,
            SETTINGS,
            golden_tiles,
            trial=Trial(
                validation=lambda: fields,
                open_sandbox=open_sandbox,
                calibrate=calibrate,
                limits=LIMITS,
            ),
            profile="cpu",
            converter=converter,
        )

    champion = verify(load_network(), load_card())
    pipeline.publish(champion, repository)
    registry.move_aliases(champion.card.name, {registry.CHAMPION: 1})
    yield verify, champion
    mlflow.set_tracking_uri(before)


def test_reference_network_passes_with_margin(site):
    figures = site[1].manifest.figures
    for name in ("average_precision", "completeness", "purity"):
        assert figures[name] >= getattr(LIMITS, f"min_{name}") + 0.04, name
    assert figures["ece"] < LIMITS.max_ece / 2
    assert max(v for k, v in figures.items() if k.startswith("parity") and "abs" in k) < 5e-5


def small_calibration(card, predict):
    sizes = Sizes(regression=12, calibration=8, exposures=8)
    return calibrated(card, predict, seed=1, sizes=sizes, on_progress=lambda _: None)


def test_confidence_that_is_wrong_is_fitted_anew(site):
    verify, champion = site
    card = load_card()
    overconfident = msgspec.structs.replace(
        card.confidence, intercept=card.confidence.intercept + 4.0
    )
    card = msgspec.structs.replace(card, confidence=overconfident)

    # A copy of the champion would take its confidence.
    network = load_network()
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([kernel, bias + 0.05])
    candidate = verify(network, card, calibrate=small_calibration)

    assert candidate.manifest.blessed
    figures = candidate.manifest.figures
    assert figures["ece"] == figures["ece_refitted"] < LIMITS.max_ece < figures["ece_before"]
    assert figures["champion_ece"] == champion.manifest.figures["ece"]
    assert candidate.card.confidence.fitted_on.startswith("28 simulated")
    assert candidate.card.confidence_tta.fitted_on.startswith("28 simulated")
    # And it is the fitted one that is recorded.
    logged = mlflow.artifacts.load_text(f"runs:/{candidate.registered.run_id}/export/manifest.json")
    assert Manifest.from_json(logged.encode()) == candidate.manifest
    assert registry.load_card(candidate.registered).confidence == overconfident


def refused(site, model, converter=convert.convert):
    """The names of the gates that refuse a model."""
    with pytest.raises(GateError) as error:
        site[0](model, load_card(), converter)
    return {gate.name for gate in error.value.manifest.failed}


@pytest.fixture
def as_converted(site):
    """A converter that answers the reference network's file with weights changed."""

    def changing(change):
        def converter(*_):
            graph = onnx.load_model_from_string(site[1].files["model.onnx"])
            convolutions = [node.input[1] for node in graph.graph.node if node.op_type == "Conv"]
            weights = {one.name: one for one in graph.graph.initializer}
            # In the middle: what follows must not hide it.
            name = convolutions[len(convolutions) // 2]
            changed = change(onnx.numpy_helper.to_array(weights[name]).copy())
            weights[name].CopyFrom(onnx.numpy_helper.from_array(changed, name))
            return graph.SerializeToString()

        return converter

    return changing


def test_perturbed_layer_is_refused_by_parity(site, as_converted):
    converter = as_converted(lambda weights: weights + np.float32(0.01))
    assert refused(site, noisy(1e-6, seed=1), converter) == {"parity"}


def test_swapped_channels_are_refused_by_parity(site, as_converted):
    converter = as_converted(lambda weights: weights[:, ::-1].copy())
    assert refused(site, noisy(1e-6, seed=2), converter) == {"parity"}


def test_weights_that_are_no_numbers_are_refused_by_parity(site):
    model = load_network()
    weights = model.get_weights()
    weights[0][:] = np.nan
    model.set_weights(weights)
    assert refused(site, model) == {"parity"}


def test_badly_trained_network_is_refused_by_accuracy(site):
    assert refused(site, noisy(0.2)) >= {"accuracy", "accuracy_change"}


def test_slow_network_is_refused_by_latency(site):
    """It answers the same: what is slow is a branch that comes to nothing."""
    import keras
    from keras import layers

    fast = load_network()
    image = keras.Input(fast.input_shape[1:], name="image")
    tensor = image
    for _ in range(3):
        tensor = layers.Conv2D(48, 3, padding="same", activation="relu")(tensor)
    nothing = layers.Conv2D(1, 1, kernel_initializer="zeros")(tensor)
    assert refused(site, keras.Model(image, layers.Add()([fast(image), nothing]))) >= {"latency"}


def noisy(by, seed=3):
    """The reference network, its kernels' weights off by a share of their scatter."""
    model = load_network()
    random = np.random.default_rng(seed)
    model.set_weights(
        [
            one + np.float32(by) * one.std() * random.normal(size=one.shape).astype(np.float32)
            if one.ndim == 4
            else one
            for one in model.get_weights()
        ]
    )
    return model
