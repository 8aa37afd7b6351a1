"""What an ONNX file is: whether it is what its card says, and what is noted in it."""

import math
from collections import Counter

import onnx

from astrotriton.detection.card import ModelCard, TensorSpec
from astrotriton.export.errors import ConversionError, one_line
from astrotriton.export.subpixel import FOLDED

#: What `convert` notes in a file: which exporter made it, and what was changed of the Keras model.
EXPORTER, CHANGES = "exporter", "changes"

_UNWANTED = ("Transpose", "BatchNormalization")


def load(content: bytes) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises
    ------
    ConversionError
        If it is not an ONNX model.
    """
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:
        # protobuf's DecodeError has a different home in each of its implementations.
        raise ConversionError(f"not an ONNX model: {one_line(error)}") from error


def check(graph: onnx.ModelProto, card: ModelCard) -> None:
    """Refuse a graph that is invalid, or is not what the card says.

    Raises
    ------
    ConversionError
        Naming the tensor or the nodes at fault.
    """
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"{card.name}: the ONNX graph is not valid: {one_line(error)}"
        ) from error
    for role, values, spec in (
        ("input", graph.graph.input, card.input),
        ("output", graph.graph.output, card.output),
    ):
        # tf2onnx ignores a name that it does not find, so nothing is taken on trust.
        found = [_describe(value) for value in values]
        if (expected := _expected(spec)) not in found or (role == "input" and len(found) > 1):
            raise ConversionError(
                f"{card.name}: the ONNX {role} is {', '.join(found)}, the card says {expected}"
            )


def inspect(content: bytes, card: ModelCard) -> dict[str, float]:
    """Check an ONNX file as `check` does, whatever its precision; and count what is in it.

    Raises
    ------
    ConversionError
        If it is not an ONNX model, or `check` refuses it.
    """
    graph = load(content)
    check(graph, card)
    weights = sum(math.prod(tensor.dims) for tensor in graph.graph.initializer)
    return {
        "onnx_opset": graph.opset_import[0].version,
        "onnx_nodes": len(graph.graph.node),
        "onnx_weights": weights,
        "onnx_bytes": len(content),
    }


def further_outputs(content: bytes, card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Shapes of an ONNX file's outputs besides the card's, -1 for what is dynamic, by name.

    Raises
    ------
    ConversionError
        If one is not float32.
    """
    found = {}
    for value in onnx.load_model_from_string(content).graph.output:
        if value.name == card.output.name:
            continue
        tensor = value.type.tensor_type
        if tensor.elem_type != onnx.TensorProto.FLOAT:
            raise ConversionError(
                f"{card.name}: the output {_describe(value)} is not float32: cast it in the Keras"
                " model, or leave it out, keras.Model(model.inputs, the other outputs)"
            )
        found[value.name] = tuple(
            dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim
        )
    return found


def metadata(content: bytes) -> dict[str, str]:
    """What `convert` noted in an ONNX file, by key; empty for a file of another making.

    Raises
    ------
    ConversionError
        If it is not an ONNX model.
    """
    graph = load(content)
    return {entry.key: entry.value for entry in graph.metadata_props}


def unclean(graph: onnx.ModelProto) -> Counter[str]:
    """How many operators of each kind a graph could do without; empty if it is clean."""
    return Counter(node.op_type for node in graph.graph.node if node.op_type in _UNWANTED)


def warnings(content: bytes) -> list[str]:
    """What makes an ONNX file slower than it could be, in words.

    Folded up-sampling turns images on purpose, and is no reason.
    """
    graph = load(content)
    if any(entry.key == FOLDED for entry in graph.metadata_props) or not (left := unclean(graph)):
        return []
    told = ", ".join(f"{count} {kind}" for kind, count in left.items())
    return [f"{told} left in the graph, which cost time: a layer works across channels"]


def _describe(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dimensions = [dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim]
    return (
        f"{value.name} {onnx.TensorProto.DataType.Name(tensor.elem_type)}[{','.join(dimensions)}]"
    )


def _expected(spec: TensorSpec) -> str:
    return f"{spec.name} FLOAT[{','.join(['N', *map(str, spec.shape[1:])])}]"
