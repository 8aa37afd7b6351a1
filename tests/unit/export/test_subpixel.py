import collections

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from astrotriton.export import convert, onnx_graph
from astrotriton.export.subpixel import FOLDED, fold_upsampling
from tests.unit.export import samples


def operators(content):
    graph = onnx.load_model_from_string(content).graph
    return collections.Counter(node.op_type for node in graph.node)


def answer(content, tiles):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: tiles})[0]


def graph_of(*, kernel, pads, scale, skip, resize=None, **of_conv):
    """An up-sampled image of 3 channels, and one of 2 beside it if asked for, convolved."""
    height, width = 5, 7
    rng = np.random.default_rng(3)
    channels = 3 + 2 * skip
    weights = rng.normal(size=(8, channels, *kernel)).astype(np.float32)
    constants = {
        "scales": np.array([1, 1, *scale], np.float32),
        "weights": weights,
        "bias": rng.normal(size=8).astype(np.float32),
    }
    nearest = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    } | (resize or {})
    nodes = [
        helper.make_node("AveragePool", ["image"], ["low"], kernel_shape=scale, strides=scale),
        helper.make_node("Resize", ["low", "", "scales"], ["up"], **nearest),
    ]
    if skip:
        nodes += [
            helper.make_node("Split", ["image"], ["two", "rest"], axis=1),
            # The skip connection comes first: the order of the channels is not taken for granted.
            helper.make_node("Concat", ["two", "up"], ["seen"], axis=1),
        ]
        constants["sizes"] = np.array([2, 1])
        nodes[2].input.append("sizes")
    seen = "seen" if skip else "up"
    nodes.append(
        helper.make_node("Conv", [seen, "weights", "bias"], ["answer"], pads=pads, **of_conv)
    )
    image = ["N", 3, height * scale[0], width * scale[1]]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", 8, None, None])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", convert.OPSET)],
        ir_version=convert.IR_VERSION,
    )
    tiles = rng.normal(size=(2, 3, *image[2:])).astype(np.float32)
    return model.SerializeToString(), tiles


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("kernel", "pads", "scale"),
    [
        ((3, 3), [1, 1, 1, 1], (2, 2)),
        ((2, 2), [0, 0, 1, 1], (2, 2)),
        ((5, 3), [2, 1, 2, 1], (2, 2)),
        ((3, 3), [1, 1, 1, 1], (3, 2)),
        ((3, 3), [1, 1, 1, 1], (4, 1)),
        ((4, 3), [0, 2, 3, 0], (3, 3)),
    ],
)
def test_answers_are_the_same_at_borders_too(kernel, pads, scale, skip):
    content, tiles = graph_of(kernel=kernel, pads=pads, scale=scale, skip=skip)
    folded = fold_upsampling(content)
    assert "Resize" not in operators(folded)
    before, after = answer(content, tiles), answer(folded, tiles)
    assert before.shape == after.shape
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": (1, 1), "pads": [0, 0, 0, 0]},
        {"pads": [0, 0, 0, 0]},
        {"strides": [2, 2]},
        {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
        {"resize": {"mode": "linear"}},
        {"resize": {"coordinate_transformation_mode": "half_pixel"}},
        {"scale": (1, 1)},
    ],
)
def test_what_cannot_be_folded_stays_as_it_is(other):
    plain = {"kernel": (3, 3), "pads": [1, 1, 1, 1], "scale": (2, 2), "skip": True}
    content, _ = graph_of(**plain | other)
    assert fold_upsampling(content) is content


def test_convolution_along_one_axis_stays_as_it_is():
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights"], ["answer"], pads=[1, 1])],
        "graph",
        [value("image", TensorProto.FLOAT, ["N", 3, 9])],
        [value("answer", TensorProto.FLOAT, ["N", 2, 9])],
        [numpy_helper.from_array(np.ones((2, 3, 3), np.float32), "weights")],
    )
    content = helper.make_model(graph).SerializeToString()
    assert fold_upsampling(content) is content


def test_unet_answers_the_same_without_a_resize(converted):
    folded = fold_upsampling(converted)
    assert "Resize" not in operators(folded)
    tiles = samples.tiles(3)
    before = answer(converted, tiles)
    assert np.abs(answer(folded, tiles) - before).max() < 1e-5
    assert np.ptp(before) > 0.5
    noted = onnx_graph.metadata(folded)
    assert noted == onnx_graph.metadata(converted) | {FOLDED: "folded"}
    assert onnx_graph.inspect(folded, samples.card())["onnx_nodes"] > 30
    # Once is enough.
    assert fold_upsampling(folded) is folded


def test_up_sampled_image_that_is_an_output_too_is_kept():
    import keras
    from keras import layers

    image = keras.Input((samples.SIZE, samples.SIZE, 1))
    up = layers.UpSampling2D(name="up")(layers.Conv2D(4, 3, 2, padding="same")(image))
    last = layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="probability")(up)
    model = keras.Model(image, [last, up])
    card = samples.card()
    content = convert.convert(model, card, "")
    folded = fold_upsampling(content)
    assert operators(folded)["Resize"] == 1
    assert onnx_graph.further_outputs(folded, card) == onnx_graph.further_outputs(content, card)
    session = onnxruntime.InferenceSession(folded, providers=["CPUExecutionProvider"])
    other = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for mine, theirs in zip(
        session.run(None, {"image": samples.tiles(1)}),
        other.run(None, {"image": samples.tiles(1)}),
        strict=True,
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
