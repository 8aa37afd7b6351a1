"""An exposure on its way through a network of any family."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Image, Mask, Polarities, Positions, Stamps, Values
from astrotriton.detection.card import ModelCard
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.preprocess import Normalised
from astrotriton.detection.image.tiling import Tile
from astrotriton.detection.scoring.channels import Channels, is_negative
from astrotriton.detection.sources.candidates import Unplaced, extract
from astrotriton.detection.sources.centroids import DEFAULT_FWHM, centroids
from astrotriton.detection.sources.measurements import filter_responses
from astrotriton.detection.sources.psf import psf_of_image
from astrotriton.detection.sources.spots import NOISE_RADIUS, Spots, Surroundings
from astrotriton.wire.detections import Candidate
from astrotriton.wire.exposures import Companion

Predict = Callable[[Image], Image]
"""What answers images: float32 (N, C, H, W) normalised pixels to (N, P, H, W) probabilities.

The first P are those of the card's ``polarities``. One number for each image is (N, 1, 1, 1).
"""

# Places at which the noise is sampled in a whole exposure, and at least in each tile.
_NOISE_SAMPLES = 2000
_NOISE_SAMPLES_PER_TILE = 16


@dataclass(frozen=True, slots=True)
class Seen:
    """What is read off a tile whatever the network answers.

    The candidates that it answers for, where their centroids are, with SEP's flags and brightness,
    and their stamps as they are in the exposure; and stamps of the noise, with the responses of a
    filter of `DEFAULT_FWHM`.
    """

    candidates: NDArray[np.intp]
    positions: Positions
    flags: NDArray[np.int32]
    brightness: Values
    stamps: Stamps
    noise_stamps: Stamps
    noise: Image
    local: Values
    places: Positions
    responses: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Harvest:
    """What an answered tile had to say: spots and noise with their stamps, saturated pixels.

    The stamps of sources that fade are negated, so that every source is measured alike.
    """

    spots: Spots
    stamps: Stamps
    noise_stamps: Stamps
    noise: Image
    local: Values
    places: Positions
    responses: NDArray[np.float32]
    saturated: int


class Inference(ABC):
    """An exposure on its way: `batch` gives the network's inputs, `accept` takes its answers.

    Both may be called from several threads at once, and `look` meanwhile. Inputs are numbered, and
    ``views`` of them, one after the other, show the same.

    Parameters
    ----------
    exposure
        What was sent.
    card
        The model that is asked.
    candidates
        Sources to score; None: SEP extracts them.
    views
        1, or 8: everything is also shown turned and mirrored, and the answers are averaged.
    polarity
        1 or -1: look for sources that brighten, or that fade, alone; None: for all that the network
        looks for. One that does not look for them is shown the negative of the exposure.
    unplaced
        What else the caller sent, and lies nowhere on the exposure: nothing is shown of it.

    Attributes
    ----------
    tiles
        What the exposure is read in.
    normalised
        The exposure's significance, and what a U-Net sees of it.
    channels
        What the channels of an input show.
    normalised_images
        The same of the science and the template image, where the network uses them, by plane; none
        for one that sees their pixels as they are.
    polarities
        What is looked for: 1, sources that brighten, -1, sources that fade.
    psf
        What the caller's image of it shows; None without one.
    together
        Inputs that a request to Triton may hold.
    one_number
        Whether the network answers one number for a candidate, so that there is no mean around it.

    Raises
    ------
    InputError
        If the exposure has no noise, the image of the PSF shows none, or the network needs an image
        that was not sent (see `Channels`).
    """

    together: ClassVar[int]
    one_number: ClassVar[bool]
    tiles: list[Tile]

    def __init__(
        self,
        exposure: Exposure,
        card: ModelCard,
        candidates: Sequence[Candidate] | None,
        *,
        views: int = 1,
        polarity: Literal[1, -1] | None = None,
        unplaced: Sequence[Unplaced] = (),
    ) -> None:
        self.exposure = exposure
        self.card = card
        self.candidates = candidates
        self.views = views
        # What fades brightens in the negative.
        self._sign = -1 if is_negative(card, polarity) else 1
        self.channels = Channels(card, exposure, negative=self._sign < 0)
        looked_for = [self._sign * one for one in card.polarities]
        self.polarities = [one for one in looked_for if polarity in (None, one)]
        self.unplaced = unplaced
        self.normalised = Normalised(
            exposure.pixels, exposure.shape, card.normalisation, exposure.spread
        )
        self.normalised_images = {
            plane: _normalised(plane, image, card)
            for plane, image in self.channels.images.items()
            if plane in card.plane_normalisations
        }
        self.psf = None if exposure.psf is None else psf_of_image(exposure.psf)
        self._asked = np.array(
            [(one.x, one.y) for one in candidates or ()], dtype=np.float64
        ).reshape(-1, 2)
        self._lock = threading.Lock()
        self._harvests: dict[int, Harvest] = {}

    @abstractmethod
    def __len__(self) -> int:
        """Number of inputs that the network is to answer."""

    @abstractmethod
    def batch(self, start: int, stop: int) -> Image:
        """Inputs ``start`` to ``stop``, float32 (N, C, H, W)."""

    @abstractmethod
    def look(self, start: int, stop: int) -> None:
        """Do of `accept` what needs no answers: the time that the network takes is enough for it.

        It may be left out, come late, or be repeated.
        """

    @abstractmethod
    def accept(self, start: int, probabilities: Image) -> None:
        """Take the network's answers to the inputs from ``start`` on, float32 (N, P, H, W)."""

    @property
    def shown(self) -> int:
        """Number of tiles or stamps that the network is shown, however often it is each."""
        return len(self) // self.views

    def sample(self, most: int) -> Image:
        """At most so many inputs as they are, evenly spread over all, (N, C, H, W)."""
        chosen = np.unique(np.linspace(0, self.shown - 1, most).round().astype(int))
        first = [int(index) * self.views for index in chosen]
        return np.concatenate([self.batch(start, start + 1) for start in first])

    def answer(self, predict: Predict, size: int) -> Self:
        """Let a network in this process answer everything, ``size`` inputs at a time; self."""
        for start in range(0, len(self), size):
            self.accept(start, predict(self.batch(start, min(start + size, len(self)))))
        return self

    def spots(self) -> Spots:
        """All that was read off the tiles.

        Raises
        ------
        RuntimeError
            If a tile has not been answered.
        """
        found, stamps = [], 0
        for tile in self._complete():
            found.append(replace(tile.spots, stamp=tile.spots.stamp + stamps))
            stamps += len(tile.stamps)
        return Spots.join(found)

    def stamps(self) -> Stamps:
        """Those that `spots` are numbered in."""
        return np.concatenate([tile.stamps for tile in self._complete()])

    def noise_stamps(self) -> Stamps:
        """The noise of the pixels of `stamps`, in units of the exposure's."""
        return np.concatenate([tile.noise_stamps for tile in self._complete()])

    def local_noise(self) -> Values:
        """Scatter of the significance at the places of `noise`, float64 (N,)."""
        return np.concatenate([tile.local for tile in self._complete()])

    def noise_places(self) -> Positions:
        """Where `noise` was taken, float64 (N, 2), 0-based pixels."""
        return np.concatenate([tile.places for tile in self._complete()])

    def noise(self) -> Image:
        """Stamps around places chosen regardless of what is there, float32 (N, 17, 17)."""
        first, *others = (tile.noise for tile in self._complete())
        return np.concatenate([first, *others]) if others else first

    def noise_responses(self) -> NDArray[np.float32]:
        """`filter_responses` to a filter of `DEFAULT_FWHM` at those places, float32 (M,)."""
        return np.concatenate([tile.responses for tile in self._complete()])

    def saturated_fraction(self) -> float | None:
        """Share of saturated pixels; None if the header does not say what that is."""
        if self.exposure.saturation is None:
            return None
        height, width = self.exposure.shape
        return sum(tile.saturated for tile in self._complete()) / (height * width)

    def _complete(self) -> list[Harvest]:
        """What every tile had to say, in the order of the tiles."""
        if (missing := len(self.tiles) - len(self._harvests)) > 0:
            raise RuntimeError(f"{missing} of {len(self.tiles)} tiles have not been answered")
        return [self._harvests[index] for index in range(len(self.tiles))]

    def _surroundings(
        self, significance: Image, mask: Mask, saturated: Mask, noise: Image
    ) -> Surroundings:
        """What a tile answers for; the noise is in counts."""
        return Surroundings(
            np.ascontiguousarray(significance),
            np.ascontiguousarray(mask),
            np.ascontiguousarray(saturated),
            np.ascontiguousarray(noise / np.float32(self.normalised.noise)),
        )

    def _see(self, tile: Tile, around: Surroundings) -> Seen:
        """Find what a tile answers for among the candidates."""
        origin = (tile.columns.start, tile.rows.start)
        if self.candidates is None:
            found = [
                extract(around.significance if one > 0 else -around.significance, around.mask)
                for one in self.polarities
            ]
            asked, brightness, flags = (
                np.concatenate(column) for column in zip(*found, strict=True)
            )
            polarity = np.repeat(self.polarities, [len(one[0]) for one in found]).astype(np.int8)
            inside = answered_by(asked, tile, 0)
            asked, brightness, flags = asked[inside], brightness[inside], flags[inside]
            polarity, number = polarity[inside], np.arange(len(asked))
        else:
            number = np.flatnonzero(answered_by(self._asked - origin, tile, 0))
            asked, brightness = self._asked[number] - origin, np.full(len(number), np.nan)
            flags = np.zeros(len(number), np.int32)
            polarity = self._allowed(around.polarity(asked))
        asked, windows = centroids(around.significance, around.mask, asked, polarity)
        places = self._noise_places(tile, around.mask)
        noise = around.stamps(places, NOISE_RADIUS)
        return Seen(
            candidates=number.astype(np.intp),
            positions=asked,
            flags=windows | flags,
            brightness=brightness,
            stamps=around.stamps(asked).astype(np.float16),
            noise_stamps=around.noise_stamps(asked).astype(np.float16),
            noise=noise,
            local=around.local.at(places),
            places=places + origin,
            responses=filter_responses(noise, DEFAULT_FWHM),
        )

    def _allowed(self, polarity: Polarities) -> Polarities:
        """The polarities, of which those that are not looked for are replaced."""
        return np.where(np.isin(polarity, self.polarities), polarity, self.polarities[0]).astype(
            np.int8
        )

    def _noise_places(self, tile: Tile, mask: Mask) -> Positions:
        """An even grid of usable pixels over what the tile answers for."""
        wanted = max(_NOISE_SAMPLES // len(self.tiles), _NOISE_SAMPLES_PER_TILE)
        across = max(2, round(wanted**0.5))
        rows, columns = (
            np.linspace(span.own.start, span.own.stop - 1, across).round()
            for span in (tile.rows, tile.columns)
        )
        x, y = (grid.ravel() for grid in np.meshgrid(columns, rows))
        usable = ~mask[y.astype(int), x.astype(int)]
        return np.stack([x[usable], y[usable]], axis=1)


def _normalised(plane: Companion, image: Exposure, card: ModelCard) -> Normalised:
    try:
        return Normalised(image.pixels, image.shape, card.plane_normalisations[plane])
    except InputError as error:
        error.field = plane
        raise


def answered_by(positions: Positions, tile: Tile, margin: int) -> Mask:
    """Which positions in a tile it answers for, bool (N,): pixel centres mark the borders."""
    result = np.ones(len(positions), bool)
    for axis, span in enumerate((tile.columns, tile.rows)):
        where = np.rint(positions[:, axis] + span.start)
        # The first and the last pixel take what lies up to half a pixel outside.
        where = np.maximum(where, 0)
        result &= (where >= span.low - margin) & (where < span.high + margin)
    return result
