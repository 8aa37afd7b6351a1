"""SHA-256 of what is registered and of what is published."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from astrotriton.detection.card import ModelCard

if TYPE_CHECKING:
    import keras

#: In the folder of a SavedModel that was made from a file of Keras 2: the digest of that file.
ORIGIN_FILE = "origin.sha256"


def of_bytes(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """SHA-256 of a file in hexadecimal.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_source(model: "keras.Model", card: ModelCard) -> str:
    """SHA-256 of a Keras model and its card: equal digests, equal version.

    Architecture, weights (names, shapes, dtypes and values) and the card count; the optimiser, and
    what the card only learns at registration and export (version, file digests, further outputs),
    do not. Nor does the place that a SavedModel was loaded from; its graph does, or the file that
    it was made from.
    """
    import keras  # Imports TensorFlow.

    seen = hashlib.sha256()
    architecture = keras.saving.serialize_keras_object(model)["config"]
    for layer in architecture.get("layers", []):
        if (folder := layer["config"].pop("filepath", None)) is not None:
            origin = Path(folder) / ORIGIN_FILE
            graph = Path(folder) / "saved_model.pb"
            layer["config"]["graph"] = origin.read_text() if origin.exists() else of_file(graph)
    seen.update(json.dumps(architecture, sort_keys=True).encode())
    for variable in model.weights:
        seen.update(f"{variable.path} {variable.dtype} {tuple(variable.shape)}".encode())
        seen.update(variable.numpy().tobytes())
    bare = msgspec.structs.replace(card, version=None, digests={}, further_outputs={})
    seen.update(bare.to_json())
    return seen.hexdigest()
