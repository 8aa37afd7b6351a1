"""Several exposures that a network is asked of in one go."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from astrotriton.detection.arrays import Image
from astrotriton.detection.card import ModelCard
from astrotriton.detection.scoring.inference import Inference


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
