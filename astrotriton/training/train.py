"""Training of the reference U-Net on simulated fields.

The target is 1 within `TARGET_RADIUS` of a transient's centre and 0 elsewhere, so each channel of
the network's output means: the probability that a real source that brightens, or one that fades, is
centred within 2 px of this pixel. Half of what it is shown is negated, with the channels exchanged,
so that it is as good at either.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Image
from astrotriton.detection.card import Domain, TensorSpec, UNetModel
from astrotriton.detection.image.normalisation import Normalisation
from astrotriton.detection.image.preprocess import normalise
from astrotriton.simulation.fields import Field, simulate
from astrotriton.simulation.recipe import ARTEFACTS, mixed_recipe
from astrotriton.training.calibrate import calibrated
from astrotriton.training.network import build_unet
from astrotriton.training.weights import CARD_FILE, WEIGHTS_FILE, load_card, load_network

TARGET_RADIUS = 2.0
POLARITIES: tuple[Literal[1, -1], ...] = (1, -1)  # of the channels
TILE = (512, 512)
NORMALISATION = Normalisation()
DOMAIN = Domain(seeing_fwhm=ARTEFACTS.fwhm, snr=ARTEFACTS.bright_snr)
PEAK_THRESHOLD = 0.03
# Seeds of training, validation and calibration fields never meet.
VALIDATION_SEEDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How to train from nothing; the committed card says how its weights were made.

    Attributes
    ----------
    seed
        Seed of the fields, of the crops and of the weights' initialisation.
    fields
        Number of simulated 512x512 training fields; one in four holds noise and transients only.
    validation_fields
        Number of further fields that early figures are computed on.
    epochs, steps, batch, crop
        Crops of ``crop`` x ``crop`` pixels; ``steps`` batches an epoch.
    filters
        Filters of the network's first level.
    learning_rate
        Peak of the cosine schedule.
    """

    seed: int = 20261128
    fields: int = 2000
    validation_fields: int = 32
    epochs: int = 200
    steps: int = 40
    batch: int = 16
    crop: int = 128
    filters: int = 8
    learning_rate: float = 3e-3


def target(field: Field) -> NDArray[np.uint8]:
    """uint8 (H, W, 2): 1 within `TARGET_RADIUS` pixels of a transient of each of `POLARITIES`."""
    height, width = field.difference.shape
    wanted = np.zeros((height, width, len(POLARITIES)), np.uint8)
    for source in field.of_kind("transient"):
        left, low = max(0, int(source.x) - 3), max(0, int(source.y) - 3)
        rows, columns = np.mgrid[low : min(height, low + 8), left : min(width, left + 8)]
        near = np.hypot(columns - source.x, rows - source.y) <= TARGET_RADIUS
        wanted[rows[near], columns[near], POLARITIES.index(source.polarity)] = 1
    return wanted


def _example(index: int, seed: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """The normalised image, as float16 to save memory, and the target of one field."""
    field = simulate(seed + index, mixed_recipe(index))
    prepared = normalise(field.difference, ~np.isfinite(field.difference), NORMALISATION)
    return prepared.image().astype(np.float16), target(field)


def _examples(count: int, seed: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    with ProcessPoolExecutor() as pool:
        made = list(pool.map(partial(_example, seed=seed), range(count), chunksize=8))
    return np.stack([image for image, _ in made]), np.stack([wanted for _, wanted in made])


def _crops(
    images: NDArray[np.float16], targets: NDArray[np.uint8], how: Training
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Endless batches of random crops, (N, crop, crop, 1), and of their targets by sign, (..., 2).

    They are flipped, turned and negated at random: what fades is what brightens with the epochs
    exchanged.
    """
    rng = np.random.default_rng(how.seed)
    shape = (how.batch, how.crop, how.crop)
    while True:
        x, y = np.empty(shape, np.float32), np.empty((*shape, len(POLARITIES)), np.float32)
        for i in range(how.batch):
            index = int(rng.integers(len(images)))
            row, column = rng.integers(0, images.shape[1] - how.crop + 1, size=2)
            turns, flip, negate = int(rng.integers(4)), bool(rng.integers(2)), rng.integers(2)
            for source, batch in ((images, x), (targets, y)):
                crop = source[index, row : row + how.crop, column : column + how.crop]
                crop = np.rot90(crop, turns)
                batch[i] = crop[:, ::-1] if flip else crop
            if negate:
                x[i], y[i] = -x[i], y[i, ..., ::-1].copy()
        yield x[..., None], y


def train(
    how: Training,
    folder: Path,
    on_progress: Callable[[str], None] = print,
    *,
    start: Path | None = None,
) -> None:
    """Train, fit the confidence, and write the weights and their card into ``folder``.

    ``start`` is a folder with weights of as many filters and channels to go on from, which takes
    half of the time. None: start from nothing.
    """
    import keras  # slow to import

    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(how.seed)
    on_progress(f"simulating {how.fields} fields")
    images, targets = _examples(how.fields, how.seed)
    held_out, held_out_targets = _examples(how.validation_fields, how.seed + VALIDATION_SEEDS)

    network = build_unet((how.crop, how.crop), filters=how.filters, answers=len(POLARITIES))
    if start is not None:
        network.set_weights(load_network(start).get_weights())
    steps = how.epochs * how.steps
    schedule = keras.optimizers.schedules.CosineDecay(
        how.learning_rate / 10, steps, warmup_target=how.learning_rate, warmup_steps=steps // 20
    )
    # XLA takes two thirds of the processor time.
    network.compile(
        keras.optimizers.Adam(schedule), keras.losses.BinaryCrossentropy(), jit_compile=True
    )
    started = time.monotonic()

    def report(epoch: int, logs: dict[str, float]) -> None:
        minutes = (time.monotonic() - started) / 60
        on_progress(f"epoch {epoch + 1}/{how.epochs}  loss {logs['loss']:.5f}  {minutes:.1f} min")

    network.fit(
        _crops(images, targets, how),
        epochs=how.epochs,
        steps_per_epoch=how.steps,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=report),
            # A training that was ended goes on where it was.
            keras.callbacks.BackupAndRestore(str(folder / "unfinished")),
        ],
    )
    full = build_unet(TILE, filters=how.filters, answers=len(POLARITIES))
    full.set_weights(network.get_weights())
    full.compile(loss=keras.losses.BinaryCrossentropy())
    loss = float(
        full.evaluate(
            held_out[..., None].astype(np.float32),
            held_out_targets.astype(np.float32),
            batch_size=4,
            verbose=0,
        )
    )
    on_progress(f"held-out loss {loss:.5f}")
    card = UNetModel(
        name=full.name,
        trained_at=datetime.now(UTC).replace(microsecond=0),
        training_metrics={"held_out_loss": round(loss, 6)},
        training_parameters=asdict(how),
        input=TensorSpec(name="image", shape=(-1, 1, *TILE)),
        output=TensorSpec(name="probability", shape=(-1, len(POLARITIES), *TILE)),
        polarities=POLARITIES,
        normalisation=NORMALISATION,
        domain=DOMAIN,
        threshold=PEAK_THRESHOLD,
    )
    full.save_weights(folder / WEIGHTS_FILE)
    (folder / CARD_FILE).write_bytes(card.to_json())
    recalibrate(folder, on_progress)


def recalibrate(folder: Path, on_progress: Callable[[str], None] = print) -> None:
    """Fit the confidence of the weights in ``folder`` anew, and write it into their card."""
    card, network = load_card(folder), load_network(folder)

    def predict(tiles: Image) -> Image:
        answer: Image = np.moveaxis(
            network.predict(np.moveaxis(tiles, 1, -1), batch_size=8, verbose=0), -1, 1
        )
        return answer

    seed = int(card.training_parameters["seed"])
    card = calibrated(card, predict, seed=seed, on_progress=on_progress)
    (folder / CARD_FILE).write_bytes(card.to_json())
    on_progress(f"wrote {folder / WEIGHTS_FILE} and {CARD_FILE}")
