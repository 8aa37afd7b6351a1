"""Keras to ONNX: one clean NCHW graph, whose names and shapes are the card's."""

from typing import TYPE_CHECKING

import onnx

from astrotriton.detection.card import ModelCard
from astrotriton.export import exporters
from astrotriton.export.cards import UNNAMED_CHANNELS
from astrotriton.export.errors import ConversionError
from astrotriton.export.exporters import OPSET
from astrotriton.export.lowering import Servable, servable
from astrotriton.export.onnx_graph import CHANGES, EXPORTER, check

if TYPE_CHECKING:
    import keras

__all__ = ["OPSET", "convert"]

# The intermediate representation that came with that opset (ONNX 1.12).
IR_VERSION = 8


def convert(model: "keras.Model", card: ModelCard, source_digest: str) -> bytes:
    """Convert a Keras U-Net, or classifier of stamps.

    Nearest-neighbour up-sampling, which Keras writes as repeats and tf2onnx as Tile and Transpose
    chains, becomes one Resize each; BatchNorm is folded into the convolutions.

    Parameters
    ----------
    model
        As it was registered; what is served of it is made by `astrotriton.export.lowering`. Several
        inputs are the channels of the card's one input, in Keras's order. Of several outputs one
        has the card's name; the others keep theirs.
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
        If the model is of another kind or shape, has channels that the card does not name, or the
        graph comes out other than promised.
    """
    _check_planes(card)
    source = servable(model, card)
    _check_source(source, card)
    graph, exporter = exporters.best(source, card)
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
            EXPORTER: exporter,
        }
        | ({CHANGES: "; ".join(source.changes)} if source.changes else {}),
    )
    check(graph, card)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def _check_planes(card: ModelCard) -> None:
    channels = card.input.shape[1]
    if len(card.planes) == channels:
        return
    raise ConversionError(
        f"{card.name} takes {channels} channels, and its card says planes = {list(card.planes)}:"
        f" {UNNAMED_CHANNELS}"
    )


def _check_source(source: Servable, card: ModelCard) -> None:
    model = source.model
    for name, tensor in zip(source.outputs, model.outputs, strict=True):
        if not tensor.shape or tensor.shape[0] is not None:
            raise ConversionError(
                f"{card.name}: the Keras model's output {name!r} is {tuple(tensor.shape)}, without"
                " a batch of any size: leave it out, keras.Model(model.inputs, the other outputs)"
            )
    output = model.outputs[source.outputs.index(card.output.name)]
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


def _joined_shape(model: "keras.Model", card: ModelCard) -> tuple[int | None, ...]:
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
