"""The two ways from a Keras model to ONNX, and which of their graphs is taken."""

import functools
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from astrotriton.detection.card import ModelCard
from astrotriton.export import lowering
from astrotriton.export.engine import KerasEngine, OnnxEngine
from astrotriton.export.errors import ConversionError, one_line
from astrotriton.export.lowering import Servable
from astrotriton.export.onnx_graph import unclean

if TYPE_CHECKING:
    import keras

#: The newest that tf2onnx is tried with, and old enough for every Triton that is still served.
OPSET = 17

# Of a graph to be taken before another; the gate ``parity`` judges on real tiles.
_AGREES = 1e-4

Exporter = Callable[[Servable, ModelCard], onnx.ModelProto]


def best(source: Servable, card: ModelCard) -> tuple[onnx.ModelProto, str]:
    """The better of the graphs that the exporters make, simplified; and the exporter's name.

    A graph that answers as Keras is better than one that does not; then the one with fewer
    transposes of images is, then the smaller one. tf2onnx, which turns images by itself, is asked
    first, and if nothing is left to turn in its graph, Keras's export cannot be better.

    Raises
    ------
    ConversionError
        If none makes a graph; what the first says is told.
    """
    made: list[tuple[tuple[bool, int, int], onnx.ModelProto, str]] = []
    refusals: list[ConversionError] = []
    for name, exporter in EXPORTERS.items():
        try:
            graph = _simplified(exporter(source, card), card)
            agrees = _agrees(graph, source, card)
        except ConversionError as error:
            refusals.append(error)
            continue
        left = sum(unclean(graph).values())
        made.append(((not agrees, left, len(graph.graph.node)), graph, name))
        if agrees and not left:
            break
    if not made:
        raise refusals[0]
    _, graph, name = min(made, key=lambda one: one[0])
    return graph, name


def by_tf2onnx(source: Servable, card: ModelCard) -> onnx.ModelProto:
    """Trace a model whose layers are lowered, and have tf2onnx turn its images to NCHW."""
    import tensorflow as tf
    import tf2onnx

    model = lowering.lowered(source.model)
    _, channels, height, width = card.input.shape
    signature = (tf.TensorSpec((None, height, width, channels), tf.float32, name=card.input.name),)
    images = [
        name for name, one in zip(source.outputs, model.outputs, strict=True) if len(one.shape) == 4
    ]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def forward(tiles: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = model(lowering.inputs_of(model, tiles), training=False)
        return dict(zip(source.outputs, tf.nest.flatten(answer), strict=True))

    _know_more_operations()
    with _faults_of(model, card, "tf2onnx"), _quiet():
        graph: onnx.ModelProto = tf2onnx.convert.from_function(
            forward,
            input_signature=signature,
            opset=OPSET,
            inputs_as_nchw=[card.input.name],
            outputs_as_nchw=images,
        )[0]
    _fill_captured(graph, forward.get_concrete_function())
    _check_operations(graph, model, card)
    return graph


def by_keras(source: Servable, card: ModelCard) -> onnx.ModelProto:
    """Have Keras export a model that turns its images itself."""
    import keras
    import tensorflow as tf

    _, channels, height, width = card.input.shape
    _know_more_operations()
    with _faults_of(source.model, card, "Keras's export"), _quiet():
        image = keras.Input((channels, height, width), name=card.input.name)
        turned = keras.ops.transpose(image, (0, 2, 3, 1))
        answers = keras.tree.flatten(source.model(lowering.inputs_of(source.model, turned)))
        answers = [
            keras.ops.transpose(one, (0, 3, 1, 2)) if len(one.shape) == 4 else one
            for one in answers
        ]
        whole = keras.Model(image, answers)
        spec = tf.TensorSpec((None, channels, height, width), tf.float32, name=card.input.name)
        with TemporaryDirectory(prefix="astrotriton-onnx-") as folder:
            path = Path(folder, "model.onnx")
            whole.export(
                str(path), "onnx", verbose=False, input_signature=[spec], opset_version=OPSET
            )
            graph = onnx.load(path)
    _check_operations(graph, source.model, card)
    _rename(graph, [card.input.name], source.outputs)
    return graph


#: By the name that a manifest gives them, in the order in which they are asked.
EXPORTERS: dict[str, Exporter] = {"tf2onnx": by_tf2onnx, "keras": by_keras}


def _simplified(graph: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """A graph without what can be computed beforehand, and with as few transposes as can be."""
    import onnxsim

    try:
        simple: onnx.ModelProto = onnxsim.simplify(graph)[0]
    except Exception as error:  # Of many kinds.
        raise ConversionError(
            f"{card.name}: the ONNX graph is not valid: {one_line(error)}"
        ) from error
    if unclean(simple):
        # What cannot be turned is slower, and no fault.
        with suppress(Exception):
            return _turned(simple)
    return simple


def _turned(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A graph after ONNX Runtime has pushed transposes through it until they meet and vanish.

    Of 113 that tf2onnx leaves in a MobileNetV3 none is left. The rewriters of onnxscript 0.7 only
    remove pairs that meet already: they left all 113.
    """
    import onnxruntime
    import onnxsim

    options = onnxruntime.SessionOptions()
    # This level knows operators of ONNX itself alone, so that any runtime takes what it writes.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with TemporaryDirectory(prefix="astrotriton-onnx-") as folder:
        path = Path(folder, "model.onnx")
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        turned: onnx.ModelProto = onnxsim.simplify(onnx.load(path))[0]
    del turned.metadata_props[:]
    used = {node.domain for node in turned.graph.node}
    kept = [one for one in turned.opset_import if one.domain in used | {""}]
    del turned.opset_import[:]
    turned.opset_import.extend(kept)
    return turned


def _agrees(graph: onnx.ModelProto, source: Servable, card: ModelCard) -> bool:
    """Whether a graph answers noise as Keras does."""
    tiles = np.random.default_rng(0).normal(size=(2, *card.input.shape[1:])).astype(np.float32)
    name = card.output.name
    wanted = KerasEngine(source.model, source.outputs, card).outputs(tiles)[name]
    found = OnnxEngine(graph.SerializeToString(), card).outputs(tiles).get(name)
    if found is None or found.shape != wanted.shape:
        return False
    scale = max(1.0, float(np.abs(wanted).max()))
    return bool(np.abs(found - wanted).max() <= _AGREES * scale)


@contextmanager
def _faults_of(model: "keras.Model", card: ModelCard, exporter: str) -> Iterator[None]:
    """Tell whatever a layer's code, TensorFlow or an exporter raises as a fault of the model."""
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(
            f"{card.name}: {culprit(model, str(error))}{exporter} cannot convert it:"
            f" {one_line(error)}"
        ) from error


def _check_operations(graph: onnx.ModelProto, model: "keras.Model", card: ModelCard) -> None:
    for node in graph.graph.node:
        # tf2onnx leaves what it does not know as it is.
        if not onnx.defs.has(node.op_type, node.domain):
            raise ConversionError(
                f"{card.name}: {culprit(model, node.name)}the operation {node.op_type} has no ONNX"
                " form: use layers of Keras itself in its place"
            )


def culprit(model: "keras.Model", text: str) -> str:
    """The layer that a message, or the name of a node, is about, if it names one."""
    for layer in lowering.layers(model):
        if re.search(rf"(?<![\w]){re.escape(layer.name)}(_\d+)?(?![\w])", text):
            return f"in the layer {layer.name!r} ({type(layer).__name__}), "
    return ""


def _fill_captured(graph: onnx.ModelProto, function: Any) -> None:
    """Make constants of the tensors that a layer holds outside of its weights.

    `Normalization` does: tf2onnx takes them for further inputs.
    """
    held = {inner.name: outer for outer, inner in function.graph.captures}
    kept = []
    for value in graph.graph.input:
        outer = held.get(value.name)
        if outer is None or outer.dtype.name == "resource":
            kept.append(value)
        else:
            graph.graph.initializer.append(
                onnx.numpy_helper.from_array(np.asarray(outer), value.name)
            )
    del graph.graph.input[:]
    graph.graph.input.extend(kept)


def _rename(graph: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> None:
    """Give a graph's inputs and outputs their names, in their order."""
    new = {
        value.name: name
        for values, names in ((graph.graph.input, inputs), (graph.graph.output, outputs))
        for value, name in zip(values, names, strict=False)
    }
    for value in (*graph.graph.input, *graph.graph.output):
        value.name = new.get(value.name, value.name)
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = new.get(name, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what tf2onnx logs of its own optimisers off the terminal: its graph is judged."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tf2onnx.optimizer")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


@functools.cache
def _know_more_operations() -> None:
    """Put what tf2onnx cannot convert, or converts wrongly, into the register it has for that."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class _Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            """erfc(x) = 1 - erf(x)."""
            _then(ctx, node, "Erf", lambda one, erf: ("Sub", [one, erf]))

    @tf_op("Expm1")
    class _Expm1:
        @classmethod
        def version_6(cls, ctx: Any, node: Any, **_: Any) -> None:
            """expm1(x) = exp(x) - 1, to the precision of a float32 of that size."""
            _then(ctx, node, "Exp", lambda one, exp: ("Sub", [exp, one]))

    @tf_op("ExtractImagePatches")
    class _ExtractImagePatches:
        @classmethod
        def version_11(cls, ctx: Any, node: Any, **_: Any) -> None:
            """A convolution whose filters take a pixel each; tf2onnx's own fixes the batch."""
            _, height, width, _ = node.get_attr_value("ksizes")
            channels = ctx.get_shape(node.input[0])[-1]
            taken = np.eye(height * width * channels, dtype=np.float32)
            kernel = taken.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
            same = node.get_attr_value("padding") in (b"SAME", "SAME")
            how = {
                "strides": node.get_attr_value("strides")[1:3],
                "dilations": node.get_attr_value("rates")[1:3],
                "auto_pad": "SAME_UPPER" if same else "VALID",
            }
            [given], [answer] = node.input, node.output
            kind, shape = ctx.get_dtype(answer), ctx.get_shape(answer)
            turned = ctx.make_node("Transpose", [given], attr={"perm": [0, 3, 1, 2]})
            filters = ctx.make_const(f"{turned.name}/filters", kernel)
            patches = ctx.make_node("Conv", [turned.output[0], filters.output[0]], attr=how)
            ctx.remove_node(node.name)
            ctx.make_node(
                "Transpose",
                patches.output,
                attr={"perm": [0, 2, 3, 1]},
                outputs=[answer],
                name=node.name,
                shapes=[shape],
                dtypes=[kind],
            )

    def _then(ctx: Any, node: Any, first: str, last: Callable[[str, str], Any]) -> None:
        [given], [answer] = node.input, node.output
        kind, shape = ctx.get_dtype(answer), ctx.get_shape(answer)
        made = ctx.make_node(first, [given])
        one = ctx.make_const(f"{made.name}/one", np.ones((), np.float32))
        ctx.remove_node(node.name)
        operation, inputs = last(one.output[0], made.output[0])
        ctx.make_node(
            operation, inputs, outputs=[answer], name=node.name, shapes=[shape], dtypes=[kind]
        )
