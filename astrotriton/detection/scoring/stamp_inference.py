"""One exposure on its way through a classifier of stamps, candidate by candidate."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from astrotriton.detection.arrays import Image
from astrotriton.detection.card import StampModel
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.preprocess import Normalised
from astrotriton.detection.image.tiling import padded, plan
from astrotriton.detection.logits import logit
from astrotriton.detection.scoring.channels import Shown, fill
from astrotriton.detection.scoring.inference import Harvest, Inference
from astrotriton.detection.sources.candidates import Unplaced
from astrotriton.detection.sources.spots import Spots
from astrotriton.wire.detections import Candidate

# What the exposure is read in to measure its candidates, pixels: a window around a centroid, and a
# stamp of the measurements, must fit into the overlap.
_TILE, _OVERLAP = (512, 512), 96


class StampInference(Inference):
    """An exposure on its way through a classifier of stamps; see `Inference`.

    An input is the stamp around the pixel that a candidate was sent for. Candidates are measured on
    the exposure, as those of a U-Net are, whatever the network answers.
    """

    # They are small.
    together: ClassVar[int] = 1024
    one_number: ClassVar[bool] = True
    card: StampModel

    def __init__(
        self,
        exposure: Exposure,
        card: StampModel,
        candidates: Sequence[Candidate],
        *,
        views: int = 1,
        polarity: Literal[1, -1] | None = None,
        unplaced: Sequence[Unplaced] = (),
    ) -> None:
        super().__init__(
            exposure, card, candidates, views=views, polarity=polarity, unplaced=unplaced
        )
        self.tiles = plan(exposure.shape, _TILE, _OVERLAP)
        self._answers = np.full((len(candidates), views), np.nan)

    def __len__(self) -> int:
        """Number of inputs that the network is to answer."""
        return self._answers.size

    def batch(self, start: int, stop: int) -> Image:
        """See `Inference`."""
        batch = np.empty((stop - start, *self.card.input.shape[1:]), np.float32)
        views: list[Sequence[Shown]] = []
        for channels, number in zip(batch, range(start, stop), strict=True):
            index, view = divmod(number, self.views)
            if view == 0 or not views:
                views = self._show(index)
            fill(channels, views[view])
        return batch

    def look(self, start: int, stop: int) -> None:
        """See `Inference`."""
        share = len(self.tiles) / len(self)
        for index in range(int(start * share), int(np.ceil(stop * share))):
            if index not in self._harvests:
                self._keep(index)

    def accept(self, start: int, probabilities: Image) -> None:
        """See `Inference`."""
        # Of several threads, each writes to places of its own.
        self._answers.flat[start : start + len(probabilities)] = probabilities[:, 0, 0, 0]

    def spots(self) -> Spots:
        """The candidates.

        Raises
        ------
        RuntimeError
            If one has not been answered.
        """
        if missing := int(np.count_nonzero(np.isnan(self._answers))):
            raise RuntimeError(f"{missing} of {len(self)} stamps have not been answered")
        spots = super().spots()
        answers = self._answers[spots.candidate]
        masked = np.isnan(spots.probability)
        return replace(
            spots,
            probability=np.where(masked, np.nan, answers.mean(axis=1)),
            spread=np.where(masked, np.nan, logit(np.maximum(answers, 0.0)).std(axis=1)),
        )

    def _complete(self) -> list[Harvest]:
        for index in range(len(self.tiles)):
            if index not in self._harvests:
                self._keep(index)
        return super()._complete()

    def _show(self, index: int) -> list[Sequence[Shown]]:
        """The views of the stamp around a candidate, each with what every channel shows."""
        stamp = self._stamp(index, self.exposure, self.normalised)
        return self.channels.views(
            stamp if self._sign > 0 else -stamp,
            lambda plane: self._stamp(
                index, self.channels.images[plane], self.normalised_images.get(plane)
            ),
            self.views,
        )

    def _stamp(self, index: int, image: Exposure, normalised: Normalised | None) -> Image:
        """What the network sees of an image around a candidate, float32 (H, W)."""
        size, shape = self.card.tile_size, self.exposure.shape
        corner = [
            int(np.clip(np.rint(place), 0, length - 1)) - side // 2
            for place, length, side in zip(self._asked[index][::-1], shape, size, strict=True)
        ]
        rows, columns = (
            slice(max(0, low), min(low + side, length))
            for low, side, length in zip(corner, size, shape, strict=True)
        )
        place = (rows.start - corner[0], columns.start - corner[1])
        if self.card.scaling == "asinh":
            assert normalised is not None
            significance, _, _ = normalised.piece(rows, columns)
            stamp = normalised.view(padded(significance, size, place))
        else:
            pixels, mask = image.pixels(rows, columns)
            pixels[mask] = 0.0
            stamp = padded(pixels, size, place)
            # As float64, since the squares of large pixels are beyond a float32.
            norm = np.linalg.norm(stamp.astype(np.float64))
            if self.card.scaling == "l2" and norm > 0.0:
                stamp = (stamp / norm).astype(np.float32)
        return stamp

    def _keep(self, index: int) -> None:
        """Read off a tile everything but what the network answers."""
        tile = self.tiles[index]
        rows, columns = tile.rows.seen, tile.columns.seen
        significance, mask, saturated = self.normalised.piece(
            rows, columns, self.exposure.saturation
        )
        _, noise = self.normalised.maps(rows, columns)
        around = self._surroundings(significance, mask, saturated, noise)
        seen = self._see(tile, around)
        polarity = self._allowed(around.polarity(seen.positions))
        nothing = np.zeros((1, 1, *mask.shape), np.float32)
        spots = around.read(
            nothing,
            [1],
            seen.positions,
            (tile.columns.start, tile.rows.start),
            np.zeros(len(seen.positions), np.intp),
            seen.candidates,
            seen.brightness,
            seen.flags,
        )
        spots = replace(spots, polarity=polarity, probability_mean=np.full(len(spots), np.nan))
        stamps = seen.stamps.copy()
        stamps[polarity < 0] *= -1
        self._harvests[index] = Harvest(
            spots=spots,
            stamps=stamps,
            noise_stamps=seen.noise_stamps,
            noise=seen.noise,
            local=seen.local,
            places=seen.places,
            responses=seen.responses,
            saturated=int(np.count_nonzero(around.saturated[tile.rows.own, tile.columns.own])),
        )
