"""Cutting an image into the network's fixed tiles, and putting the answers back together.

Tiles start at multiples of a stride and overlap. Of every overlap each tile keeps the half that
lies nearer to its centre, so that a pixel's answer never comes from close to a tile's edge unless
it is close to the exposure's. The reference network sees 44 px around a pixel and pools on a grid
of 8: with an overlap of at least twice that, and a stride that is a multiple of 8, a source on a
seam gets the very answer that it would get in the middle of a tile.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from detection.preprocess import Image


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis: where it starts, and the pixels [low, high) that it answers for."""

    start: int
    low: int
    high: int


def spans(length: int, size: int, overlap: int) -> list[Span]:
    """Tiles of ``size`` pixels that cover an axis of ``length`` pixels, padded at its end."""
    stride = size - overlap
    count = max(1, -(-(length - overlap) // stride))
    starts = [i * stride for i in range(count)]
    seams = [0, *(start + overlap // 2 for start in starts[1:]), length]
    return [Span(start, seams[i], seams[i + 1]) for i, start in enumerate(starts)]


class Tiling:
    """The tiles of one image, and the probability map that their answers are stitched into.

    Parameters
    ----------
    image
        float32 (H, W), what the network is to see.
    size
        Height and width of a tile, pixels.
    overlap
        Pixels that neighbouring tiles share.

    Attributes
    ----------
    probability
        float32 (H, W); NaN until `accept` has been given the tile that covers the pixel.
    """

    def __init__(self, image: Image, size: tuple[int, int], overlap: int) -> None:
        self._image = image
        self._size = size
        self._tiles = list(
            product(
                spans(image.shape[0], size[0], overlap), spans(image.shape[1], size[1], overlap)
            )
        )
        self.probability = np.full(image.shape, np.nan, np.float32)

    def __len__(self) -> int:
        return len(self._tiles)

    def batch(self, start: int, stop: int) -> Image:
        """Tiles ``start`` to ``stop``, float32 (N, 1, height, width), 0 beyond the image's edge."""
        tiles = self._tiles[start:stop]
        result = np.zeros((len(tiles), 1, *self._size), np.float32)
        for i, (rows, columns) in enumerate(tiles):
            piece = self._image[
                rows.start : rows.start + self._size[0],
                columns.start : columns.start + self._size[1],
            ]
            result[i, 0, : piece.shape[0], : piece.shape[1]] = piece
        return result

    def accept(self, start: int, probabilities: Image) -> None:
        """Stitch in the network's answer to the tiles from ``start`` on, (N, 1, height, width)."""
        tiles = self._tiles[start : start + len(probabilities)]
        for (rows, columns), answer in zip(tiles, probabilities[:, 0], strict=True):
            self.probability[rows.low : rows.high, columns.low : columns.high] = answer[
                rows.low - rows.start : rows.high - rows.start,
                columns.low - columns.start : columns.high - columns.start,
            ]
