"""What a U-Net is shown while it learns, and what it is to answer.

The target is 1 within `TARGET_RADIUS` of a transient's centre and 0 elsewhere, so each channel of
the network's output means: the probability that a real source that brightens, or one that fades, is
centred within 2 px of this pixel. Half of what it is shown is negated, with the channels exchanged,
so that it is as good at either.

A network of planes is shown the science image and the template as well, each left out at random,
and is told which are there; what the negative of a difference brightens by, its template has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.image.normalisation import Normalisation
from astrotriton.detection.image.preprocess import normalise
from astrotriton.detection.quality.labelled import LabelledField
from astrotriton.detection.quality.transients import Transients
from astrotriton.wire.exposures import COMPANIONS, Companion

TARGET_RADIUS = 2.0
POLARITIES: tuple[Literal[1, -1], ...] = (1, -1)  # of the channels
#: What a network of planes is shown, channel by channel; the images come first.
PLANES: tuple[str, ...] = ("difference", *COMPANIONS, *(f"has_{one}" for one in COMPANIONS))

Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Examples:
    """Normalised images of the same size, N of them, with their targets.

    Attributes
    ----------
    images
        float16 (N, H, W, K), to save memory: the difference, or the images of `PLANES`.
    targets
        uint8 (N, H, W, 2), as `target` makes them.
    there
        bool (N, K - 1): which of the companions are there; what is not is all zeros.
    counted
        bool (N, H, W): pixels that an answer counts in. False where nobody knows what is right.
    """

    images: NDArray[np.float16]
    targets: NDArray[np.uint8]
    there: NDArray[np.bool_]
    counted: NDArray[np.bool_]

    @classmethod
    def known(cls, images: NDArray[np.float16], targets: NDArray[np.uint8]) -> "Examples":
        """Examples of which all is there and all is known."""
        count, *shape = targets.shape[:3]
        there = np.ones((count, images.shape[-1] - 1), bool)
        return cls(images, targets, there, np.ones((count, *shape), bool))

    def __len__(self) -> int:
        return len(self.images)


def example(
    field: LabelledField,
    difference: Normalisation,
    companions: Mapping[Companion, Normalisation],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """What a network may be shown of a field, float32 (H, W, K), and its `target`.

    Parameters
    ----------
    field
        What is NaN in it is 0.
    difference, companions
        How each image is normalised; a companion that is not there is 0.
    """
    seen = [normalise(field.image, ~np.isfinite(field.image), difference).image()]
    for name, how in companions.items():
        image = field.companions.get(name)
        if image is None:
            seen.append(np.zeros_like(seen[0]))
        else:
            seen.append(normalise(image, ~np.isfinite(image), how).image())
    return np.stack(seen, axis=-1), target(field.transients, field.image.shape)


def target(transients: Transients, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 (H, W, 2): 1 within `TARGET_RADIUS` pixels of a transient of each of `POLARITIES`."""
    height, width = shape
    wanted = np.zeros((height, width, len(POLARITIES)), np.uint8)
    for (x, y), polarity in zip(transients.positions, transients.polarity, strict=True):
        left, low = max(0, int(x) - 3), max(0, int(y) - 3)
        rows, columns = np.mgrid[low : min(height, low + 8), left : min(width, left + 8)]
        near = np.hypot(columns - x, rows - y) <= TARGET_RADIUS
        wanted[rows[near], columns[near], POLARITIES.index(int(polarity))] = 1
    return wanted


def crops(
    examples: Examples, *, batch: int, side: int, left_out: float, seed: int
) -> Iterator[Batch]:
    """Endless batches of random crops, flipped, turned and negated at random.

    Parameters
    ----------
    examples
        What they are cut out of.
    batch, side
        Crops in a batch, and their rows and columns.
    left_out
        Share of the crops that a companion is left out of, for each companion.
    seed
        Of what is drawn.

    Yields
    ------
    float32 (batch, side, side, C)
        What the network is shown, as `shown` makes it.
    float32 (batch, side, side, 2)
        Its targets.
    float32 (batch, side, side)
        1 where an answer counts, and 0 elsewhere.
    """
    rng = np.random.default_rng(seed)
    images = examples.images
    shape = (batch, side, side)
    while True:
        x = np.empty((*shape, 2 * images.shape[-1] - 1), np.float32)
        y = np.empty((*shape, len(POLARITIES)), np.float32)
        weight = np.empty(shape, np.float32)
        for i in range(batch):
            index = int(rng.integers(len(images)))
            row, column = rng.integers(0, images.shape[1] - side + 1, size=2)
            turns, flip, negate = int(rng.integers(4)), bool(rng.integers(2)), rng.integers(2)

            place = index, slice(row, row + side), slice(column, column + side)
            image, wanted, counted = (
                np.rot90(source[place], turns)[:, :: -1 if flip else 1]
                for source in (images, examples.targets, examples.counted)
            )
            seen, there = np.asarray(image, np.float32), examples.there[index]
            if negate:
                # What fades is what brightens with the epochs exchanged.
                seen = np.concatenate([-seen[..., :1], seen[..., :0:-1]], axis=-1)
                wanted, there = wanted[..., ::-1], there[::-1]
            there = there & (rng.random(len(there)) >= left_out)
            x[i], y[i], weight[i] = shown(seen, there), wanted, counted
        yield x, y, weight


def shown(image: NDArray[np.float32], there: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What a network is shown, float32 (H, W, C): of images, those that are there, and which.

    Parameters
    ----------
    image
        float32 (H, W, K), as `Examples.images`.
    there
        bool (K - 1,), of its companions.
    """
    known = np.broadcast_to(there.astype(np.float32), (*image.shape[:-1], len(there)))
    return np.concatenate([image[..., :1], image[..., 1:] * known, known], axis=-1)
