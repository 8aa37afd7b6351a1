"""Tests that may be looked at after every observation, and still alarm as seldom as they say.

A test bets against its null hypothesis; what it has won is an e-value, and as long as the
hypothesis holds it reaches 1 / alpha with a probability of alpha at most, however often one looks
(Ville's inequality). Several tests share a rate of false alarms by a union bound.
"""

import math
from typing import Self

import msgspec

# Shares of the largest stake that cannot ruin: small ones find small excesses after long, large
# ones find large excesses at once. The capital is spread over them evenly.
_STAKES = (0.03, 0.08, 0.2, 0.4, 0.65, 0.9)


class MeanTest(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the mean of bounded observations exceeds a limit, at any time.

    The null hypothesis is that the mean of each observation, given those before it, is at most
    ``limit``. The e-value is the mean over six constant bets ``b`` of the products of
    ``1 + b * (x - limit)``, which is a non-negative supermartingale under it (Waudby-Smith and
    Ramdas 2024, "Estimating means of bounded random variables by betting"). Nothing else is assumed
    of the observations: no distribution, no variance, no independence.

    Attributes
    ----------
    lowest, limit
        The least value of an observation, and the largest mean that is no fault.
    count, total
        How many were seen, and their sum.
    winnings
        Natural logarithm of what each bet has made of its capital.
    highest
        The largest e-value so far, natural logarithm.
    """

    lowest: float
    limit: float
    count: int = 0
    total: float = 0.0
    winnings: tuple[float, ...] = (0.0,) * len(_STAKES)
    highest: float = 0.0

    @property
    def mean(self) -> float | None:
        """Of the observations; None without any."""
        return self.total / self.count if self.count else None

    @property
    def evidence(self) -> float:
        """The largest e-value so far, at least 1; infinity where a float cannot hold it."""
        return math.exp(self.highest) if self.highest < 700.0 else math.inf

    def see(self, value: float) -> Self:
        """With one more observation.

        Raises
        ------
        ValueError
            If it is less than the least value, or no number.
        """
        if not value >= self.lowest:
            raise ValueError(f"{value} is less than {self.lowest}")
        excess = (value - self.limit) / (self.limit - self.lowest)
        winnings = tuple(
            before + math.log1p(stake * excess)
            for before, stake in zip(self.winnings, _STAKES, strict=True)
        )
        top = max(winnings)
        now = top + math.log(math.fsum(math.exp(one - top) for one in winnings) / len(winnings))
        return msgspec.structs.replace(
            self,
            count=self.count + 1,
            total=self.total + value,
            winnings=winnings,
            highest=max(self.highest, now),
        )

    def alarms(self, rate: float) -> bool:
        """Whether it rejects, where it may do so falsely at this rate."""
        return self.highest >= -math.log(rate)
