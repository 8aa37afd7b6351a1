import collections
import subprocess
import sys

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from detection.model import TensorSpec
from export import convert
from export.errors import ConversionError
from tests.unit.export import samples


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
    assert convert.metadata(converted) == {
        "model_name": "unet_small",
        "model_version": "None",
        "source_digest": "ab12",
        "keras_version": pytest.importorskip("keras").__version__,
    }
    with pytest.raises(ConversionError, match="not an ONNX model"):
        convert.metadata(b"\xff\xff not a model")


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
    with pytest.raises(ConversionError, match=r"input is \(None, 64, 64, 1\), the card's is"):
        convert.convert(model, card, "")


def test_tiles_that_the_pooling_does_not_divide_are_refused():
    shape = (-1, 1, 62, 62)
    card = msgspec.structs.replace(
        samples.card(),
        input=TensorSpec(name="image", shape=shape),
        output=TensorSpec(name="probability", shape=shape),
    )
    with pytest.raises(ConversionError, match="unet_small"):
        convert.convert(samples.unet(size=None), card, "")


def test_model_that_cannot_be_copied_is_refused(model):
    import keras

    class Wrapped(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = model

        def call(self, tiles):
            return self.inner(tiles)

    wrapped = Wrapped()
    wrapped(samples.tiles(1).transpose(0, 2, 3, 1))
    with pytest.raises(ConversionError, match="only Functional and Sequential"):
        convert.convert(wrapped, samples.card(), "")


def test_graph_other_than_promised_is_refused(converted):
    graph = onnx.load_model_from_string(converted)
    other = msgspec.structs.replace(
        samples.card(), output=TensorSpec(name="mask", shape=(-1, 1, 64, 64))
    )
    with pytest.raises(ConversionError, match=r"output is probability FLOAT\[N,1,64,64\]"):
        convert.check(graph, other)

    graph.graph.node[0].input[0] = "turned"
    turn = onnx.helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 1, 3, 2])
    graph.graph.node.insert(0, turn)
    with pytest.raises(ConversionError, match="1 Transpose left"):
        convert.check(graph, samples.card())

    del graph.graph.node[3:]
    with pytest.raises(ConversionError, match="not valid"):
        convert.check(graph, samples.card())


def test_importing_export_does_not_import_tensorflow():
    script = (
        "import sys, export.pipeline; "
        "sys.exit(', '.join({'tensorflow', 'keras', 'tf2onnx'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
