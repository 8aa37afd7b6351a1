"""One exposure on its way through a U-Net, tile by tile."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from astrotriton.detection.arrays import Image
from astrotriton.detection.card import UNetModel
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.preprocess import Normalised
from astrotriton.detection.image.resize import resize
from astrotriton.detection.image.tiling import Tile, padded, plan, undo_view
from astrotriton.detection.scoring.channels import Shown, fill
from astrotriton.detection.scoring.inference import Harvest, Inference, Seen, answered_by
from astrotriton.detection.sources.candidates import Unplaced
from astrotriton.detection.sources.centroids import centroids
from astrotriton.detection.sources.peaks import find_peaks
from astrotriton.detection.sources.spots import Surroundings
from astrotriton.wire.detections import Candidate
from astrotriton.wire.exposures import Companion

# A peak this close to what a tile answers for is taken too: its centroid may lie on the other side.
_MARGIN = 2


@dataclass(slots=True)
class _Pending:
    """A tile that the network is looking at."""

    tile: Tile
    surroundings: Surroundings
    answers: Image
    missing: int
    looked_at: bool = False
    seen: Seen | None = None


class TiledInference(Inference):
    """An exposure on its way through a U-Net; see `Inference`.

    What a tile has to say is read off as soon as its last view is answered, and the tile is then
    dropped.
    """

    # Beside its file, what is on its way to Triton is most of what an exposure holds; an instance
    # does nothing while another has the last large request; and Triton joins requests where larger
    # batches are faster.
    together: ClassVar[int] = 2
    one_number: ClassVar[bool] = False
    card: UNetModel

    def __init__(
        self,
        exposure: Exposure,
        card: UNetModel,
        candidates: Sequence[Candidate] | None,
        *,
        views: int = 1,
        polarity: Literal[1, -1] | None = None,
        unplaced: Sequence[Unplaced] = (),
    ) -> None:
        super().__init__(
            exposure, card, candidates, views=views, polarity=polarity, unplaced=unplaced
        )
        self._channels = [card.polarities.index(self._sign * one) for one in self.polarities]
        self._seen, self._answered, overlap = card.footprint
        self.tiles = plan(exposure.shape, self._answered, overlap)
        # A network without padding sees this much around what it answers for.
        self._border = tuple(
            (seen - answered) // 2
            for seen, answered in zip(self._seen, self._answered, strict=True)
        )
        self._pending: dict[int, _Pending] = {}

    def __len__(self) -> int:
        """Number of inputs that the network is to answer."""
        return len(self.tiles) * self.views

    def batch(self, start: int, stop: int) -> Image:
        """See `Inference`."""
        first, last = start // self.views, -(-stop // self.views)
        views = itertools.chain.from_iterable(self._show(index) for index in range(first, last))
        shown = itertools.islice(views, start - first * self.views, stop - first * self.views)
        batch = np.empty((stop - start, *self.card.input.shape[1:]), np.float32)
        for channels, view in zip(batch, shown, strict=True):
            fill(channels, view)
        return batch

    def look(self, start: int, stop: int) -> None:
        """See `Inference`."""
        for index in range(start // self.views, -(-stop // self.views)):
            with self._lock:
                pending = self._pending.get(index)
                if pending is None or pending.looked_at:
                    continue
                pending.looked_at = True
            pending.seen = self._see(pending.tile, pending.surroundings)

    def accept(self, start: int, probabilities: Image) -> None:
        """See `Inference`."""
        for number, answer in enumerate(probabilities, start):
            index, view = divmod(number, self.views)
            upright = undo_view(answer, view)
            if self.card.normalisation.resize != 1.0:
                upright = np.stack([resize(one, self._answered) for one in upright])
            with self._lock:
                pending = self._pending[index]
            height, width = pending.surroundings.mask.shape
            pending.answers[view] = upright[self._channels, :height, :width]
            with self._lock:
                pending.missing -= 1
                complete = pending.missing == 0
            if complete:
                harvest = self._harvest(pending)
                with self._lock:
                    self._harvests[index] = harvest
                    del self._pending[index]

    def _show(self, index: int) -> list[Sequence[Shown]]:
        """The views of one tile, each with what every channel shows."""
        tile, (rows, columns) = self.tiles[index], self._reach(index)
        # What lies outside the exposure, before its beginning.
        place = (
            self._border[0] + rows.start - tile.rows.start,
            self._border[1] + columns.start - tile.columns.start,
        )

        def shown(prepared: Normalised, significance: Image) -> Image:
            if self.card.normalisation.resize == 1.0:
                return padded(prepared.view(significance), self._seen, place)
            return prepared.view(padded(significance, self._seen, place))

        def read(plane: Companion) -> Image:
            prepared = self.normalised_images[plane]
            return shown(prepared, prepared.piece(rows, columns)[0])

        image = shown(self.normalised, self._read(index))
        if self._sign < 0:
            np.negative(image, out=image)
        return self.channels.views(image, read, self.views)

    def _reach(self, index: int) -> tuple[slice, slice]:
        """Rows and columns of the exposure that the network sees in a tile."""
        tile, (height, width) = self.tiles[index], self.exposure.shape
        return (
            tile.rows.around(self._border[0], height),
            tile.columns.around(self._border[1], width),
        )

    def _read(self, index: int) -> Image:
        """The significance of what the network sees in a tile; the tile waits for its answers."""
        tile, (rows, columns) = self.tiles[index], self._reach(index)
        significance, mask, saturated = self.normalised.piece(
            rows, columns, self.exposure.saturation
        )
        answered = np.s_[
            tile.rows.start - rows.start : tile.rows.stop - rows.start,
            tile.columns.start - columns.start : tile.columns.stop - columns.start,
        ]
        with self._lock:
            if index not in self._pending:
                _, noise = self.normalised.maps(rows, columns)
                around = self._surroundings(
                    significance[answered], mask[answered], saturated[answered], noise[answered]
                )
                shape = around.mask.shape
                answers = np.empty((self.views, len(self._channels), *shape), np.float32)
                self._pending[index] = _Pending(tile, around, answers, self.views)
        return significance

    def _harvest(self, pending: _Pending) -> Harvest:
        """Read off a tile what it answers for."""
        around, tile = pending.surroundings, pending.tile
        seen = pending.seen or self._see(pending.tile, pending.surroundings)
        answers = pending.answers
        mean = answers[0] if self.views == 1 else answers.mean(axis=0)

        found = [
            find_peaks(channel, around.mask, self.card.threshold, self.card.nms_radius)[0]
            for channel in mean
        ]
        peaks = np.concatenate(found)
        channel = np.repeat(np.arange(len(found)), [len(one) for one in found])
        polarity = np.array(self.polarities, np.int8)[channel]
        peaks, flags = centroids(around.significance, around.mask, peaks, polarity)
        inside = answered_by(peaks, tile, _MARGIN)
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
        return Harvest(
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
