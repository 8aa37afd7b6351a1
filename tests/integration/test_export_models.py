"""The table of networks: each converts and answers as Keras does, or is refused with a reason."""

import functools
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.detection.quality.golden import GOLDEN_FILE, Golden
from astrotriton.export import convert, digests, keras_files, lowering, onnx_graph
from astrotriton.export.engine import KerasEngine, OnnxEngine
from astrotriton.export.errors import ConversionError, LoadError
from astrotriton.export.repository import MODEL_FILE, Repository
from astrotriton.export.serving import Replica
from astrotriton.one_machine.trial_triton import open_sandbox
from astrotriton.settings import ModelConfig
from tests.integration.package_parts import installed_packages
from tests.unit.export import keras2_models, zoo

TOLERANCE = 1e-4
# What only stays turned in part: of each kind of block that works across channels, one.
SERVED = (
    "activation_gelu",
    "channels_first",
    "conv_lstm",
    "convnext_block",
    "group_norm",
    "logits_of_two",
    "mixed_float16",
    "normalization_adapted",
    "squeeze_excite_dense",
    "transformer_bottleneck",
)


@functools.cache
def converted(name):
    """A network of the table: itself, its card, its file, tiles, and what Keras answers."""
    import keras

    keras.utils.set_random_seed(3)
    encoder = name in zoo.ENCODERS
    model = zoo.with_encoder(name) if encoder else zoo.MODELS[name]()
    card = zoo.card_of(name, model, version=1)
    content = convert.convert(model, card, "")
    served = lowering.servable(model, card)
    tiles = zoo.tiles_of(card)
    expected = KerasEngine(served.model, served.outputs, card)(tiles)
    return model, card, content, tiles, expected


def assert_answers_as_keras(name):
    model, card, content, tiles, expected = converted(name)
    onnx_graph.check(onnx_graph.load(content), card)
    assert onnx_graph.metadata(content)["exporter"] in ("tf2onnx", "keras")
    answer = OnnxEngine(content, card)(tiles)
    assert answer.shape == (3, *card.output.shape[1:])
    assert np.abs(answer - expected).max() < TOLERANCE
    one = OnnxEngine(content, card)(tiles[:1])
    assert np.abs(one - answer[:1]).max() < TOLERANCE
    if name in zoo.CARDS or name.startswith("channels_first"):
        return  # Keras answers something else, or nothing on a CPU
    # Half precision is what Keras rounds to, and not what was trained.
    own = np.asarray(model(tiles.transpose(0, 2, 3, 1)), np.float32).transpose(0, 3, 1, 2)
    assert np.abs(answer - own).max() < zoo.COARSE.get(name, TOLERANCE)


@pytest.mark.export
@pytest.mark.parametrize("name", list(zoo.MODELS))
def test_network_converts_and_answers_as_keras(name):
    assert_answers_as_keras(name)


@pytest.mark.long
@pytest.mark.parametrize("name", list(zoo.ENCODERS))
def test_encoder_of_keras_converts_and_answers_as_keras(name):
    assert_answers_as_keras(name)


@pytest.mark.export
def test_what_was_changed_is_noted():
    noted = {name: onnx_graph.metadata(converted(name)[2]).get("changes") for name in SERVED}
    assert noted["activation_gelu"] is None
    assert noted["mixed_float16"] == "computing in float32 in place of float16"
    assert "channels last in place of first" in noted["channels_first"]
    assert "softmax, class 'real'" in noted["logits_of_two"]


@pytest.mark.export
def test_ten_networks_answer_as_keras_in_batches_through_triton(tmp_path):
    repository = Repository(tmp_path)
    for name in SERVED:
        _, card, content, tiles, expected = converted(name)
        files = {MODEL_FILE: content, GOLDEN_FILE: Golden(tiles[:1], expected[:1]).to_npz()}
        known = {file: digests.of_bytes(one) for file, one in files.items()}
        card = msgspec.structs.replace(card, digests=known)
        repository.publish(card, files)
        settings = ModelConfig(model_name=name, input_size=card.tile_size, batch_size=8)
        repository.list_versions(card, [1], settings, "cpu")
    with open_sandbox(tmp_path) as sandbox, Replica(sandbox.address) as triton:
        for name in SERVED:
            _, card, _, tiles, expected = converted(name)
            triton.load(name)
            for count in (1, 3, 8):
                chosen = np.arange(count) % len(tiles)
                answer = triton.infer(card, tiles[chosen])
                assert np.abs(answer - expected[chosen]).max() < TOLERANCE, (name, count)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with the packages that networks come from."""
    return installed_packages(tmp_path_factory.mktemp("packages"), *keras2_models.PACKAGES)


@pytest.fixture(scope="module")
def more_packages(tmp_path_factory):
    wanted = keras2_models.PACKAGES + keras2_models.LONG_PACKAGES
    return installed_packages(tmp_path_factory.mktemp("more_packages"), *wanted)


def built(folder, packages, names):
    script = Path(keras2_models.__file__)
    environment = os.environ | keras2_models.ENVIRONMENT | {"PYTHONPATH": str(packages)}
    subprocess.run(
        [sys.executable, script, folder, *names], check=True, timeout=1200, env=environment
    )
    return folder


@pytest.fixture(scope="module")
def foreign(packages, tmp_path_factory):
    names = [name for name in keras2_models.MODELS if name not in keras2_models.LONG]
    return built(tmp_path_factory.mktemp("foreign"), packages, names)


@pytest.fixture(scope="module")
def foreign_long(more_packages, tmp_path_factory):
    return built(tmp_path_factory.mktemp("foreign_long"), more_packages, keras2_models.LONG)


def assert_file_answers(folder, name):
    file = folder / f"{name}.h5"
    model = keras_files.load(file if file.exists() else folder / name)
    with np.load(folder / f"{name}.npz") as known:
        image, names = known["image"], [str(one) for one in known["names"]]
        expected = np.moveaxis(known[names[0]], -1, 1)
    height, width, channels = image.shape[1:]
    card = UNetModel(
        name=name,
        trained_at=datetime(2026, 11, 1, tzinfo=UTC),
        input=TensorSpec(name="image", shape=(-1, channels, height, width)),
        output=TensorSpec(
            name=names[0] if len(names) > 1 else "probability", shape=(-1, *expected.shape[1:])
        ),
        overlap=8,
    )
    content = convert.convert(model, card, "")
    answer = OnnxEngine(content, card)(np.ascontiguousarray(np.moveaxis(image, -1, 1)))
    assert np.abs(answer - expected).max() < TOLERANCE * max(1.0, np.abs(expected).max())


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [name for name in keras2_models.MODELS if name not in keras2_models.LONG]
)
def test_file_of_another_package_converts_and_answers_as_keras_2(foreign, name):
    assert_file_answers(foreign, name)


@pytest.mark.long
@pytest.mark.parametrize("name", keras2_models.LONG)
def test_large_file_of_another_package_converts_and_answers_as_keras_2(foreign_long, name):
    assert_file_answers(foreign_long, name)


@pytest.mark.export
def test_file_that_only_keras_2_reads(tmp_path):
    """Keras 3 has no form for an operation of TensorFlow that Keras 2 wrote down as a layer."""
    import keras
    import tensorflow as tf
    import tf_keras

    image = tf_keras.Input((32, 32, 1))
    features = tf_keras.layers.Conv2D(4, 3, padding="same")(image)
    features = tf.nn.relu(features) - tf.reduce_mean(features, axis=(1, 2), keepdims=True)
    model = tf_keras.Model(image, tf_keras.layers.Conv2D(1, 1, activation="sigmoid")(features))
    model.save(tmp_path / "model.h5")
    with pytest.raises(Exception, match="TFOpLambda"):
        keras.models.load_model(tmp_path / "model.h5", compile=False)
    tiles = np.random.default_rng(1).normal(size=(3, 32, 32, 1)).astype(np.float32)
    np.savez(
        tmp_path / "model.npz", image=tiles, names=["probability"], probability=model(tiles).numpy()
    )
    assert_file_answers(tmp_path, "model")
    one, two = (keras_files.load(tmp_path / "model.h5") for _ in range(2))
    card = zoo.card_of("twice", one)
    assert digests.of_source(one, card) == digests.of_source(two, card)


def _spectrum():
    import keras
    import tensorflow as tf

    class Spectrum(keras.layers.Layer):
        def call(self, given):
            image = given[..., 0]
            values, _ = tf.linalg.eigh(image + tf.transpose(image, (0, 2, 1)))
            return given + tf.reduce_mean(values)

    return zoo._around(Spectrum(name="spectrum"))


def _total():
    import keras

    model = zoo.MODELS["sequential"]()
    return keras.Model(model.inputs, keras.ops.sum(model.outputs[0]))


@pytest.mark.export
@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (_spectrum, r"in the layer 'spectrum' \(Spectrum\), the operation \w+ has no ONNX form"),
        (_total, r"output 'probability' is \(\), without a batch of any size: leave it out"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(build, problem):
    card, model = zoo.card_of("refused", zoo.MODELS["sequential"]()), build()
    with pytest.raises(ConversionError, match=problem) as refused:
        convert.convert(model, card, "")
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)


@pytest.mark.export
def test_file_whose_code_is_gone_is_refused_with_what_to_do(tmp_path):
    zoo.MODELS["lambda_layer"]().save(tmp_path / "model.keras")
    remedy = r"needs code that is not in the file.*registry\.register\(model, card\)"
    with pytest.raises(LoadError, match=remedy) as refused:
        keras_files.load(tmp_path / "model.keras")
    assert "\n" not in str(refused.value)
    (tmp_path / "model.keras").write_bytes(b"nothing")
    with pytest.raises(LoadError, match=r"model\.keras cannot be read: log the file again"):
        keras_files.load(tmp_path / "model.keras")
