import collections
import shutil
import subprocess
import sys

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from astrotriton.detection.card import TensorSpec
from astrotriton.export import (
    convert,
    digests,
    exporters,
    keras_files,
    lowering,
    onnx_graph,
    parity,
)
from astrotriton.export.engine import KerasEngine, OnnxEngine
from astrotriton.export.errors import ConversionError, ParityError
from astrotriton.export.precision import reduced
from tests.unit.export import samples, stamp_models


def test_graph_is_clean_and_named(converted):
    graph = onnx.load_model_from_string(converted)
    operators = collections.Counter(node.op_type for node in graph.graph.node)
    assert operators == {
        "Conv": 11,
        "Relu": 10,
        "MaxPool": 2,
        "Resize": 2,
        "Concat": 2,
        "Sigmoid": 1,
    }
    assert graph.opset_import[0].version == convert.OPSET
    for value, name in ((graph.graph.input[0], "image"), (graph.graph.output[0], "probability")):
        dimensions = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        assert (value.name, dimensions) == (name, ["N", 1, samples.SIZE, samples.SIZE])


def test_metadata_says_where_it_comes_from(converted):
    assert onnx_graph.metadata(converted) == {
        "model_name": "unet_small",
        "model_version": "None",
        "source_digest": "ab12",
        "keras_version": pytest.importorskip("keras").__version__,
        "exporter": "tf2onnx",
    }
    with pytest.raises(ConversionError, match="not an ONNX model"):
        onnx_graph.metadata(b"\xff\xff not a model")


@pytest.mark.parametrize("count", [1, 3])
def test_batch_is_dynamic(model, converted, count):
    tiles = samples.tiles(count)
    session = onnxruntime.InferenceSession(converted)
    answer = session.run(["probability"], {"image": tiles})[0]
    expected = model(tiles.transpose(0, 2, 3, 1), training=False).numpy().transpose(0, 3, 1, 2)
    assert answer.dtype == np.float32
    assert np.abs(answer - expected).max() < 1e-5
    assert np.ptp(expected) > 0.5


def test_model_of_free_size_gets_the_tiles_of_its_card():
    content = convert.convert(samples.unet(size=None), samples.card(), "")
    assert {node.op_type for node in onnx.load_model_from_string(content).graph.node} == {
        "Conv",
        "Relu",
        "MaxPool",
        "Resize",
        "Concat",
        "Sigmoid",
    }


def test_nested_models_and_other_up_samplings_are_converted():
    import keras
    from keras import layers

    inner = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.UpSampling2D((2, 2)),
            layers.Conv2DTranspose(2, 2, strides=2, padding="same"),
            layers.AveragePooling2D(2),
            layers.Conv2D(2, 3, padding="same"),
        ]
    )
    inputs = keras.Input((64, 64, 1))
    tensor = inner(layers.Conv2D(3, 3, strides=2, padding="same")(inputs))
    tensor = layers.UpSampling2D((2, 2), interpolation="bilinear")(layers.MaxPooling2D()(tensor))
    model = keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(tensor))

    content = convert.convert(model, samples.card(), "")

    tiles = samples.tiles()
    answer = onnxruntime.InferenceSession(content).run(None, {"image": tiles})[0]
    expected = model(tiles.transpose(0, 2, 3, 1), training=False).numpy().transpose(0, 3, 1, 2)
    assert np.abs(answer - expected).max() < 1e-5


def test_original_model_is_left_as_it_was(model):
    before = [weight.copy() for weight in model.get_weights()]
    kinds = [type(layer) for layer in model.layers]
    convert.convert(model, samples.card(), "")
    assert [type(layer) for layer in model.layers] == kinds
    assert all(map(np.array_equal, before, model.get_weights()))


def test_card_of_another_shape_is_refused(model):
    spec = TensorSpec(name="image", shape=(-1, 3, 64, 64))
    card = msgspec.structs.replace(samples.card(), input=spec)
    with pytest.raises(ConversionError, match=r"takes 3 channels, and its card says planes = "):
        convert.convert(model, card, "")

    planes = msgspec.structs.replace(card, planes=("difference",) * 3)
    with pytest.raises(ConversionError, match=r"input is \(None, 64, 64, 1\), the card's is"):
        convert.convert(model, planes, "")


def test_tiles_that_the_pooling_does_not_divide_are_refused():
    shape = (-1, 1, 62, 62)
    card = msgspec.structs.replace(
        samples.card(),
        input=TensorSpec(name="image", shape=shape),
        output=TensorSpec(name="probability", shape=shape),
    )
    with pytest.raises(ConversionError, match="unet_small"):
        convert.convert(samples.unet(size=None), card, "")


def test_graph_other_than_promised_is_refused(converted):
    graph = onnx.load_model_from_string(converted)
    other = msgspec.structs.replace(
        samples.card(), output=TensorSpec(name="mask", shape=(-1, 1, 64, 64))
    )
    with pytest.raises(ConversionError, match=r"output is probability FLOAT\[N,1,64,64\]"):
        onnx_graph.check(graph, other)

    graph.graph.node[0].input[0] = "turned"
    turn = onnx.helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 1, 3, 2])
    graph.graph.node.insert(0, turn)
    onnx_graph.check(graph, samples.card())
    [warning] = onnx_graph.warnings(graph.SerializeToString())
    assert "1 Transpose left" in warning

    del graph.graph.node[3:]
    with pytest.raises(ConversionError, match="not valid"):
        onnx_graph.check(graph, samples.card())


@pytest.mark.export
def test_the_better_of_both_exporters_is_taken(model, monkeypatch):
    asked = []

    def spoiled(how, name):
        made = exporters.EXPORTERS[name]

        def export(source, card):
            asked.append(name)
            graph = made(source, card)
            if how == "refused":
                raise ConversionError("no")
            if how == "wrong":
                graph = onnx_graph.load(samples.perturbed(graph.SerializeToString(), 1.0))
            return graph

        return export

    for how, best in ((None, "tf2onnx"), ("refused", "keras"), ("wrong", "keras")):
        asked.clear()
        with monkeypatch.context() as patch:
            patch.setitem(exporters.EXPORTERS, "tf2onnx", spoiled(how, "tf2onnx"))
            patch.setitem(exporters.EXPORTERS, "keras", spoiled(None, "keras"))
            content = convert.convert(model, samples.card(), "")
        assert onnx_graph.metadata(content)["exporter"] == best
        assert asked == (["tf2onnx"] if how is None else ["tf2onnx", "keras"])
        assert_same(model, content, samples.card())


def test_importing_export_does_not_import_tensorflow():
    script = (
        "import sys, export.pipeline; "
        "sys.exit(', '.join({'tensorflow', 'keras', 'tf2onnx'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def with_card(**shapes):
    specs = {role: TensorSpec(name=name, shape=shape) for role, (name, shape) in shapes.items()}
    card = msgspec.structs.replace(samples.card(), overlap=8, **specs)
    return msgspec.structs.replace(card, planes=card.channels)


def assert_same(model, content, card, channels=1, size=samples.SIZE):
    tiles = np.random.default_rng(1).normal(size=(3, channels, size, size)).astype(np.float32)
    source = KerasEngine(model, lowering.output_names(model, card), card)
    parity.compare(source, OnnxEngine(content, card), card, {"noise": tiles}, tolerance=1e-5)


def valid_unet(channels):
    """As Ronneberger's: no padding, cropped skips, transposed convolutions."""
    import keras
    from keras import layers

    image = keras.Input((64, 64, channels))
    first = layers.Conv2D(4, 3, activation="relu")(image)
    low = layers.Conv2D(8, 3, activation="relu")(layers.MaxPooling2D()(first))
    up = layers.Conv2DTranspose(4, 2, strides=2)(low)
    both = layers.Concatenate()([up, layers.Cropping2D(2)(first)])
    return keras.Model(image, layers.Conv2D(1, 3, activation="sigmoid")(both))


@pytest.mark.parametrize("channels", [1, 3])
def test_valid_padding_cropping_and_transposed_convolutions(channels):
    model = valid_unet(channels)
    size = model.output_shape[1]
    assert size < 64
    card = with_card(
        input=("image", (-1, channels, 64, 64)), output=("probability", (-1, 1, size, size))
    )
    content = convert.convert(model, card, "")
    assert_same(model, content, card, channels)


def several_outputs():
    import keras
    from keras import layers

    image = keras.Input((64, 64, 1))
    features = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    flux = layers.Conv2D(2, 1, name="flux")(features)
    real = layers.Conv2D(1, 1, activation="sigmoid", name="probability")(features)
    quality = layers.Dense(3, name="quality")(layers.GlobalAveragePooling2D()(features))
    return keras.Model(image, [flux, real, quality])


def test_further_outputs_are_kept_and_each_is_compared():
    model, card = several_outputs(), samples.card()
    content = convert.convert(model, card, "")
    graph = onnx.load_model_from_string(content).graph
    assert [one.name for one in graph.output] == ["flux", "probability", "quality"]
    assert onnx_graph.further_outputs(content, card) == {
        "flux": (-1, 2, 64, 64),
        "quality": (-1, 3),
    }
    assert_same(model, content, card)
    source = KerasEngine(model, lowering.output_names(model, card), card)
    tiles = {"sky": samples.tiles()}
    figures = parity.compare(source, OnnxEngine(content, card), card, tiles).figures
    names = ("sky", "sky_flux", "sky_quality")
    assert {f"parity_{name}_max_abs" for name in names} <= figures.keys()

    # The probability is right, and what is besides is not.
    graph = onnx.load_model_from_string(content)
    weights = {one.name: one for one in graph.graph.initializer}
    name = next(node for node in graph.graph.node if "flux" in node.output).input[1]
    changed = onnx.numpy_helper.to_array(weights[name]) + np.float32(0.1)
    weights[name].CopyFrom(onnx.numpy_helper.from_array(changed, name))
    engine = OnnxEngine(graph.SerializeToString(), card)
    with pytest.raises(ParityError, match=r"differ by up to [0-9.]+ on sky_flux tiles"):
        parity.compare(source, engine, card, tiles)


def test_outputs_that_triton_cannot_batch_or_type_are_refused():
    import keras

    model, card = several_outputs(), samples.card()
    mask = keras.ops.cast(model.outputs[1] > 0.5, "int32")
    typed = keras.Model(model.inputs, [model.outputs[1], keras.layers.Identity(name="mask")(mask)])
    with pytest.raises(ConversionError, match=r"mask INT32.* is not float32: cast it"):
        onnx_graph.further_outputs(convert.convert(typed, card, ""), card)
    total = keras.layers.Identity(name="total")(keras.ops.sum(model.outputs[0]))
    bare = keras.Model(model.inputs, [model.outputs[1], total])
    with pytest.raises(ConversionError, match=r"'total' is \(\), without a batch"):
        convert.convert(bare, card, "")


def test_other_output_than_the_cards():
    model = several_outputs()

    other = with_card(output=("mask", (-1, 1, 64, 64)))
    with pytest.raises(ConversionError, match=r"'probability', 'quality'\] is the card's"):
        convert.convert(model, other, "")


def test_channels_that_nobody_names_are_refused():
    unnamed = msgspec.structs.replace(
        with_card(input=("image", (-1, 3, 64, 64))), planes=("difference",)
    )
    with pytest.raises(ConversionError, match="takes 3 channels, and its card says planes"):
        convert.convert(samples.two_inputs(False), unnamed, "")


@pytest.mark.parametrize("named", [False, True], ids=["list", "dict"])
def test_several_inputs_are_the_channels_of_one(named):
    model, card = samples.two_inputs(named), with_card(input=("image", (-1, 3, 64, 64)))
    content = convert.convert(model, card, "")
    graph = onnx.load_model_from_string(content).graph
    assert [one.name for one in graph.input] == ["image"]
    assert_same(model, content, card, channels=3)

    tiles = np.random.default_rng(2).normal(size=(1, 3, 64, 64)).astype(np.float32)
    given = {"new": tiles[:, :1], "old": tiles[:, 1:]}
    expected = model({name: one.transpose(0, 2, 3, 1) for name, one in given.items()})
    answer = OnnxEngine(content, card)(tiles)
    assert np.abs(answer - expected.numpy().transpose(0, 3, 1, 2)).max() < 1e-5

    with pytest.raises(ConversionError, match=r"input is \(None, 64, 64, 3\), the card's is"):
        convert.convert(model, samples.card(), "")


def test_inputs_of_different_sizes_are_refused():
    import keras
    from keras import layers

    new, old = keras.Input((64, 64, 1), name="new"), keras.Input((32, 32, 1), name="old")
    joined = layers.Concatenate()([new, layers.UpSampling2D()(old)])
    model = keras.Model([new, old], layers.Conv2D(1, 1, activation="sigmoid")(joined))
    with pytest.raises(
        ConversionError, match=r"'old': \(None, 32, 32, 1\).*not the channels of one"
    ):
        convert.convert(model, samples.card(), "")


def test_layer_that_has_no_onnx_form_is_named():
    import keras
    from keras import layers

    @keras.saving.register_keras_serializable()
    class Eigen(layers.Layer):
        def call(self, x):
            import tensorflow as tf

            values, _ = tf.linalg.eigh(x[..., 0] + tf.transpose(x[..., 0], (0, 2, 1)))
            return x + tf.reduce_mean(values)

    image = keras.Input((64, 64, 1))
    inner = Eigen(name="spectrum")(image)
    model = keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(inner))
    with pytest.raises(ConversionError, match=r"'spectrum' \(Eigen\), the operation .* no ONNX"):
        convert.convert(model, samples.card(), "")


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_saved_files_of_either_kind_are_converted(model, tmp_path, suffix):
    import keras

    model.save(tmp_path / f"unet.{suffix}")
    loaded = keras.models.load_model(tmp_path / f"unet.{suffix}", compile=False)
    assert_same(model, convert.convert(loaded, samples.card(), ""), samples.card())


@pytest.mark.export
def test_saved_model_is_converted_as_it_is(model, tmp_path):
    model.export(tmp_path / "one", verbose=False)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (keras_files.saved_model(tmp_path / name) for name in ("one", "two"))
    card = samples.card()
    assert digests.of_source(one, card) == digests.of_source(two, card)
    content = convert.convert(one, card, "")
    assert_same(model, content, card)
    assert onnx_graph.inspect(content, card)["onnx_opset"] == convert.OPSET


@pytest.mark.parametrize(("precision", "most"), [("fp16", 5e-3), ("int8", 0.3)])
def test_leaner_arithmetic_stays_close(model, converted, precision, most):
    def tiles(card):
        return {"sky": samples.tiles(8)}

    lean = reduced(converted, samples.card(), precision, tiles)
    noted = onnx_graph.metadata(lean)
    assert (noted["precision"], noted["source_digest"]) == (precision, "ab12")
    figures = onnx_graph.inspect(lean, samples.card())
    assert figures["onnx_nodes"] > 0
    engines = [OnnxEngine(one, samples.card()) for one in (converted, lean)]
    expected, answer = (engine(samples.tiles(3, seed=9)) for engine in engines)
    assert answer.dtype == np.float32
    assert 0.0 < np.abs(answer - expected).max() < most
    assert reduced(converted, samples.card(), "fp32", tiles) is converted


@pytest.mark.parametrize(("precision", "most"), [("fp16", 5e-3), ("int8", 0.1)])
@pytest.mark.parametrize("outputs", [1, 2])
def test_leaner_arithmetic_of_a_classifier_stays_close(outputs, precision, most):
    classes = {"classes": ("bogus", "real"), "positive_class": "real"} if outputs == 2 else {}
    card = stamp_models.card(**classes)
    whole = convert.convert(stamp_models.braai_like(outputs), card, "")
    size = stamp_models.SIZE
    stamps = np.random.default_rng(3).normal(size=(16, 1, size, size)).astype(np.float32)
    lean = reduced(whole, card, precision, lambda _: {"sky": stamps})
    expected, answer = (OnnxEngine(one, card)(stamps) for one in (whole, lean))
    assert 0.0 < np.abs(answer - expected).max() < most
    assert np.ptp(answer) > 1e-3
