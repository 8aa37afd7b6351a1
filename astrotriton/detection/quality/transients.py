"""The true transients of exposures, and what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from astrotriton.detection.arrays import Flags, Polarities, Positions, Values


@dataclass(frozen=True, slots=True)
class Transients:
    """True transients, N of them.

    Attributes
    ----------
    positions
        float64 (N, 2), x and y, 0-based pixels.
    snr
        float64 (N,), matched-filter signal-to-noise ratio.
    polarity
        int8 (N,), 1 for one that brightens, -1 for one that fades.
    fwhm
        float64 (N,), of the point sources of their exposure, pixels; NaN where unknown.
    hosted
        bool (N,), whether it lies on a star or a galaxy.
    saturated
        bool (N,), whether its peak is.
    """

    positions: Positions
    snr: Values
    polarity: Polarities
    fwhm: Values
    hosted: Flags
    saturated: Flags

    @classmethod
    def of(
        cls,
        positions: Positions,
        snr: Values,
        polarity: Polarities | None = None,
        fwhm: float = np.nan,
    ) -> "Transients":
        """Transients of which no more is known; without a polarity they brighten."""
        count = len(snr)
        return cls(
            np.asarray(positions, np.float64).reshape(-1, 2),
            np.asarray(snr, np.float64),
            np.ones(count, np.int8) if polarity is None else np.asarray(polarity, np.int8),
            np.full(count, fwhm),
            np.zeros(count, bool),
            np.zeros(count, bool),
        )

    def __len__(self) -> int:
        return len(self.snr)

    def take(self, which: Flags) -> "Transients":
        """Some of them."""
        return Transients(*(getattr(self, field.name)[which] for field in fields(self)))

    def shifted(self, by: Positions) -> "Transients":
        """The same, each moved by x and y, pixels."""
        return replace(self, positions=self.positions + by)

    def looked_for(self, polarities: Sequence[int]) -> "Transients":
        """Those that a network which looks for these polarities can find."""
        return self.take(np.isin(self.polarity, polarities))

    @staticmethod
    def join(parts: Sequence["Transients"]) -> "Transients":
        """All of several."""
        return Transients(
            *(
                np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(Transients)
            )
        )
