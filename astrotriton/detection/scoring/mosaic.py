"""Several small exposures that a network sees in one tile."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from astrotriton.detection.arrays import Image
from astrotriton.detection.card import ModelCard, UNetModel
from astrotriton.detection.image.tiling import undo_view
from astrotriton.detection.scoring.channels import Shown, fill
from astrotriton.detection.scoring.inference import Inference
from astrotriton.detection.scoring.tiled_inference import TiledInference
from astrotriton.wire.exposures import Companion


class Inputs(Protocol):
    """What a network is to answer: an `Inference`, or several of them together."""

    @property
    def card(self) -> ModelCard:
        """The model that is asked."""

    @property
    def views(self) -> int:
        """How often everything is shown."""

    @property
    def together(self) -> int:
        """Inputs that a request to Triton may hold."""

    def __len__(self) -> int:
        """Number of inputs."""

    def batch(self, start: int, stop: int) -> Image:
        """Inputs, float32 (N, C, H, W)."""

    def look(self, start: int, stop: int) -> None:
        """Do what needs no answer."""

    def accept(self, start: int, probabilities: Image) -> None:
        """Take the answers from ``start`` on, float32 (N, P, H, W)."""


class Mosaic:
    """Several small exposures as one sequence of tiles; each may hold several exposures.

    Every exposure has its own background, noise and normalisation, and lies where the network sees
    no other: `margin_of` pixels from the tile's edge and from its neighbours, in steps by which the
    network answers alike. So each is answered as when it is sent alone, but for the last digits of
    a float32, which depend on the place of a pixel in a tile.

    Parameters
    ----------
    members
        On their way through the same version, with the same ``views`` and no image but the
        difference; each of one tile with a `TiledInference.margin`.
    """

    together = TiledInference.together

    def __init__(self, members: Sequence[TiledInference]) -> None:
        self.card: UNetModel = members[0].card
        self.views = members[0].views
        self._channels = members[0].channels
        self._tiles = list(_packed(members, self.card))

    def __len__(self) -> int:
        """Number of inputs that the network is to answer."""
        return len(self._tiles) * self.views

    def batch(self, start: int, stop: int) -> Image:
        """See `Inference`."""
        first, last = start // self.views, -(-stop // self.views)
        views = itertools.chain.from_iterable(self._show(index) for index in range(first, last))
        shown = itertools.islice(views, start - first * self.views, stop - first * self.views)
        batch = np.empty((stop - start, *self.card.input.shape[1:]), np.float32)
        for channels, view in zip(batch, shown, strict=True):
            fill(channels, view)
        return batch

    def _show(self, index: int) -> list[Sequence[Shown]]:
        tile = np.zeros(self.card.tile_size, np.float32)
        for member, top, left in self._tiles[index]:
            piece = member.piece(0)
            tile[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
        return self._channels.views(tile, _no_image, self.views)

    def look(self, start: int, stop: int) -> None:
        """See `Inference`."""
        for index in range(start // self.views, -(-stop // self.views)):
            for member, _, _ in self._tiles[index]:
                member.look(0, self.views)

    def accept(self, start: int, probabilities: Image) -> None:
        """See `Inference`."""
        for number, answer in enumerate(probabilities, start):
            index, view = divmod(number, self.views)
            upright = undo_view(answer, view)
            for member, top, left in self._tiles[index]:
                member.take(0, view, upright[:, top:, left:])


class Sequel:
    """The inputs of several exposures, one after the other.

    Parameters
    ----------
    members
        On their way through the same version, with the same ``views``.
    """

    def __init__(self, members: Sequence[Inference]) -> None:
        self._members = members
        self.card = members[0].card
        self.views = members[0].views
        self.together = members[0].together
        self._starts = [0, *itertools.accumulate(len(member) for member in members)]

    def __len__(self) -> int:
        """Number of inputs that the network is to answer."""
        return self._starts[-1]

    def batch(self, start: int, stop: int) -> Image:
        """See `Inference`."""
        parts = [member.batch(low, high) for member, low, high in self._of(start, stop)]
        return np.concatenate(parts)

    def look(self, start: int, stop: int) -> None:
        """See `Inference`."""
        for member, low, high in self._of(start, stop):
            member.look(low, high)

    def accept(self, start: int, probabilities: Image) -> None:
        """See `Inference`."""
        done = 0
        for member, low, high in self._of(start, start + len(probabilities)):
            member.accept(low, probabilities[done : done + high - low])
            done += high - low

    def _of(self, start: int, stop: int) -> Iterator[tuple[Inference, int, int]]:
        """The members that inputs belong to, and which of their own these are."""
        for member, first, end in zip(self._members, self._starts, self._starts[1:], strict=False):
            low, high = max(start, first), min(stop, end)
            if low < high:
                yield member, low - first, high - first


def joined(members: Sequence[Inference]) -> list[Inputs]:
    """What a network is to answer for several exposures: small ones in tiles that they share."""
    small: list[TiledInference] = []
    others: list[Inference] = []
    for one in members:
        if isinstance(one, TiledInference) and one.margin > 0 and not one.channels.images:
            small.append(one)
        elif len(one) > 0:
            others.append(one)
    found: list[Inputs] = []
    if small:
        found.append(Mosaic(small))
    if others:
        found.append(Sequel(others))
    return found


def _no_image(plane: Companion) -> Image:
    raise ValueError(f"a shared tile shows no {plane} image")


def _packed(
    members: Sequence[TiledInference], card: UNetModel
) -> Iterator[list[tuple[TiledInference, int, int]]]:
    """Fill tiles row by row: the members of each, with row and column of its first pixel."""
    height, width = card.tile_size
    # Seams are at multiples of this, where the network answers as everywhere.
    step = math.gcd(card.overlap // 2, *(side - card.overlap for side in card.tile_size))
    tile: list[tuple[TiledInference, int, int]] = []
    top = left = below = 0
    for member in members:
        (rows, columns), margin = member.exposure.shape, member.margin
        if not tile:
            top = left = below = margin
        elif left + columns + margin > width:
            top, left = below, margin
        if top + rows + margin > height:
            yield tile
            tile, top, left, below = [], margin, margin, margin
        tile.append((member, top, left))
        left = _after(left + columns + margin, step, margin)
        below = max(below, _after(top + rows + margin, step, margin))
    if tile:
        yield tile


def _after(least: int, step: int, first: int) -> int:
    """The first place from ``least`` on that is whole steps from the first one."""
    return first + -(-(least - first) // step) * step
