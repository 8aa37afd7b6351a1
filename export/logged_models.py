"""What MLflow keeps of a Keras model: its files, its signature, and an example of what it takes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME, ModelInfo
from mlflow.types import Schema, TensorSpec

from astrotriton.detection.card import ModelCard
from astrotriton.detection.card import TensorSpec as CardTensor
from astrotriton.export import keras_files, lowering

if TYPE_CHECKING:
    import keras

_EXAMPLE_FILE = "input_example.json"


def log_model(model: "keras.Model", card: ModelCard) -> ModelInfo:
    """Log a model to the run that is active, with the Keras flavour.

    Raises
    ------
    MlflowException
        If MLflow refuses.
    """
    import mlflow.keras

    signature = _signature(model.inputs, model.outputs, card)
    return _log(mlflow.keras, model, signature)


def log_computation(model: "keras.Model", card: ModelCard) -> ModelInfo:
    """Log what a model with code of its own computes, a SavedModel, with the TensorFlow flavour.

    Raises
    ------
    ConversionError
        If the model cannot be called on an image of the card's shape.
    MlflowException
        If MLflow refuses.
    """
    import mlflow.tensorflow

    served = lowering.called(model, card)
    names = lowering.output_names(served, card)
    module, serve = keras_files.computation(served, names)
    # It takes all its channels as one image.
    signature = _signature((), served.outputs, card)
    kept = {"saved_model_kwargs": {"signatures": {keras_files.SIGNATURE: serve}}}
    return _log(mlflow.tensorflow, module, signature, **kept)


def _log(flavour: ModuleType, model: Any, signature: ModelSignature, **given: Any) -> ModelInfo:
    import keras
    import tensorflow as tf

    logged: ModelInfo = Model.log(
        None,
        _WithExample(flavour, _example(signature)),
        name="model",
        model=model,
        signature=signature,
        # Left out, MLflow loads the model in another process to find them: 20 s.
        pip_requirements=[f"keras=={keras.__version__}", f"tensorflow=={tf.__version__}"],
        **given,
    )
    return logged


class _WithExample:
    """A flavour of MLflow that keeps an example beside the model.

    MLflow's Keras flavour takes an example as well, and writes it before its folder is there; and
    MLflow asks the model for its answer to such an example, for which it loads it once more.
    """

    def __init__(self, flavour: ModuleType, inputs: dict[str, np.ndarray]) -> None:
        self.__name__ = flavour.__name__  # MLflow shows it as the model's flavour.
        self._save: Callable[..., None] = flavour.save_model
        self._inputs = inputs

    def save_model(self, *, path: str, mlflow_model: Model, **given: Any) -> None:
        """Write the model's folder, as MLflow asks a flavour to."""
        self._save(path=path, mlflow_model=mlflow_model, **given)
        folder = Path(path)
        values = {name: value.round(2).tolist() for name, value in self._inputs.items()}
        whole: Any = values if len(values) > 1 else next(iter(values.values()))
        (folder / _EXAMPLE_FILE).write_text(json.dumps({"inputs": whole}))
        mlflow_model.saved_input_example_info = {
            "artifact_path": _EXAMPLE_FILE,
            "type": "ndarray",
            "format": "tf-serving",
        }
        mlflow_model.save(str(folder / MLMODEL_FILE_NAME))


def _example(signature: ModelSignature) -> dict[str, np.ndarray]:
    """An empty sky as a network sees it, noise of unit standard deviation: one image an input."""
    random = np.random.default_rng(0)
    shapes = {one.name: one.shape for one in signature.inputs.inputs}
    # Sizes that the network leaves open are those of a small image.
    sizes = {name: [1, *(64 if n < 0 else n for n in shape[1:])] for name, shape in shapes.items()}
    return {name: random.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def _signature(
    inputs: Sequence["keras.KerasTensor"],
    outputs: Sequence["keras.KerasTensor"],
    card: ModelCard,
) -> ModelSignature:
    """What the Keras model takes and gives: the card's tensors, channels last, or its own."""

    def schema(tensors: Sequence["keras.KerasTensor"], spec: CardTensor) -> Schema:
        if len(tensors) > 1:
            own = {
                str(one.name): tuple(-1 if size is None else size for size in one.shape)
                for one in tensors
            }
        else:
            batch, channels, height, width = spec.shape
            own = {spec.name: (batch, height, width, channels)}
        kind = np.dtype(np.float32)
        return Schema([TensorSpec(kind, shape, name) for name, shape in own.items()])

    return ModelSignature(inputs=schema(inputs, card.input), outputs=schema(outputs, card.output))
