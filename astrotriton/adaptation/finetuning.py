"""The champion goes on learning, from a survey's own exposures and from simulated ones.

Simulated fields are half of what it is shown, so that it forgets nothing of the sky it knew.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from astrotriton.detection.card import UNetModel
from astrotriton.detection.image.normalisation import OF_COMPANIONS
from astrotriton.detection.quality.labelled import LabelledField
from astrotriton.training.calibrate import calibration_fields, labelled
from astrotriton.training.crops import PLANES, Batch, Examples, crops, example
from astrotriton.training.learning import learn
from astrotriton.wire.exposures import COMPANIONS

if TYPE_CHECKING:
    import keras

# Simulated fields to remember; calibration's seeds from these on are nobody's.
_REMEMBERED_FROM = 500_000
_CROP = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuning:
    """How the champion goes on learning.

    Attributes
    ----------
    seed
        Of what is injected, drawn and left out.
    epochs, steps, batch
        Crops of 128x128 pixels; ``steps`` batches an epoch.
    learning_rate
        At its highest; it falls as a cosine.
    remembered
        Simulated fields that half of the crops come from: at most so many, and as many as there are
        of the survey.
    left_out
        Share of the crops that each of science and template is left out of.
    """

    seed: int = 1
    epochs: int = 60
    steps: int = 40
    batch: int = 16
    learning_rate: float = 1e-3
    remembered: int = 300
    left_out: float = 0.3


def finetune(
    network: "keras.Model",
    card: UNetModel,
    fields: Iterable[LabelledField],
    how: Finetuning,
    folder: Path,
    on_progress: Callable[[str], None] = print,
) -> "keras.Model":
    """A network that goes on from another one's weights; the other one is left as it is.

    Parameters
    ----------
    network
        Takes (N, H, W, C) and answers (N, H, W, P), the first of P as the card's polarities.
    card
        Of it.
    fields
        Of the survey, with injected transients.
    how
        For how long, and how.
    folder
        Keeps what is needed to go on where a former run of the same ended.
    on_progress
        Told of each epoch, with the time that remains.
    """
    import keras  # slow to import

    keras.utils.set_random_seed(how.seed)
    own = examples_of(list(fields), card)
    count = min(how.remembered, len(own))
    on_progress(f"simulating {count} fields to remember")
    kept = calibration_fields(how.seed, _REMEMBERED_FROM, _REMEMBERED_FROM + count)
    remembered = examples_of([labelled(field) for field in kept], card)
    learner = keras.models.clone_model(
        network, input_tensors=keras.Input((_CROP, _CROP, network.input_shape[-1]))
    )
    learner.set_weights(network.get_weights())
    channels = [PLANES.index(plane) for plane in card.planes]
    polarities = [(1, -1).index(sign) for sign in card.polarities]
    half = how.batch // 2

    def batches() -> Iterator[Batch]:
        streams = [
            crops(one, batch=half, side=_CROP, left_out=how.left_out, seed=how.seed + i)
            for i, one in enumerate((own, remembered))
        ]
        while True:
            x, y, weight = (
                np.concatenate(parts) for parts in zip(*map(next, streams), strict=True)
            )
            yield x[..., channels], y[..., polarities], weight

    first = 0  # epoch of this run

    def report(epoch: int, loss: float, seconds: float) -> None:
        nonlocal first
        first = first or epoch
        left = seconds / (epoch - first + 1) * (how.epochs - epoch)
        on_progress(f"epoch {epoch}/{how.epochs}  loss {loss:.5f}  {left / 60:.0f} min remain")

    learn(
        learner,
        batches(),
        epochs=how.epochs,
        steps=how.steps,
        learning_rate=how.learning_rate,
        warm_up=0.1,
        folder=folder,
        on_epoch=report,
    )
    tuned = keras.models.clone_model(network)
    tuned.set_weights(learner.get_weights())
    return tuned


def examples_of(fields: list[LabelledField], card: UNetModel) -> Examples:
    """What a network is shown of fields, on images of the same size; what is NaN does not count."""
    height, width = (max(one.image.shape[axis] for one in fields) for axis in (0, 1))
    height, width = max(height, _CROP), max(width, _CROP)
    names = COMPANIONS if card.companions else ()
    images = np.zeros((len(fields), height, width, 1 + len(names)), np.float16)
    targets = np.zeros((len(fields), height, width, 2), np.uint8)
    there = np.zeros((len(fields), len(names)), bool)
    counted = np.zeros((len(fields), height, width), bool)
    companions = {name: card.plane_normalisations.get(name, OF_COMPANIONS) for name in names}
    for i, field in enumerate(fields):
        rows, columns = field.image.shape
        known = field.showing(card.plane_normalisations)
        seen, wanted = example(known, card.normalisation, companions)
        images[i, :rows, :columns], targets[i, :rows, :columns] = seen, wanted
        there[i] = [name in known.companions for name in names]
        counted[i, :rows, :columns] = np.isfinite(field.image)
    return Examples(images, targets, there, counted)
