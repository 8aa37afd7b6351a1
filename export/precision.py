"""Leaner arithmetic for an ONNX file; the accuracy gates say whether it is good enough."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx

from astrotriton.detection.card import ModelCard
from astrotriton.export.engine import Tiles
from astrotriton.export.errors import ConversionError

Precision = Literal["fp32", "fp16", "int8"]

_WEIGHTED, _ACTIVATIONS = {"Conv", "Gemm", "MatMul"}, {"Sigmoid", "Softmax"}


def reduced(
    content: bytes,
    card: ModelCard,
    precision: Precision,
    tiles: Callable[[ModelCard], Mapping[str, Tiles]],
) -> bytes:
    """An ONNX file with leaner arithmetic inside; its inputs and outputs stay float32.

    Parameters
    ----------
    content
        The fp32 file.
    card
        Names its input.
    precision
        ``fp16``: half precision throughout. ``int8``: convolutions and dense layers in 8 bits
        (static quantisation, QDQ form), with ranges seen on the tiles; the last one, whose output
        becomes the probability, stays in fp32.
    tiles
        Makes tiles like those that will be served, by kind.

    Raises
    ------
    ConversionError
        If the graph cannot be converted.
    """
    if precision == "fp32":
        return content
    try:
        graph = _to_fp16(content) if precision == "fp16" else _to_int8(content, card, tiles(card))
    except Exception as error:  # Both tools raise whatever their numpy code meets.
        raise ConversionError(f"{card.name} cannot be made {precision}: {error}") from error
    source = onnx.load_model_from_string(content)
    noted = {entry.key: entry.value for entry in source.metadata_props}
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, {**noted, "precision": precision})
    graph.ir_version = source.ir_version
    return bytes(graph.SerializeToString(deterministic=True))


def _to_fp16(content: bytes) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    graph = onnx.load_model_from_string(content)
    converted = OnnxModel(convert_float_to_float16(graph, keep_io_types=True))
    converted.topological_sort()
    made: onnx.ModelProto = converted.model
    return made


def _to_int8(content: bytes, card: ModelCard, tiles: Mapping[str, Tiles]) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[np.ndarray[Any, Any]] = iter(
                [tile[None] for batch in tiles.values() for tile in batch]
            )

        def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
            tile = next(self._left, None)
            return None if tile is None else {card.input.name: tile}

    graph = onnx.load_model_from_string(content)
    *_, last = (node.name for node in graph.graph.node if node.op_type in _WEIGHTED)
    # A probability in steps of 1/255 would be useless where it matters, near 0 and near 1.
    exact = [last, *(node.name for node in graph.graph.node if node.op_type in _ACTIVATIONS)]
    with TemporaryDirectory(prefix="astrotriton-int8-") as folder:
        prepared, quantised = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        # Nothing is left to optimise, and with folded up-sampling its optimiser loses the weights.
        quant_pre_process(graph, prepared, skip_symbolic_shape=True, skip_optimization=True)
        quantize_static(
            prepared,
            quantised,
            Reader(),
            per_channel=True,
            # 8-bit products are summed in 16 bits by CPUs without VNNI: a full range overflows.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=exact,
        )
        return onnx.load(quantised)
