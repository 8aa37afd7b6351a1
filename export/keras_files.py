"""Files of Keras models: of this Keras, of Keras 2, and SavedModels of any age."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astrotriton.export import digests
from astrotriton.export.errors import LoadError, one_line
from astrotriton.export.lowering import in_float32, inputs_of

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: The signature of a SavedModel that is served.
SIGNATURE = "serving_default"

_FILES = (".keras", ".h5", ".hdf5")
_CODE_IS_GONE = ("Lambda", "Could not locate", "Unknown layer", "Unknown object", "custom_objects")


def load(path: Path) -> "keras.Model":
    """A model from a file of Keras, or from the folder of a SavedModel.

    What Keras 3 does not read, Keras 2 does, if the package tf-keras is installed.

    Parameters
    ----------
    path
        ``.keras`` or ``.h5`` of any Keras, a SavedModel, or a folder that holds one of these. A
        SavedModel must stay there for as long as the model is used.

    Raises
    ------
    LoadError
        If no Keras at hand reads it.
    """
    found = _model_in(path)
    if found.is_dir():
        try:
            return saved_model(found)
        except Exception as error:  # TensorFlow's faults are of many kinds.
            raise LoadError(f"the SavedModel cannot be served: {one_line(error)}") from error
    import keras

    try:
        return keras.models.load_model(found, compile=False)
    except Exception as error:
        said = one_line(error)
    try:
        return _by_keras_2(found)
    except ImportError:
        also = "Keras 2 was not asked: pip install 'astrotriton[keras2]'"
    except Exception as error:
        also = f"Keras 2 says: {one_line(error)}"
    remedy = "log the file again from where it can be loaded"
    if any(sign in said + also for sign in _CODE_IS_GONE):
        remedy = (
            "it needs code that is not in the file; where that code is at hand, run"
            " astrotriton.export.registry.register(model, card), which logs what it computes"
        )
    raise LoadError(f"{found.name} cannot be read: {remedy}. Keras 3 says: {said}. {also}")


def saved_model(folder: Path) -> "keras.Model":
    """A TensorFlow SavedModel as a Keras model of one layer.

    Parameters
    ----------
    folder
        Has ``saved_model.pb``, with a signature ``serving_default``, or one alone, of one float32
        input (N, H, W, C). It must stay there for as long as the model is used.

    Raises
    ------
    ValueError
        If it has no such signature, or is no SavedModel.
    """
    import keras  # Imports TensorFlow.
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder)).signatures
    name = SIGNATURE if SIGNATURE in signatures or len(signatures) != 1 else next(iter(signatures))
    if name not in signatures:
        raise ValueError(
            f"the SavedModel has no signature {SIGNATURE}, only {sorted(signatures)}: save it"
            " with tf.saved_model.save(model, path, signatures=function)"
        )
    _, named = signatures[name].structured_input_signature
    if len(named) != 1:
        raise ValueError(f"the SavedModel takes {sorted(named)}; one input is served")
    [spec] = named.values()
    image = keras.Input(tuple(spec.shape[1:]), dtype=spec.dtype.name, name="image")
    layer = keras.layers.TFSMLayer(str(folder), call_endpoint=name, name="saved_model")
    return keras.Model(image, layer(image), name="saved_model")


def computation(model: Any, names: list[str]) -> "tuple[tf.Module, Callable[..., Any]]":
    """What a model of Keras 2 or 3 computes, without its code, for TensorFlow to save.

    Parameters
    ----------
    model
        Several inputs are the channels of the one that is saved, in their order.
    names
        Of its outputs.

    Returns
    -------
    module, function
        What holds the weights, and its signature ``serving_default``.
    """
    import tensorflow as tf

    size = tuple(model.inputs[0].shape[1:-1])
    channels = sum(one.shape[-1] for one in model.inputs)
    spec = tf.TensorSpec((None, *size, channels), tf.float32, name="image")

    @tf.function(input_signature=[spec], autograph=False)  # type: ignore[untyped-decorator]
    def serve(image: Any) -> dict[str, Any]:
        answers = tf.nest.flatten(model(inputs_of(model, image), training=False))
        return dict(zip(names, answers, strict=True))

    holder = tf.Module()
    holder.model, holder.serve = model, serve
    return holder, serve


def _by_keras_2(file: Path) -> "keras.Model":
    """A file through Keras 2, in float32: what it computes, as a Keras model of one layer."""
    import tensorflow as tf
    import tf_keras

    model = tf_keras.models.load_model(file, compile=False)
    if any(layer.compute_dtype != "float32" for layer in model.layers):
        exact = type(model).from_config(in_float32(model.get_config()))
        exact.set_weights([one.astype("float32") for one in model.get_weights()])
        model = exact
    # Read for as long as the model is used, so for as long as this process lives.
    folder = Path(tempfile.mkdtemp(prefix="astrotriton-keras2-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    module, serve = computation(model, list(model.output_names))
    tf.saved_model.save(module, str(folder / "model"), signatures={SIGNATURE: serve})
    # TensorFlow writes other bytes each time.
    (folder / "model" / digests.ORIGIN_FILE).write_text(digests.of_file(file))
    return saved_model(folder / "model")


def _model_in(path: Path) -> Path:
    """The file or the SavedModel that a path is, or holds."""
    if path.is_file() or (path / "saved_model.pb").is_file():
        return path
    found = sorted(
        {one.parent for one in path.rglob("saved_model.pb")}
        | {one for one in path.rglob("*") if one.suffix in _FILES and one.is_file()}
    )
    if not found:
        raise LoadError(
            f"{path.name} holds no model: neither a file {' or '.join(_FILES)}, nor a SavedModel"
        )
    return found[0]
