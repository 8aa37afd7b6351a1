"""Classifiers of stamps as surveys have them, trained in seconds on simulated fields."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.card import StampModel, TensorSpec
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.quality.judged_candidates import judged_candidates
from astrotriton.detection.scoring.score import prepare_exposure
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.recipe import mixed_recipe
from astrotriton.training.calibrate import transients_of

if TYPE_CHECKING:
    import keras

SIZE = 63
# Training, calibration, validation and golden stamps use others.
_SEED = 77_000
_MIDDLE = 23


@dataclass(frozen=True, slots=True)
class Labelled:
    """Stamps, float32 (N, H, W, C) as the network sees them, and which are real, bool (N,)."""

    stamps: NDArray[np.float32]
    real: NDArray[np.bool_]


def card(name: str = "braai_like", **changes) -> StampModel:
    """A card of 63x63 px, of stamps of sources that brighten or fade."""
    said = StampModel(
        name=name,
        trained_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
        input=TensorSpec(name="triplet", shape=(-1, 1, SIZE, SIZE)),
        output=TensorSpec(name="probability", shape=(-1, 1, 1, 1)),
        polarities=(1, -1),
        scaling="l2",
    )
    return msgspec.structs.replace(said, **changes)


def labelled(card: StampModel, fields: int, seed: int = _SEED) -> Labelled:
    """The stamps of the candidates of simulated fields."""
    stamps, real = [], []
    for number in range(fields):
        field = simulate(seed + number, mixed_recipe(number))
        exposure, truth = Exposure.from_array(field.difference), transients_of(field)
        candidates = judged_candidates(exposure, card, truth)
        inference = prepare_exposure(exposure, card, candidates)
        stamps.append(inference.batch(0, len(inference)).transpose(0, 2, 3, 1))
        real.append(np.arange(len(inference)) < len(truth))
    return Labelled(np.concatenate(stamps), np.concatenate(real))


def braai_like(outputs: int = 1, channels: int = 1, size: int = SIZE) -> "keras.Model":
    """Convolutions, pooling, dense, and a sigmoid of one or a softmax of several: as braai has."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((size, size, channels), name="triplet"),
            # Seconds of training are enough for the middle alone.
            layers.Cropping2D((size - _MIDDLE) // 2),
            layers.BatchNormalization(),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.1),
            layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax"),
        ],
        name="braai_like" if outputs == 1 else "two_classes",
    )


def trained(outputs: int, data: Labelled, epochs: int = 9) -> "keras.Model":
    """A classifier that has learned to tell sources from artefacts; of two, the second is real."""
    model = braai_like(outputs)
    loss = "binary_crossentropy" if outputs == 1 else "sparse_categorical_crossentropy"
    model.compile("adam", loss)
    model.fit(data.stamps, data.real.astype(np.float32), batch_size=32, epochs=epochs, verbose=0)
    return model
