"""A convolutional ONNX graph, run by PyTorch.

Serves where there is a GPU but no ONNX Runtime for it, and stands beside ONNX Runtime in
``benchmarks/gpu``. It knows the operators that the export writes, folded up-sampling included,
and refuses any other before anything runs. What each one does is said in the ONNX operator
reference (opset 17), https://onnx.ai/onnx/operators/.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import NodeProto, helper, numpy_helper
from torch.nn import functional

Operation = Callable[..., torch.Tensor]


class UnsupportedGraphError(ValueError):
    """A graph has an operator, or a form of one, that is not known here."""


class TorchGraph(torch.nn.Module):
    """The graph as a module; its weights move and change type as those of any module.

    Parameters
    ----------
    model
        A checked ONNX model.
    fuse_relu
        Have cuDNN do a convolution and the ReLU after it in one pass; on a GPU only.

    Attributes
    ----------
    inputs, outputs
        Names, in the order of `forward`'s arguments and answers.

    Raises
    ------
    UnsupportedGraphError
        Naming the operator, and what of it is not known.
    """

    def __init__(self, model: onnx.ModelProto, *, fuse_relu: bool = False) -> None:
        super().__init__()
        graph = model.graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.inputs = [value.name for value in graph.input if value.name not in constants]
        self.outputs = [value.name for value in graph.output]
        self._constants: dict[str, str] = {}
        self._steps: list[tuple[Operation, list[str], str]] = []
        for node in graph.node:
            operation, seen = _operation(node, constants)
            for name in seen:
                if name in constants and name not in self._constants:
                    self._add(name, constants[name])
            self._steps.append((operation, seen, node.output[0]))
        if fuse_relu:
            self._steps = _fused(self._steps, graph.node, self.outputs)
        self._last_use = _last_use(self._steps, self.outputs)

    def forward(self, *images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Every output for these inputs, each (N, ...)."""
        values = {name: getattr(self, buffer) for name, buffer in self._constants.items()}
        values |= dict(zip(self.inputs, images, strict=True))
        for (operation, seen, made), dead in zip(self._steps, self._last_use, strict=True):
            values[made] = operation(*(values[name] for name in seen))
            for name in dead:  # Its memory serves the next operation.
                del values[name]
        return tuple(values[name] for name in self.outputs)

    def _add(self, name: str, array: np.ndarray) -> None:
        buffer = f"constant_{len(self._constants)}"
        self.register_buffer(buffer, torch.from_numpy(np.array(array)), persistent=False)
        self._constants[name] = buffer


def _operation(node: NodeProto, constants: dict[str, np.ndarray]) -> tuple[Operation, list[str]]:
    """What a node does, and the names of the tensors that it does it with."""
    make = _OPERATIONS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if make is None:
        raise UnsupportedGraphError(
            f"the operator {node.op_type} (node {node.name or node.output[0]!r}) is not known to"
            f" the PyTorch engine, which knows {', '.join(sorted(_OPERATIONS))}: serve this model"
            " with ONNX Runtime"
        )
    return make(_Node(node, constants))


class _Node:
    """A node with its attributes, and those of its inputs that must be constants."""

    def __init__(self, node: NodeProto, constants: dict[str, np.ndarray]) -> None:
        self.seen = [name for name in node.input if name]
        self._node = node
        self._constants = constants
        self._attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}

    def attribute(self, name: str, default: Any) -> Any:
        return self._attributes.get(name, default)

    def constant(self, position: int) -> np.ndarray | None:
        """The value of an input that decides shapes; None if it is not given."""
        names = self._node.input
        if position >= len(names) or not names[position]:
            return None
        if names[position] not in self._constants:
            raise self.unsupported(f"with an input {names[position]!r} that is computed")
        return self._constants[names[position]]

    def require(self, name: str, default: Any, *known: Any) -> None:
        value = self.attribute(name, default)
        if value not in known:
            told = value.decode() if isinstance(value, bytes) else value
            raise self.unsupported(f"with {name} {told}")

    def unsupported(self, what: str) -> UnsupportedGraphError:
        node = self._node
        return UnsupportedGraphError(
            f"the operator {node.op_type} {what} (node {node.name or node.output[0]!r}) is not"
            " known to the PyTorch engine: serve this model with ONNX Runtime"
        )


def _pads(node: _Node, axes: int) -> tuple[list[int], list[int]]:
    """Zeros before and after each axis of the image."""
    node.require("auto_pad", b"NOTSET", b"NOTSET")
    pads = list(node.attribute("pads", [0] * 2 * axes))
    return pads[:axes], pads[axes:]


def _conv(node: _Node) -> tuple[Operation, list[str]]:
    before, after = _pads(node, 2)
    options = {
        "stride": list(node.attribute("strides", [1, 1])),
        "dilation": list(node.attribute("dilations", [1, 1])),
        "groups": node.attribute("group", 1),
    }
    if before == after:
        options["padding"] = before
        return _Convolution(options), node.seen
    # F.pad begins with the last axis.
    sides = [before[1], after[1], before[0], after[0]]

    def padded(image: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(functional.pad(image, sides), *weights, **options)

    return padded, node.seen


class _Convolution:
    """A convolution that may be fused with what follows it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    def __call__(self, image: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(image, *weights, **self.options)

    def with_relu(self, image: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        weight, bias = (*weights, None)[:2]
        options = self.options
        return torch.cudnn_convolution_relu(
            image,
            weight,
            bias,
            options["stride"],
            options["padding"],
            options["dilation"],
            options["groups"],
        )


def _max_pool(node: _Node) -> tuple[Operation, list[str]]:
    before, after = _pads(node, 2)
    if before != after:
        raise node.unsupported("with other pads before than after")
    node.require("storage_order", 0, 0)
    options = {
        "kernel_size": list(node.attribute("kernel_shape", [])),
        "stride": list(node.attribute("strides", [1, 1])),
        "padding": before,
        "dilation": list(node.attribute("dilations", [1, 1])),
        "ceil_mode": bool(node.attribute("ceil_mode", 0)),
    }
    return lambda image: functional.max_pool2d(image, **options), node.seen


def _resize(node: _Node) -> tuple[Operation, list[str]]:
    """Nearest neighbours by whole factors, so that every pixel is repeated as often."""
    node.require("mode", b"nearest", b"nearest")
    node.require("coordinate_transformation_mode", b"half_pixel", b"asymmetric")
    node.require("nearest_mode", b"round_prefer_floor", b"floor")
    scales = node.constant(2)
    if scales is None or scales.shape != (4,) or (scales % 1).any() or (scales[:2] != 1).any():
        raise node.unsupported("by anything but whole factors of height and width")
    factors = [float(scale) for scale in scales[2:]]
    return (
        lambda image: functional.interpolate(image, scale_factor=factors, mode="nearest"),
        node.seen[:1],
    )


def _concat(node: _Node) -> tuple[Operation, list[str]]:
    axis = node.attribute("axis", 0)
    return lambda *tensors: torch.cat(tensors, axis), node.seen


def _transpose(node: _Node) -> tuple[Operation, list[str]]:
    order = node.attribute("perm", None)
    if order is None:
        raise node.unsupported("without perm")
    return lambda tensor: tensor.permute(order), node.seen


def _unsqueeze(node: _Node) -> tuple[Operation, list[str]]:
    axes = node.constant(1)
    if axes is None or axes.size != 1:
        raise node.unsupported("of more than one axis")
    (axis,) = map(int, axes)
    return lambda tensor: tensor.unsqueeze(axis), node.seen[:1]


def _reshape(node: _Node) -> tuple[Operation, list[str]]:
    node.require("allowzero", 0, 0)
    shape = node.constant(1)
    if shape is None:
        raise node.unsupported("without a shape")
    sizes = [int(size) for size in shape]

    def reshaped(tensor: torch.Tensor) -> torch.Tensor:
        # 0 stands for the size as it is.
        kept = [tensor.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
        return tensor.reshape(kept)

    return reshaped, node.seen[:1]


def _cast(node: _Node) -> tuple[Operation, list[str]]:
    kind = helper.tensor_dtype_to_np_dtype(node.attribute("to", 0))
    # The graph's own half precision is the module's, so a cast to float16 or float32 changes
    # nothing where the module was given another type: `precision` decides.
    if kind in (np.float16, np.float32):
        return lambda tensor: tensor, node.seen
    target = torch.from_numpy(np.zeros(0, kind)).dtype
    return lambda tensor: tensor.to(target), node.seen


def _sum(*tensors: torch.Tensor) -> torch.Tensor:
    total, *others = tensors
    for other in others:
        total = total + other
    return total


def _plain(operation: Operation) -> Callable[[_Node], tuple[Operation, list[str]]]:
    return lambda node: (operation, node.seen)


_OPERATIONS: dict[str, Callable[[_Node], tuple[Operation, list[str]]]] = {
    "Add": _plain(torch.add),
    "Cast": _cast,
    "Concat": _concat,
    "Conv": _conv,
    "Identity": _plain(lambda tensor: tensor),
    "MaxPool": _max_pool,
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _plain(torch.sigmoid),
    "Sum": _plain(_sum),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def _fused(
    steps: list[tuple[Operation, list[str], str]],
    nodes: Sequence[NodeProto],
    outputs: Sequence[str],
) -> list[tuple[Operation, list[str], str]]:
    """Convolutions that only a ReLU looks at, done together with it."""
    looks = [*outputs, *(name for _, seen, _ in steps for name in seen)]
    made_by = {made: position for position, (_, _, made) in enumerate(steps)}
    fused, left_out = list(steps), set()
    for position, node in enumerate(nodes):
        before = made_by.get(node.input[0]) if node.op_type == "Relu" else None
        if before is None or looks.count(node.input[0]) != 1:
            continue
        operation, seen, _ = steps[before]
        if isinstance(operation, _Convolution):
            fused[position] = (operation.with_relu, seen, node.output[0])
            left_out.add(before)
    return [step for position, step in enumerate(fused) if position not in left_out]


def _last_use(
    steps: Sequence[tuple[Operation, list[str], str]], outputs: Sequence[str]
) -> list[list[str]]:
    """What nobody looks at any more after each step."""
    dead: list[list[str]] = []
    needed = set(outputs)
    for _, seen, made in reversed(steps):
        dead.append([name for name in {*seen, made} if name not in needed])
        needed.update(seen)
    return dead[::-1]
