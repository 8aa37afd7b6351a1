"""The golden tile of a model version: whoever serves it right answers it as the original did."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from detection.background import Image

GOLDEN_FILE = "golden.npz"
# Largest absolute difference in probability that passes.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Golden:
    """A tile, and what the network made of it before export.

    Attributes
    ----------
    image, probability
        float32 (1, C, H, W).
    """

    image: Image
    probability: Image

    @classmethod
    def from_npz(cls, content: bytes) -> Self:
        """Read the content of a ``golden.npz``.

        Raises
        ------
        ValueError, KeyError, zipfile.BadZipFile
            If it is none.
        """
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(
                np.ascontiguousarray(arrays["image"], dtype=np.float32),
                np.ascontiguousarray(arrays["probability"], dtype=np.float32),
            )

    def to_npz(self) -> bytes:
        """The pair as the content of a ``golden.npz``."""
        file = io.BytesIO()
        np.savez(file, image=self.image, probability=self.probability)
        return file.getvalue()

    def difference(self, answer: Image) -> float:
        """Largest absolute difference of an answer, float32 (N, C, H, W), to N copies of the tile.

        Infinite for an answer of another shape, or with values that are not numbers, so that it
        never passes.
        """
        if answer.shape[1:] != self.probability.shape[1:]:
            return float("inf")
        largest = float(np.abs(answer - self.probability).max())
        return largest if np.isfinite(largest) else float("inf")


class InstanceGroup(Protocol):
    """What Triton's model configuration says of a group of instances."""

    @property
    def count(self) -> int:
        """How many, on each GPU if there are GPUs."""

    @property
    def gpus(self) -> Sequence[int]:
        """Numbers of the GPUs; empty for a group on the CPU."""


def instances_of(groups: Iterable[InstanceGroup]) -> int:
    """How many instances answer for a model: a group has its count on each of its GPUs.

    At least 1. A loaded model's configuration names the GPUs, also where its file left them out.
    """
    return max(1, sum(group.count * max(1, len(group.gpus)) for group in groups))
