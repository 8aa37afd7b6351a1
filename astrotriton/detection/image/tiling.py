"""How an image is cut into the network's fixed tiles.

Tiles start at multiples of a stride and overlap. Of every overlap each tile answers for the half
that lies nearer to its centre, so that a pixel's answer never comes from close to a tile's edge
unless it is close to the exposure's. The reference network sees 44 px around a pixel and pools on a
grid of 8: with an overlap of at least twice that, and a stride that is a multiple of 8, a source on
a seam gets the very answer that it would get in the middle of a tile.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from astrotriton.detection.arrays import Image


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis, pixels: it sees [start, stop) and answers for [low, high)."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def seen(self) -> slice:
        """What the tile sees of the image."""
        return slice(self.start, self.stop)

    @property
    def own(self) -> slice:
        """What it answers for, counted from its start."""
        return slice(self.low - self.start, self.high - self.start)

    def around(self, border: int, length: int) -> slice:
        """That and so many pixels on either side, as far as the image goes."""
        return slice(max(0, self.start - border), min(self.stop + border, length))


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: its rows and its columns."""

    rows: Span
    columns: Span


def spans(length: int, size: int, overlap: int) -> list[Span]:
    """Tiles of ``size`` pixels that cover an axis of ``length`` pixels, the last one cut short."""
    stride = size - overlap
    count = max(1, -(-(length - overlap) // stride))
    starts = [i * stride for i in range(count)]
    seams = [0, *(start + overlap // 2 for start in starts[1:]), length]
    return [
        Span(start, min(start + size, length), seams[i], seams[i + 1])
        for i, start in enumerate(starts)
    ]


def plan(shape: tuple[int, int], size: tuple[int, int], overlap: int) -> list[Tile]:
    """The tiles of an image, row by row.

    Parameters
    ----------
    shape
        Rows and columns of the image, pixels.
    size
        Height and width of a tile, pixels.
    overlap
        Pixels that neighbouring tiles share.
    """
    return [
        Tile(rows, columns)
        for rows, columns in product(
            spans(shape[0], size[0], overlap), spans(shape[1], size[1], overlap)
        )
    ]


def padded(piece: Image, size: tuple[int, int], place: tuple[int, int] = (0, 0)) -> Image:
    """A piece filled up with zeros to the size of a tile, float32 (height, width).

    ``place`` is the row and the column of the tile at which the piece begins.
    """
    if piece.shape == size:
        return piece
    tile = np.zeros(size, np.float32)
    row, column = place
    tile[row : row + piece.shape[0], column : column + piece.shape[1]] = piece
    return tile


def views_of(tile: Image, count: int) -> list[Image]:
    """A square tile turned and mirrored, as often as asked for; the first is as it is."""
    return [_turn(tile, view) for view in range(count)]


def undo_view(answer: Image, view: int) -> Image:
    """The answer to one of `views_of`, float32 (..., H, W), turned back."""
    upright = answer[..., ::-1] if view >= 4 else answer
    return np.rot90(upright, -(view % 4), axes=(-2, -1))


def _turn(image: Image, view: int) -> Image:
    turned = np.rot90(image, view % 4)
    return turned[:, ::-1] if view >= 4 else turned
