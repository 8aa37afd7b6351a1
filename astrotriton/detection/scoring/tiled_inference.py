"""One exposure on its way through the network, tile by tile."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Image, Mask, Polarities, Positions, Stamps, Values
from astrotriton.detection.card import ModelCard
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.preprocess import Normalised
from astrotriton.detection.image.resize import resize
from astrotriton.detection.image.tiling import Tile, padded, plan, undo_views, views_of
from astrotriton.detection.sources.candidates import Unplaced, extract
from astrotriton.detection.sources.centroids import DEFAULT_FWHM, centroids
from astrotriton.detection.sources.measurements import filter_responses
from astrotriton.detection.sources.peaks import find_peaks
from astrotriton.detection.sources.psf import psf_of_image
from astrotriton.detection.sources.spots import NOISE_RADIUS, Spots, Surroundings
from astrotriton.wire.detections import Candidate

Predict = Callable[[Image], Image]
"""What answers tiles: float32 (N, C, H, W) normalised pixels to (N, P, H, W) probabilities.

The first P are those of the card's ``polarities``.
"""

# Places at which the noise is sampled in a whole exposure, and at least in each tile.
_NOISE_SAMPLES = 2000
_NOISE_SAMPLES_PER_TILE = 16
# A peak this close to what a tile answers for is taken too: its centroid may lie on the other side.
_MARGIN = 2


@dataclass(frozen=True, slots=True)
class _Seen:
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


@dataclass(slots=True)
class _Pending:
    """A tile that the network is looking at."""

    tile: Tile
    surroundings: Surroundings
    answers: Image
    missing: int
    looked_at: bool = False
    seen: _Seen | None = None


@dataclass(frozen=True, slots=True)
class _Harvest:
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


class TiledInference:
    """An exposure on its way: `batch` gives the network's inputs, `accept` takes its answers.

    Both may be called from several threads at once, and `look` meanwhile. Inputs are numbered:
    ``views`` for each tile, one tile after the other. What a tile has to say is read off as soon as
    its last view is answered, and the tile is then dropped.

    Parameters
    ----------
    exposure
        What was sent.
    card
        The model that is asked.
    candidates
        Sources to score; None: SEP extracts them.
    views
        1, or 8: every tile is also shown turned and mirrored, and the answers are averaged.
    polarity
        1 or -1: look for sources that brighten, or that fade, alone; None: for all that the network
        looks for. One that does not look for them is shown the negative of the exposure.
    unplaced
        What else the caller sent, and lies nowhere on the exposure: no tile answers for it.

    Attributes
    ----------
    tiles
        Where the tiles lie.
    normalised
        The exposure as the network sees it.
    polarities
        What is looked for: 1, sources that brighten, -1, sources that fade.
    psf
        What the caller's image of it shows; None without one.

    Raises
    ------
    InputError
        If the exposure has no noise, or the image of the PSF shows none.
    """

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
        self._sign = -1 if polarity is not None and polarity not in card.polarities else 1
        answered = {self._sign * one: channel for channel, one in enumerate(card.polarities)}
        self.polarities = [one for one in answered if polarity in (None, one)]
        self._channels = [answered[one] for one in self.polarities]
        self.unplaced = unplaced
        self.normalised = Normalised(
            exposure.pixels, exposure.shape, card.normalisation, exposure.spread
        )
        self.psf = None if exposure.psf is None else psf_of_image(exposure.psf)
        self._seen, self._answered, overlap = card.footprint
        self.tiles = plan(exposure.shape, self._answered, overlap)
        self._asked = np.array(
            [(one.x, one.y) for one in candidates or ()], dtype=np.float64
        ).reshape(-1, 2)
        # A network without padding sees this much around what it answers for.
        self._border = tuple(
            (seen - answered) // 2
            for seen, answered in zip(self._seen, self._answered, strict=True)
        )
        self._lock = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        self._harvests: dict[int, _Harvest] = {}

    def __len__(self) -> int:
        """Number of inputs that the network is to answer."""
        return len(self.tiles) * self.views

    def batch(self, start: int, stop: int) -> Image:
        """Inputs ``start`` to ``stop``, float32 (N, C, H, W); all channels show the same."""
        first, last = start // self.views, -(-stop // self.views)
        views = itertools.chain.from_iterable(self._show(index) for index in range(first, last))
        shown = itertools.islice(views, start - first * self.views, stop - first * self.views)
        batch = np.empty((stop - start, *self.card.input.shape[1:]), np.float32)
        for channels, view in zip(batch, shown, strict=True):
            channels[:] = view
        return batch

    def sample(self, most: int) -> Image:
        """At most so many tiles as they are, evenly spread over the exposure, (N, C, H, W)."""
        chosen = np.unique(np.linspace(0, len(self.tiles) - 1, most).round().astype(int))
        first = [int(index) * self.views for index in chosen]
        return np.concatenate([self.batch(start, start + 1) for start in first])

    def answer(self, predict: Predict, size: int) -> Self:
        """Let a network in this process answer everything, ``size`` inputs at a time; self."""
        for start in range(0, len(self), size):
            self.accept(start, predict(self.batch(start, min(start + size, len(self)))))
        return self

    def look(self, start: int, stop: int) -> None:
        """Do of `accept` what needs no answers: the time that the network takes is enough for it.

        It may be left out, come late, or be repeated.
        """
        for index in range(start // self.views, -(-stop // self.views)):
            with self._lock:
                pending = self._pending.get(index)
                if pending is None or pending.looked_at:
                    continue
                pending.looked_at = True
            pending.seen = self._see(pending)

    def accept(self, start: int, probabilities: Image) -> None:
        """Take the network's answers to the inputs from ``start`` on, float32 (N, P, H, W)."""
        for number, answer in enumerate(probabilities[:, self._channels], start):
            index, view = divmod(number, self.views)
            with self._lock:
                pending = self._pending[index]
                pending.answers[view] = answer
                pending.missing -= 1
                complete = pending.missing == 0
            if complete:
                harvest = self._harvest(pending)
                with self._lock:
                    self._harvests[index] = harvest
                    del self._pending[index]

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

    def _complete(self) -> list[_Harvest]:
        """What every tile had to say, in the order of the tiles."""
        if (missing := len(self.tiles) - len(self._harvests)) > 0:
            raise RuntimeError(f"{missing} of {len(self.tiles)} tiles have not been answered")
        return [self._harvests[index] for index in range(len(self.tiles))]

    def _show(self, index: int) -> list[Image]:
        """The views of one tile, each float32 (H, W)."""
        tile = self.tiles[index]
        border, shape = self._border, self.exposure.shape
        rows = tile.rows.around(border[0], shape[0])
        columns = tile.columns.around(border[1], shape[1])
        significance, mask, saturated = self.normalised.piece(
            rows, columns, self.exposure.saturation
        )
        # What lies outside the exposure, before its beginning.
        place = (
            border[0] + rows.start - tile.rows.start,
            border[1] + columns.start - tile.columns.start,
        )
        image = self.normalised.view(padded(significance, self._seen, place))
        if self._sign < 0:
            np.negative(image, out=image)
        answered = np.s_[
            tile.rows.start - rows.start : tile.rows.stop - rows.start,
            tile.columns.start - columns.start : tile.columns.stop - columns.start,
        ]
        with self._lock:
            if index not in self._pending:
                _, noise = self.normalised.maps(rows, columns)
                channels = len(self._channels)
                answers = np.empty((self.views, channels, *self.card.answer_size), np.float32)
                around = Surroundings(
                    np.ascontiguousarray(significance[answered]),
                    np.ascontiguousarray(mask[answered]),
                    np.ascontiguousarray(saturated[answered]),
                    np.ascontiguousarray(noise[answered] / np.float32(self.normalised.noise)),
                )
                self._pending[index] = _Pending(tile, around, answers, self.views)
        return views_of(image, self.views)

    def _see(self, pending: _Pending) -> _Seen:
        """Find what the tile answers for among the candidates."""
        around, tile = pending.surroundings, pending.tile
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
            inside = _answered(asked, tile, 0)
            asked, brightness, flags = asked[inside], brightness[inside], flags[inside]
            polarity, number = polarity[inside], np.arange(len(asked))
        else:
            number = np.flatnonzero(_answered(self._asked - origin, tile, 0))
            asked, brightness = self._asked[number] - origin, np.full(len(number), np.nan)
            flags = np.zeros(len(number), np.int32)
            polarity = self._allowed(around.polarity(asked))
        asked, windows = centroids(around.significance, around.mask, asked, polarity)
        places = self._noise_places(tile, around.mask)
        noise = around.stamps(places, NOISE_RADIUS)
        return _Seen(
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

    def _harvest(self, pending: _Pending) -> _Harvest:
        """Read off a tile what it answers for."""
        around, tile = pending.surroundings, pending.tile
        seen = pending.seen or self._see(pending)
        height, width = around.mask.shape
        whole = [
            np.stack([resize(channel, self._answered) for channel in answer])
            for answer in undo_views(pending.answers)
        ]
        answers = np.stack(whole)[..., :height, :width]
        mean = answers[0] if self.views == 1 else answers.mean(axis=0)

        found = [
            find_peaks(channel, around.mask, self.card.threshold, self.card.nms_radius)[0]
            for channel in mean
        ]
        peaks = np.concatenate(found)
        channel = np.repeat(np.arange(len(found)), [len(one) for one in found])
        polarity = np.array(self.polarities, np.int8)[channel]
        peaks, flags = centroids(around.significance, around.mask, peaks, polarity)
        inside = _answered(peaks, tile, _MARGIN)
        peaks, flags, channel = peaks[inside], flags[inside], channel[inside]
        # Peaks first, which are nobody's candidates.
        nobody, unknown = np.full(len(peaks), -1, np.intp), np.full(len(peaks), np.nan)
        spots = around.read(
            answers,
            self.polarities,
            np.concatenate([peaks, seen.positions]),
            (tile.columns.start, tile.rows.start),
            np.concatenate([channel, np.full(len(seen.positions), -1)]),
            np.concatenate([nobody, seen.candidates]),
            np.concatenate([unknown, seen.brightness]),
            np.concatenate([flags, seen.flags]),
        )
        own = around.saturated[tile.rows.own, tile.columns.own]
        stamps = np.concatenate([around.stamps(peaks).astype(np.float16), seen.stamps])
        stamps[spots.polarity < 0] *= -1
        return _Harvest(
            spots=spots,
            stamps=stamps,
            noise_stamps=np.concatenate(
                [around.noise_stamps(peaks).astype(np.float16), seen.noise_stamps]
            ),
            noise=seen.noise,
            local=seen.local,
            places=seen.places,
            responses=seen.responses,
            saturated=int(np.count_nonzero(own)),
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


def _answered(positions: Positions, tile: Tile, margin: int) -> Mask:
    """Which positions in a tile it answers for, bool (N,): pixel centres mark the borders."""
    result = np.ones(len(positions), bool)
    for axis, span in enumerate((tile.columns, tile.rows)):
        where = np.rint(positions[:, axis] + span.start)
        # The first and the last pixel take what lies up to half a pixel outside.
        where = np.maximum(where, 0)
        result &= (where >= span.low - margin) & (where < span.high + margin)
    return result
