"""Everything that is read off one answered tile: peaks, candidates, and a stamp of each.

A spot is a place in the exposure where a source may be. Spots are all that is kept of a tile, so an
exposure of any size is scored in the memory of the tiles that are under way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import STAMP_RADIUS, Image, Mask, Polarities, Positions, Values
from astrotriton.detection.compiled import compiled
from astrotriton.detection.image.local_noise import LocalNoise
from astrotriton.detection.logits import logit

#: Of stamps of the noise: a matched filter is cut off there.
NOISE_RADIUS = 8
# Probability is read within this distance of a spot, pixels: the radius of the training target.
_APERTURE = 2
_MOST_FLOAT16 = np.float32(6e4)


def _offsets(radius: int) -> NDArray[np.intp]:
    """Columns and rows of the pixels within a radius, intp (2, N); the centre comes first."""
    grid = np.arange(-radius, radius + 1)
    dy, dx = (offset.ravel() for offset in np.meshgrid(grid, grid, indexing="ij"))
    order = np.argsort(dx**2 + dy**2, kind="stable")
    return np.stack([dx, dy])[:, order[: np.count_nonzero(dx**2 + dy**2 <= radius**2)]]


_NEAR = _offsets(_APERTURE)


@dataclass(frozen=True, slots=True)
class Spots:
    """Some places in an exposure, N of them.

    Attributes
    ----------
    positions
        float64 (N, 2), x and y in the exposure, 0-based pixels.
    polarity
        int8 (N,), 1 for what the network holds for a source that brightens, -1 for one that fades.
    candidate
        intp (N,), index of the caller's candidate, or -1.
    brightness
        float64 (N,), flux of a source that SEP extracted, in sigma of a pixel; NaN for others.
    probability, probability_mean
        float64 (N,), largest and mean probability within 2 px; NaN where the centre is masked.
    spread
        float64 (N,), standard deviation over the views of the logit of the largest probability; 0
        with a single view.
    saturated
        bool (N,), a saturated pixel lies within 2 px.
    sep_flags
        int32 (N,), what SEP flagged when it extracted the source and centred a window on it.
    local_noise
        float64 (N,), scatter of the significance around the spot: 1 where the noise map is right.
    stamp
        intp (N,), which of the stamps is its own. Those are large, and stay where they are while
        spots are sorted and joined.
    """

    positions: Positions
    polarity: Polarities
    candidate: NDArray[np.intp]
    brightness: Values
    probability: Values
    probability_mean: Values
    spread: Values
    saturated: NDArray[np.bool_]
    sep_flags: NDArray[np.int32]
    local_noise: Values
    stamp: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> "Spots":
        """Some of them."""
        return Spots(*(getattr(self, field.name)[which] for field in fields(self)))

    @staticmethod
    def join(parts: list["Spots"]) -> "Spots":
        """All of several."""
        return Spots(
            *(
                np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(Spots)
            )
        )


class Surroundings:
    """Windows around pixels of one tile.

    Attributes
    ----------
    significance
        float32 (H, W), sigma.
    mask
        bool (H, W), True where unusable.
    saturated
        bool (H, W).
    noise
        float32 (H, W), sigma of each pixel in units of the exposure's; 1 if left out.
    """

    def __init__(
        self, significance: Image, mask: Mask, saturated: Mask, noise: Image | None = None
    ) -> None:
        self._shape = mask.shape
        self._noise = np.ones_like(significance) if noise is None else noise
        self.local = LocalNoise(significance, mask)
        self.significance = significance
        self.mask = mask
        self.saturated = saturated

    def polarity(self, positions: Positions) -> Polarities:
        """Whether the 3x3 pixels around positions in the tile are bright, 1, or dark, -1; (N,)."""
        near = np.nan_to_num(self.stamps(positions, radius=1))
        return np.where(near.sum(axis=(1, 2)) < 0.0, -1, 1).astype(np.int8)

    def stamps(self, positions: Positions, radius: int = STAMP_RADIUS) -> Image:
        """Significance around the nearest pixels of positions in the tile, float32.

        A stamp has 2 ``radius`` + 1 rows and columns. NaN where masked or beyond the edge.
        """
        column, row = self._pixels(positions)
        return _stamps(self.significance, self.mask, row, column, radius)

    def noise_stamps(self, positions: Positions) -> Image:
        """The noise of the pixels of `stamps`, in units of the exposure's, float32."""
        column, row = self._pixels(positions)
        return _stamps(self._noise, self.mask, row, column, STAMP_RADIUS)

    def read(
        self,
        answers: Image,
        polarities: Sequence[int],
        positions: Positions,
        origin: tuple[int, int],
        channel: NDArray[np.intp],
        candidate: NDArray[np.intp],
        brightness: Values,
        sep_flags: NDArray[np.int32],
    ) -> Spots:
        """The spots at positions (N, 2) of the tile, whose corner is at ``origin`` (x, y).

        ``answers``, float32 (views, C, H, W), are the network's probabilities, of which each
        channel is for sources of one of the ``polarities``; ``channel``, intp (N,), says which one
        to read, and -1 means the likeliest.
        """
        column, row = self._pixels(positions)
        columns, rows = column[:, None] + _NEAR[0], row[:, None] + _NEAR[1]
        inside = (rows >= 0) & (rows < self._shape[0]) & (columns >= 0) & (columns < self._shape[1])
        rows, columns = np.where(inside, rows, 0), np.where(inside, columns, 0)
        known = inside & ~self.mask[rows, columns]
        scored = known[:, 0]
        values = answers[:, :, rows, columns].astype(np.float64)
        likeliest = np.where(known, values.mean(axis=0), -np.inf).max(axis=2).argmax(axis=0)
        channel = np.where(channel < 0, likeliest, channel)
        values = values[:, channel, np.arange(len(channel))]
        mean = values.mean(axis=0)
        highest = np.where(known, mean, -np.inf).max(axis=1, initial=-np.inf)
        each_view = np.where(known, values, -np.inf).max(axis=2, initial=-np.inf)
        average = np.where(known, mean, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return Spots(
            positions=positions + np.array(origin, dtype=np.float64),
            polarity=np.array(polarities, np.int8)[channel],
            candidate=candidate,
            brightness=brightness,
            probability=np.where(scored, highest, np.nan),
            probability_mean=np.where(scored, average, np.nan),
            spread=np.where(scored, logit(np.maximum(each_view, 0.0)).std(axis=0), np.nan),
            saturated=(inside & self.saturated[rows, columns]).any(axis=1),
            sep_flags=sep_flags,
            local_noise=self.local.at(positions),
            stamp=np.arange(len(positions)),
        )

    def _pixels(self, positions: Positions) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        nearest = np.rint(positions).astype(np.intp)
        return (
            np.clip(nearest[:, 0], 0, self._shape[1] - 1),
            np.clip(nearest[:, 1], 0, self._shape[0] - 1),
        )


@compiled
def _stamps(
    significance: Image,
    mask: Mask,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    radius: int,
) -> Image:
    """What `Surroundings.stamps` answers, around pixels."""
    height, width = mask.shape
    side = 2 * radius + 1
    stamps = np.full((len(rows), side, side), np.float32(np.nan))
    for k in range(len(rows)):
        top, left = rows[k] - radius, columns[k] - radius
        first, last = max(0, -left), min(side, width - left)
        for i in range(max(0, -top), min(side, height - top)):
            pixels = significance[top + i, left + first : left + last]
            unusable = mask[top + i, left + first : left + last]
            stamp = stamps[k, i, first:last]
            for j in range(len(pixels)):
                value = min(max(pixels[j], -_MOST_FLOAT16), _MOST_FLOAT16)
                stamp[j] = np.float32(np.nan) if unusable[j] else value
    return stamps
