"""Keras to ONNX: one clean NCHW graph, whose names and shapes are the card's."""

import re
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import onnx

from astrotriton.detection.card import UNetModel
from astrotriton.export.errors import ConversionError
from astrotriton.export.onnx_graph import AS_IT_IS, check, unclean

if TYPE_CHECKING:
    import keras

# The newest that tf2onnx is tried with here, and old enough for every Triton that is still served.
OPSET = 17
# The intermediate representation that came with that opset (ONNX 1.12).
IR_VERSION = 8
# About once in 300 times tf2onnx leaves a Transpose of one channel, which it should have made a
# Reshape: it changes the list of nodes that it walks, whose order is that of a set.
_TRIES = 3


def convert(model: "keras.Model", card: UNetModel, source_digest: str) -> bytes:
    """Convert a Keras U-Net.

    Nearest-neighbour up-sampling, which Keras writes as repeats and tf2onnx as Tile and Transpose
    chains, becomes one Resize each; BatchNorm is folded into the convolutions.

    Parameters
    ----------
    model
        A Functional or Sequential model. Several inputs, each float32 (N, H, W, C), are the
        channels of the card's one input, in Keras's order. Of several outputs one has the card's
        name; the others keep theirs.
    card
        Names and shapes of the graph's input and output; the batch stays dynamic.
    source_digest
        `astrotriton.export.digests.of_source` of the model, kept in the file's metadata.

    Returns
    -------
    bytes
        A serialised ONNX model, checked.

    Raises
    ------
    ConversionError
        If the model is of another kind or shape, or the graph comes out other than promised.
    """
    import onnxsim

    _check_source(model, card)
    lowered, as_it_is = _lowered(model), _is_saved_model(model)
    for _ in range(_TRIES):
        graph, _ = onnxsim.simplify(_trace(lowered, card))
        if as_it_is or not unclean(graph):
            break
    _name_batch(graph)
    graph.ir_version = IR_VERSION
    graph.producer_name = "astrotriton"
    graph.producer_version = ""
    onnx.helper.set_model_props(
        graph,
        {
            "model_name": card.name,
            "model_version": str(card.version),
            "source_digest": source_digest,
            "keras_version": _keras_version(),
        }
        | ({AS_IT_IS: "saved_model"} if as_it_is else {}),
    )
    check(graph, card)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def output_names(model: "keras.Model", card: UNetModel) -> list[str]:
    """What the outputs of a Keras model are called in its ONNX file, in their order.

    A single one has the card's name; of several, one must have it already.

    Raises
    ------
    ConversionError
        If none has.
    """
    if len(model.outputs) == 1:
        return [card.output.name]
    names = [str(name) for name in model.output_names]
    if card.output.name not in names:
        raise ConversionError(
            f"{card.name}: none of the Keras model's outputs {names} is the card's,"
            f" {card.output.name!r}: name the one that is the probability in the card"
        )
    return names


def _check_source(model: "keras.Model", card: UNetModel) -> None:
    if not getattr(model, "inputs", None):
        raise ConversionError(
            f"{card.name}: only Functional and Sequential Keras models are converted, not"
            f" {type(model).__name__}: build it with keras.Model(inputs, outputs)"
        )
    names = output_names(model, card)
    for name, tensor in zip(names, model.outputs, strict=True):
        if not tensor.shape or tensor.shape[0] is not None:
            raise ConversionError(
                f"{card.name}: the Keras model's output {name!r} is {tuple(tensor.shape)}, without"
                " a batch of any size: leave it out, keras.Model(model.inputs, the other outputs)"
            )
    output = model.outputs[names.index(card.output.name)]
    for role, shape, spec in (
        ("input", _joined_shape(model, card), card.input),
        ("output", tuple(output.shape), card.output),
    ):
        _, channels, height, width = spec.shape
        expected = (None, height, width, channels)
        fits = len(shape) == 4 and all(
            size in (None, wanted) for size, wanted in zip(shape[1:], expected[1:], strict=True)
        )
        if not fits:
            raise ConversionError(
                f"{card.name}: the Keras model's {role} is {shape}, the card's is {expected}"
                " (batch, height, width, channels): correct the card, or build the model for that"
            )
    for layer in _layers(model):
        if getattr(layer, "data_format", None) == "channels_first":
            raise ConversionError(
                f"{card.name}: the layer {layer.name!r} ({type(layer).__name__}) works on channels"
                " first, which TensorFlow cannot run on a CPU: build the model with"
                " data_format='channels_last'; the ONNX file will be channels first all the same"
            )


def _joined_shape(model: "keras.Model", card: UNetModel) -> tuple[int | None, ...]:
    """The shape of a Keras model's inputs, joined along their channels."""
    shapes = {str(tensor.name): tuple(tensor.shape) for tensor in model.inputs}
    first, *others = shapes.values()
    if not others:
        return first
    alike = all(len(shape) == 4 and shape[-1] and shape[:3] == first[:3] for shape in others)
    if not alike or not first[-1]:
        raise ConversionError(
            f"{card.name}: the Keras model's inputs are {shapes}, which are not the channels of one"
            " image: give all of them the card's height and width and a fixed number of channels,"
            " or resize within the model"
        )
    return (*first[:3], sum(shape[-1] for shape in shapes.values()))


def _layers(model: "keras.Model") -> "Iterator[keras.Layer]":
    """Every layer, those of nested models included."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer


def _is_saved_model(model: "keras.Model") -> bool:
    return any(type(layer).__name__ == "TFSMLayer" for layer in _layers(model))


def _lowered(model: "keras.Model") -> "keras.Model":
    """A copy of a model whose nearest-neighbour up-sampling is one TensorFlow operation."""
    if _is_saved_model(model):
        return model
    import keras
    import tensorflow as tf

    class NearestUpSampling2D(keras.layers.UpSampling2D):  # type: ignore[misc]
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            # Static where it can be: tf2onnx then writes a constant scale.
            height, width = inputs.shape[1:3]
            if height is None or width is None:
                height, width = tf.unstack(tf.shape(inputs)[1:3])
            size = [height * self.size[0], width * self.size[1]]
            return tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=size)

    def lower(layer: keras.Layer) -> keras.Layer:
        kind = type(layer)
        if not kind.__module__.startswith("keras."):
            # Its copy is made by code of its author: say whose it is if that fails.
            _check_copyable(layer)
        if (
            isinstance(layer, keras.layers.UpSampling2D)
            and layer.interpolation == "nearest"
            and layer.data_format == "channels_last"
        ):
            kind = NearestUpSampling2D
        return kind.from_config(layer.get_config())

    try:
        copy = keras.models.clone_model(model, clone_function=lower, recursive=True)
    except ValueError as error:
        raise ConversionError(
            f"{model.name}: the Keras model cannot be copied layer by layer: {error}"
        ) from error
    copy.set_weights(model.get_weights())
    return copy


def _check_copyable(layer: "keras.Layer") -> None:
    try:
        type(layer).from_config(layer.get_config())
    except Exception as error:
        raise ConversionError(
            f"the layer {layer.name!r} ({type(layer).__name__}) cannot be copied: give it a"
            f" get_config() that names every argument of its __init__ ({error})"
        ) from error


def _trace(model: "keras.Model", card: UNetModel) -> onnx.ModelProto:
    import tensorflow as tf
    import tf2onnx

    _, channels, height, width = card.input.shape
    signature = (tf.TensorSpec((None, height, width, channels), tf.float32, name=card.input.name),)

    names = output_names(model, card)
    images = [name for name, one in zip(names, model.outputs, strict=True) if len(one.shape) == 4]
    borders = [0, *accumulate(tensor.shape[-1] for tensor in model.inputs)]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def forward(tiles: tf.Tensor) -> dict[str, tf.Tensor]:
        # Slices, as tf2onnx turns the axes of a tf.split back and forth.
        parts = [tiles[..., start:stop] for start, stop in pairwise(borders)]
        answer = model(parts if len(parts) > 1 else tiles, training=False)
        return dict(zip(names, tf.nest.flatten(answer), strict=True))

    try:
        graph: onnx.ModelProto = tf2onnx.convert.from_function(
            forward,
            input_signature=signature,
            opset=OPSET,
            inputs_as_nchw=[card.input.name],
            outputs_as_nchw=images,
        )[0]
    except Exception as error:  # A layer's own code may raise anything, and tf2onnx does too.
        raise ConversionError(
            f"{card.name}: tf2onnx cannot convert it: {_culprit(model, str(error))}{error}"
        ) from error
    for node in graph.graph.node:
        # tf2onnx leaves what it does not know as it is.
        if not onnx.defs.has(node.op_type, node.domain):
            raise ConversionError(
                f"{card.name}: {_culprit(model, node.name)}the operation {node.op_type} has no ONNX"
                " form: use layers of Keras itself in its place"
            )
    return graph


def _culprit(model: "keras.Model", text: str) -> str:
    """The layer that a message, or the name of a node, is about, if it names one."""
    for layer in _layers(model):
        if re.search(rf"(?<![\w]){re.escape(layer.name)}(_\d+)?(?![\w])", text):
            return f"in the layer {layer.name!r} ({type(layer).__name__}), "
    return ""


def _name_batch(graph: onnx.ModelProto) -> None:
    """Give the dynamic batch its name back, which onnxsim replaces by one of its own."""
    for values in (graph.graph.input, graph.graph.output):
        for value in values:
            batch = value.type.tensor_type.shape.dim[0]
            if not batch.HasField("dim_value"):
                batch.dim_param = "N"
    # The shapes noted for inner tensors still use the old name; whoever loads the file infers them.
    del graph.graph.value_info[:]


def _keras_version() -> str:
    import keras

    return str(keras.__version__)
