"""The golden tile of a model version: whoever serves it right answers it as the original did."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from astrotriton.detection.arrays import Image

GOLDEN_FILE = "golden.npz"
# Largest absolute difference in probability that passes.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of the answers to a golden tile.

    Attributes
    ----------
    difference
        The largest absolute difference in probability; infinite where no number tells it.
    fault
        What is wrong with them; None if they are right.
    """

    difference: float
    fault: str | None


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

    def judge(self, answers: Sequence[Image | None]) -> "Verdict":
        """Whether answers to copies of the tile are right: each of them within `TOLERANCE`.

        Parameters
        ----------
        answers
            Each float32 (N, C, H, W), to N copies of the tile; None where there was none.
        """
        largest = 0.0
        for answer in answers:
            difference = float("inf") if answer is None else self.difference(answer)
            largest = max(largest, difference)
            if difference > TOLERANCE:
                return Verdict(largest, self._fault(answer, difference))
        return Verdict(largest, None)

    def _fault(self, answer: Image | None, difference: float) -> str:
        expected = self.probability
        if answer is None or answer.shape[1:] != expected.shape[1:]:
            shape = None if answer is None else answer.shape
            return f"the answer has shape {shape} where {expected.shape} was kept"
        off = np.abs(answer - expected)
        # NaN is the worst of them.
        place = np.unravel_index(off.argmax(), off.shape)
        return (
            f"by {difference:.3g}, of which at most {TOLERANCE:g} is allowed: at row {place[2]}, "
            f"column {place[3]} it answers {answer[place]:.6g} instead of "
            f"{expected[0, *place[1:]]:.6g}"
        )

    def difference(self, answer: Image) -> float:
        """Largest absolute difference of an answer, float32 (N, C, H, W), to N copies of the tile.

        Infinite for an answer of another shape, or with values that are not numbers, so that it
        never passes.
        """
        if answer.shape[1:] != self.probability.shape[1:]:
            return float("inf")
        largest = float(np.abs(answer - self.probability).max())
        return largest if np.isfinite(largest) else float("inf")
