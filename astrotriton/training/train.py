"""Training of the reference U-Net on simulated fields."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.card import Domain, TensorSpec, UNetModel
from astrotriton.detection.image.normalisation import OF_COMPANIONS, Normalisation
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.recipe import ARTEFACTS, mixed_recipe
from astrotriton.training.calibrate import calibrated, labelled
from astrotriton.training.crops import PLANES, POLARITIES, Examples, crops, example, shown
from astrotriton.training.learning import learn
from astrotriton.training.network import build_unet, predicting
from astrotriton.training.weights import CARD_FILE, WEIGHTS_FILE, load_card, load_network
from astrotriton.wire.exposures import COMPANIONS

if TYPE_CHECKING:
    import keras

TILE = (512, 512)
NORMALISATION = Normalisation()
DOMAIN = Domain(seeing_fwhm=ARTEFACTS.fwhm, snr=ARTEFACTS.bright_snr)
PEAK_THRESHOLD = 0.03
#: `Training.on_star` with planes. Most of what varies in the sky is in the template already; a
#: network that sees this too seldom takes whatever lies on a star for what is left of the star.
VARIABLE_STARS = 0.3
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
    planes
        Whether the network looks at science and template, as far as they are there.
    left_out
        Share of the crops from which one of them is left out, for each.
    on_star
        Share of the transients that are a star which varies.
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
    planes: bool = False
    left_out: float = 0.3
    on_star: float = ARTEFACTS.on_star

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return len(PLANES) if self.planes else 1


def _example(index: int, seed: int, how: Training) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """What is shown of one field, float16 to save memory, and its target."""
    field = simulate(seed + index, replace(mixed_recipe(index), on_star=how.on_star))
    companions = dict.fromkeys(COMPANIONS if how.planes else (), OF_COMPANIONS)
    seen, wanted = example(labelled(field), NORMALISATION, companions)
    return seen.astype(np.float16), wanted


def examples(count: int, seed: int, how: Training) -> Examples:
    """Simulated fields to learn from, or to look at meanwhile; their seeds begin at ``seed``."""
    images = np.empty((count, *TILE, 1 + how.planes * len(COMPANIONS)), np.float16)
    targets = np.empty((count, *TILE, len(POLARITIES)), np.uint8)
    make = partial(_example, seed=seed, how=how)
    with ProcessPoolExecutor() as pool:
        for i, made in enumerate(pool.map(make, range(count), chunksize=8)):
            images[i], targets[i] = made
    return Examples.known(images, targets)


def train(
    how: Training,
    folder: Path,
    on_progress: Callable[[str], None] = print,
    *,
    start: Path | None = None,
) -> None:
    """Train, fit the confidence, and write the weights and their card into ``folder``.

    ``start`` is a folder with weights of as many filters to go on from, which takes half of the
    time; a network of planes may go on from one that knows the difference alone. None: start from
    nothing.
    """
    import keras  # slow to import

    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(how.seed)
    on_progress(f"simulating {how.fields} fields")
    learned = examples(how.fields, how.seed, how)
    held_out = examples(how.validation_fields, how.seed + VALIDATION_SEEDS, how)

    build = partial(build_unet, channels=how.channels, filters=how.filters, answers=len(POLARITIES))
    network = build((how.crop, how.crop))
    if start is not None:
        network.set_weights(_widened(load_network(start).get_weights(), how.channels))

    def report(epoch: int, loss: float, seconds: float) -> None:
        on_progress(f"epoch {epoch}/{how.epochs}  loss {loss:.5f}  {seconds / 60:.1f} min")

    batches = crops(learned, batch=how.batch, side=how.crop, left_out=how.left_out, seed=how.seed)
    learn(
        network,
        batches,
        epochs=how.epochs,
        steps=how.steps,
        learning_rate=how.learning_rate,
        warm_up=0.05,
        folder=folder,
        on_epoch=report,
    )
    full = build(TILE)
    full.set_weights(network.get_weights())
    full.compile(loss=keras.losses.BinaryCrossentropy())
    metrics = _losses(full, held_out)
    on_progress(", ".join(f"{name.replace('_', ' ')} {loss:.5f}" for name, loss in metrics.items()))
    card = UNetModel(
        name=full.name,
        trained_at=datetime.now(UTC).replace(microsecond=0),
        training_metrics={name: round(loss, 6) for name, loss in metrics.items()},
        training_parameters=asdict(how),
        input=TensorSpec(name="image", shape=(-1, how.channels, *TILE)),
        output=TensorSpec(name="probability", shape=(-1, len(POLARITIES), *TILE)),
        polarities=POLARITIES,
        normalisation=NORMALISATION,
        domain=DOMAIN,
        threshold=PEAK_THRESHOLD,
    )
    if how.planes:
        card = msgspec.structs.replace(
            card,
            planes=PLANES,
            optional_planes=COMPANIONS,
            plane_normalisations=dict.fromkeys(COMPANIONS, OF_COMPANIONS),
        )
    full.save_weights(folder / WEIGHTS_FILE)
    (folder / CARD_FILE).write_bytes(card.to_json())
    recalibrate(folder, on_progress)


def _widened(weights: list[NDArray[Any]], channels: int) -> list[NDArray[Any]]:
    """The same network with more channels, which it does not look at yet."""
    kernel, *rest = weights
    missing = channels - kernel.shape[2]
    return [np.pad(kernel, ((0, 0), (0, 0), (0, missing), (0, 0))), *rest]


def _losses(network: "keras.Model", held_out: Examples) -> dict[str, float]:
    """Of fields that training has not seen; of a network of planes, also without any."""
    companions = held_out.images.shape[-1] - 1
    kinds = {"held_out_loss": True} | ({"held_out_loss_alone": False} if companions else {})
    wanted = held_out.targets.astype(np.float32)
    found = {}
    for name, sent in kinds.items():
        there = np.full(companions, sent)
        seen = np.stack([shown(image.astype(np.float32), there) for image in held_out.images])
        found[name] = float(network.evaluate(seen, wanted, batch_size=4, verbose=0))
    return found


def recalibrate(folder: Path, on_progress: Callable[[str], None] = print) -> None:
    """Fit the confidence of the weights in ``folder`` anew, and write it into their card."""
    card, network = load_card(folder), load_network(folder)

    seed = int(card.training_parameters["seed"])
    card = calibrated(card, predicting(network), seed=seed, on_progress=on_progress)
    (folder / CARD_FILE).write_bytes(card.to_json())
    on_progress(f"wrote {folder / WEIGHTS_FILE} and {CARD_FILE}")
