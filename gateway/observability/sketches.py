"""Distributions that several gateways measure and one answer adds up.

A sketch (DDSketch, Masson et al. 2019) is a histogram with logarithmic bins: any quantile is right
within a stated share of its value. Counts of the same bin add up, so sketches merge by a sum, which
PostgreSQL does.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from ddsketch.mapping import LogarithmicMapping

_MAPPING = LogarithmicMapping(0.005)
_LEAST = 1e-9

#: Confidences are counted in bins of equal width.
CONFIDENCE_BINS = 20


class Sketch:
    """How often values of each size were seen.

    Attributes
    ----------
    counts
        By bin.
    total
        Sum of the values.
    """

    def __init__(self, counts: Mapping[int, int] | None = None, total: float = 0.0) -> None:
        self.counts = Counter(counts or {})
        self.total = total

    def add(self, value: float) -> None:
        """See a value that is not negative."""
        self.counts[_MAPPING.key(max(value, _LEAST))] += 1
        self.total += value

    def add_confidences(self, values: Iterable[float]) -> None:
        """See confidences; a sketch has these or others, not both."""
        found = np.fromiter(values, np.float64)
        bins = np.minimum((found * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
        self.counts.update(dict(zip(*(a.tolist() for a in np.unique_counts(bins)), strict=True)))
        self.total += float(found.sum())

    @property
    def count(self) -> int:
        """How many values were seen."""
        return self.counts.total()

    @property
    def mean(self) -> float | None:
        """Of the values; None without any."""
        return self.total / self.count if self.counts else None

    def quantile(self, share: float) -> float | None:
        """The value that this share of all does not exceed, within half a percent.

        None if there are fewer values than 1 / (1 - share): it would rest on the largest alone.
        """
        count = self.count
        if not count or count * (1.0 - share) < 1.0 - 1e-9:
            return None
        keys = sorted(self.counts)
        reached = np.cumsum([self.counts[key] for key in keys])
        place = int(np.searchsorted(reached, share * (count - 1), side="right"))
        return float(_MAPPING.value(keys[place]))
