"""A Keras model as it can be served, and as the exporters to ONNX know its layers.

Both are copies, layer by layer, with the weights of the original; what needs no copy is left as it
is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from astrotriton.detection.card import ModelCard, StampModel, TensorSpec
from astrotriton.export.errors import ConversionError, one_line

if TYPE_CHECKING:
    import keras

    Lower = Callable[[keras.Layer], keras.Layer]


@dataclass(frozen=True, slots=True)
class Servable:
    """A Keras model whose inputs and outputs are what its card says.

    Attributes
    ----------
    model
        Takes float32 (N, H, W, C) of any N, computes in float32, channels last.
    outputs
        The outputs' names in the ONNX file, in Keras's order.
    changes
        What was changed to make it so, in words; empty if it is the registered model itself.
    """

    model: "keras.Model"
    outputs: list[str]
    changes: tuple[str, ...] = ()


def servable(model: "keras.Model", card: ModelCard) -> Servable:
    """Make what is served of a registered model.

    A subclassed model becomes a Functional one. Layers that compute in half precision, or channels
    first, which TensorFlow cannot run on a CPU, do so in float32 and channels last. A fixed batch
    becomes a free one. The card's ``activation`` makes probabilities of logits, and of several
    classes the card's ``positive_class`` is answered. The one number that a classifier answers for
    a stamp becomes an image of one pixel.

    Raises
    ------
    ConversionError
        If the model cannot be made so.
    """
    changes: list[str] = []
    if not getattr(model, "inputs", None):
        model = called(model, card)
        changes.append("called as one layer, as it is subclassed")
    names = output_names(model, card)
    if reasons := _reasons(model):
        model = _copied(model, _plain, free_inputs=True)
        changes += reasons
    model, turned = _channels_last(model, card)
    if turned:
        changes.append("given and answering channels last")
    chosen = names.index(card.output.name)
    outputs = list(model.outputs)
    answer = _probability(outputs[chosen], card)
    if answer is not outputs[chosen]:
        changes.append(f"its answer made a probability by the card ({_said(card)})")
    if isinstance(card, StampModel):
        # What is no image has no place of its own on the wire.
        answer = _as_image(answer)
    if answer is not outputs[chosen]:
        import keras

        outputs[chosen] = answer
        given = model.inputs if len(model.inputs) > 1 else model.inputs[0]
        model = keras.Model(given, outputs if len(outputs) > 1 else answer, name=model.name)
    return Servable(model, names, tuple(changes))


def output_names(model: "keras.Model", card: ModelCard) -> list[str]:
    """What the outputs of a Keras model are called in its ONNX file, in their order.

    A single one has the card's name; of several, one must have it already.

    Raises
    ------
    ConversionError
        If none has.
    """
    if len(getattr(model, "outputs", None) or [None]) == 1:
        return [card.output.name]
    names = [str(name) for name in model.output_names]
    if card.output.name not in names:
        raise ConversionError(
            f"{card.name}: none of the Keras model's outputs {names} is the card's,"
            f" {card.output.name!r}: name the one that is the probability in the card"
        )
    return names


def inputs_of(model: Any, image: Any) -> Any:
    """An image as a model of Keras 2 or 3 takes it: several inputs share its channels in order."""
    if len(model.inputs) == 1:
        return image
    borders = [0, *accumulate(one.shape[-1] for one in model.inputs)]
    # Slices, as tf2onnx turns the axes of a tf.split back and forth.
    return [image[..., start:stop] for start, stop in pairwise(borders)]


def lowered(model: "keras.Model") -> "keras.Model":
    """A copy in which what Keras spells out is one TensorFlow operation that exporters know.

    Nearest-neighbour up-sampling is one resize, and so is a convolution in groups, which Keras has
    XLA compile.
    """
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

    class LinearUpSampling2D(keras.layers.UpSampling2D):  # type: ignore[misc]
        """Any resize by a fixed factor is a matrix along each axis."""

        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            rows, columns = (
                _resize_matrix(size, factor, self.interpolation)
                for size, factor in zip(inputs.shape[1:3], self.size, strict=True)
            )
            wide = tf.einsum("nhwc,yh->nywc", inputs, tf.constant(rows))
            return tf.einsum("nywc,xw->nyxc", wide, tf.constant(columns))

    class GroupedConv2D(keras.layers.Conv2D):  # type: ignore[misc]
        def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
            return tf.nn.conv2d(
                inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate
            )

    def lower(layer: keras.Layer) -> keras.Layer:
        kind = type(layer)
        if getattr(layer, "data_format", "channels_last") == "channels_last":
            if kind is keras.layers.UpSampling2D and layer.interpolation == "nearest":
                kind = NearestUpSampling2D
            elif kind is keras.layers.UpSampling2D and _sized(layer):
                kind = LinearUpSampling2D
            elif kind is keras.layers.Conv2D and layer.groups > 1:
                kind = GroupedConv2D
        return _remade(layer, kind, layer.get_config())

    return model if is_saved_model(model) else _copied(model, lower)


def layers(model: "keras.Model") -> "Iterator[keras.Layer]":
    """Every layer, those of nested models included."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from layers(layer)
        else:
            yield layer


def needs_its_code(model: "keras.Model") -> bool:
    """Whether a file of the model says nothing to who has not the code that it was built by."""
    if not getattr(model, "inputs", None):
        return True
    return any(
        type(layer).__name__ == "Lambda" or not type(layer).__module__.startswith("keras.")
        for layer in layers(model)
    )


def is_saved_model(model: "keras.Model") -> bool:
    """Whether it runs a SavedModel, whose layers are gone."""
    return any(type(layer).__name__ == "TFSMLayer" for layer in layers(model))


def called(model: "keras.Model", card: ModelCard) -> "keras.Model":
    """A model with inputs and outputs: a subclassed one as the one layer of it.

    Raises
    ------
    ConversionError
        If it cannot be called on an image of the card's shape.
    """
    import keras

    if getattr(model, "inputs", None):
        return model

    _, channels, height, width = card.input.shape
    image = keras.Input((height, width, channels), name=card.input.name)
    try:
        return keras.Model(image, model(image, training=False), name=model.name)
    except Exception as error:  # A model's own code may raise anything.
        raise ConversionError(
            f"{card.name}: the subclassed model {type(model).__name__} cannot be called on an image"
            f" of the card's shape, {(height, width, channels)}: {one_line(error)}: save what it"
            " computes with model.export(folder) and log the folder with mlflow.tensorflow"
        ) from error


def _reasons(model: "keras.Model") -> list[str]:
    """Why a model has to be copied to be served, in words."""
    if is_saved_model(model):
        return []
    found = []
    kinds = {str(layer.compute_dtype) for layer in layers(model)} - {"float32"}
    kinds |= {str(one.dtype) for one in model.inputs} - {"float32"}
    if kinds:
        found.append(f"computing in float32 in place of {', '.join(sorted(kinds))}")
    if any(tensor.shape and tensor.shape[0] is not None for tensor in model.inputs):
        found.append("with a batch of any size in place of a fixed one")
    if any(_is_channels_first(layer) for layer in layers(model)):
        found.append("with its layers channels last in place of first")
    return found


def _is_channels_first(layer: "keras.Layer") -> bool:
    """Whether TensorFlow cannot run it on a CPU."""
    # These only say where the channels are.
    harmless = ("Flatten", "SpatialDropout2D")
    return (
        getattr(layer, "data_format", None) == "channels_first"
        and type(layer).__name__ not in harmless
    )


def _plain(layer: "keras.Layer") -> "keras.Layer":
    """A layer in float32 and channels last, which takes and gives what it did before."""
    import keras

    class ChannelsLast(keras.layers.Layer):  # type: ignore[misc]
        """A layer that works channels last, on images that are channels first."""

        def __init__(self, inner: keras.Layer) -> None:
            super().__init__(name=inner.name, dtype="float32")
            self.inner = inner

        def build(self, shape: Any) -> None:
            self.inner.build((shape[0], *shape[2:], shape[1]))

        def call(self, images: Any) -> Any:
            count = len(images.shape)
            first = keras.ops.transpose(images, (0, *range(2, count), 1))
            answer = self.inner(first)
            if len(answer.shape) != count:  # as of global pooling
                return answer
            return keras.ops.transpose(answer, (0, count - 1, *range(1, count - 1)))

    config = in_float32(layer.get_config())
    turned = _is_channels_first(layer)
    if turned:
        config["data_format"] = "channels_last"
    copy = _remade(layer, type(layer), config)
    return ChannelsLast(copy) if turned else copy


def in_float32(config: Any, key: str = "") -> Any:
    """A configuration of a layer or model of any Keras, with every policy within at float32."""
    if key == "dtype" and config is not None:
        return "float32"
    if isinstance(config, dict):
        return {name: in_float32(value, name) for name, value in config.items()}
    if isinstance(config, list):
        return [in_float32(value) for value in config]
    return config


def _remade(layer: "keras.Layer", kind: type, config: dict[str, Any]) -> "keras.Layer":
    """A copy of a layer; the layer itself if its author left it no way to be copied."""
    try:
        return kind.from_config(config)  # type: ignore[attr-defined]
    except Exception:
        if type(layer).__module__.startswith("keras.") and type(layer).__name__ != "Lambda":
            raise
        return layer


def _copied(
    model: "keras.Model",
    lower: "Lower",
    *,
    free_inputs: bool = False,
) -> "keras.Model":
    """A copy of a model, each layer lowered, with the same weights."""
    import keras

    inputs = None
    if free_inputs:
        new = [keras.Input(tuple(one.shape[1:]), name=one.name) for one in model.inputs]
        # A Sequential model takes one tensor, a Functional one what it was built with.
        if len(new) == 1 and not isinstance(getattr(model, "input", None), (list, dict)):
            inputs = new[0]
        else:
            inputs = keras.tree.pack_sequence_as(model.input, new)
    try:
        copy = keras.models.clone_model(
            model, input_tensors=inputs, clone_function=lower, recursive=True
        )
        weights = [np.asarray(one, np.float32) for one in model.get_weights()]
        copy.set_weights(weights if free_inputs else model.get_weights())
        for layer in layers(copy):
            if hasattr(layer, "finalize_state"):  # `Normalization` works with what it makes of them
                layer.finalize_state()
    except Exception as error:  # A layer's own code may raise anything.
        raise ConversionError(
            f"{model.name}: the Keras model cannot be copied layer by layer: {one_line(error)}:"
            " save what it computes with model.export(folder) and log the folder with"
            " mlflow.tensorflow"
        ) from error
    return copy


def _channels_last(model: "keras.Model", card: ModelCard) -> "tuple[keras.Model, bool]":
    """A model that takes and gives images channels last; and whether it did not before."""
    import keras

    if len(model.inputs) != 1 or not _only_first(model.inputs[0].shape, card.input):
        return model, False
    size = tuple(model.inputs[0].shape[1:])
    image = keras.Input((*size[1:], size[0]), name=card.input.name)
    answers = keras.tree.flatten(model(keras.ops.transpose(image, (0, 3, 1, 2))))
    answers = [
        keras.ops.transpose(one, (0, 2, 3, 1)) if len(one.shape) == 4 else one for one in answers
    ]
    return keras.Model(image, answers if len(answers) > 1 else answers[0], name=model.name), True


def _only_first(shape: Sequence[int | None], spec: TensorSpec) -> bool:
    """Whether a tensor's shape is the card's channels first, and not channels last."""
    _, channels, height, width = spec.shape

    def fits(*sizes: int) -> bool:
        return len(shape) == 4 and all(
            own in (None, wanted) for own, wanted in zip(shape[1:], sizes, strict=True)
        )

    return fits(channels, height, width) and not fits(height, width, channels)


def _probability(answer: "keras.KerasTensor", card: ModelCard) -> "keras.KerasTensor":
    """What a model answers as the probability that the card promises."""
    import keras

    if card.activation == "sigmoid":
        answer = keras.ops.sigmoid(answer)
    elif card.activation == "softmax":
        answer = keras.ops.softmax(answer, axis=-1)
    if not card.classes:
        return answer
    if answer.shape[-1] != len(card.classes):
        raise ConversionError(
            f"{card.name}: the Keras model answers {answer.shape[-1]} channels, the card names"
            f" {len(card.classes)} classes, {list(card.classes)}: name one for each channel"
        )
    assert card.positive_class is not None
    number = card.classes.index(card.positive_class)
    return answer[..., number : number + 1]


def _as_image(answer: "keras.KerasTensor") -> "keras.KerasTensor":
    """One number, or one for each class, for a stamp as an image of one pixel."""
    import keras

    if len(answer.shape) > 2:
        return answer
    channels = answer.shape[1] if len(answer.shape) == 2 else 1
    return keras.ops.reshape(answer, (-1, 1, 1, channels))


def _said(card: ModelCard) -> str:
    said = [] if card.activation == "none" else [card.activation]
    return ", ".join(said + ([f"class {card.positive_class!r}"] if card.classes else []))


def _sized(layer: "keras.Layer") -> bool:
    """Whether it up-samples an image of a fixed size in a way that ONNX does not know."""
    shape = tuple(layer.input.shape)
    return layer.interpolation not in ("nearest", "bilinear", "bicubic") and None not in shape[1:3]


def _resize_matrix(size: int, factor: int, interpolation: str) -> "np.ndarray[Any, Any]":
    """What a resize does along one axis, (size * factor, size): it is linear."""
    import keras
    import tensorflow as tf

    unit = np.eye(size, dtype=np.float32)[None, :, :, None]
    with tf.init_scope():
        wide = keras.ops.image.resize(unit, (size * factor, size), interpolation=interpolation)
        return np.asarray(wide)[0, :, :, 0]
