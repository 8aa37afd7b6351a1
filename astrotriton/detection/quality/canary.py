"""What speaks against a challenger: tests that run along while it answers more and more.

Each test is about one way to be worse, and may be looked at after every observation
(`astrotriton.detection.quality.sequential`). Together they alarm falsely with a probability of
`Tolerances.false_alarms` at most over the whole of a canary: that is the chance that a challenger
whose true means are all within the tolerances is sent back.

Most of them compare what champion and challenger made of the *same* exposures. Without labels these
cannot tell which of the two is right. They find that it decides otherwise (`lost`, `gained`), that
the two cannot both be calibrated (`fewer`, `more`: over any exposures, calibrated confidences add
up to the number of real sources, whoever gives them), and that it knows less (`vaguer`: the
expected Brier score of a calibrated confidence p is p (1 - p), which is larger the less it tells
apart; DeGroot and Fienberg 1983). Where people's labels come in, `labels` compares the Brier scores
themselves.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Values
from astrotriton.detection.quality.sequential import MeanTest

# What one exposure may count for at most, as a share of its real sources: one odd exposure is no
# reason, and tests of narrow ranges find small changes sooner.
_MOST = 0.25


class Tolerances(msgspec.Struct, frozen=True, kw_only=True):
    """The largest true means that are no fault, and how often the tests may err.

    Attributes
    ----------
    false_alarms
        Chance at most that a challenger within all tolerances is sent back, over the whole canary.
    errors
        Share of the runs that the challenger fails and the champion answers.
    latency_ratio
        The challenger may not take so many times longer than the champion in most of the runs.
    disagreement
        Share of one's real sources that the other does not call real, as the champion's
        confidences count them.
    score_shift
        Change of the sum of confidences, and of what they leave open, as a share of that sum.
    label_loss
        Increase of the Brier score on labelled sources.
    """

    false_alarms: float = 0.05
    errors: float = 0.01
    latency_ratio: float = 1.5
    disagreement: float = 0.1
    score_shift: float = 0.02
    label_loss: float = 0.01


#: The tests by name, and what each one finds.
TESTS = {
    "errors": "the challenger fails runs that the champion answers",
    "latency": "the challenger is slower than allowed in more than half of the runs",
    "lost": "the challenger does not call real what the champion does",
    "gained": "the challenger calls real what the champion does not",
    "fewer": "the challenger's confidences add up to fewer real sources",
    "more": "the challenger's confidences add up to more real sources",
    "vaguer": "the challenger's confidences are less decided",
    "labels": "the challenger's confidences fit people's labels less well",
}


class Compared(NamedTuple):
    """What an exposure that both versions scored says, each as a share of its real sources.

    Attributes
    ----------
    lost, gained
        As in `TESTS`; None where one has nothing to lose, or to gain.
    shift, vagueness
        Changes of the sum of the confidences p, and of p (1 - p), from -1 to 1.
    """

    lost: float | None
    gained: float | None
    shift: float
    vagueness: float


def compare(
    champion: Values,
    challenger: Values,
    champion_real: NDArray[np.bool_],
    challenger_real: NDArray[np.bool_],
) -> Compared | None:
    """What two versions made of the sources of one exposure; None if neither found any.

    Parameters
    ----------
    champion, challenger
        Confidences, float64 (sources,); 0 for a source that a version did not find.
    champion_real, challenger_real
        Whether it calls the source real, bool (sources,).
    """
    if not len(champion):
        return None
    # An exposure with less than one source to be expected has no share to speak of.
    expected = max(float(champion.sum()), float(challenger.sum()), 1.0)
    held = float(champion[champion_real].sum())
    called = int(np.count_nonzero(challenger_real))
    lost = float(champion[champion_real & ~challenger_real].sum())
    gained = float((1.0 - champion[challenger_real & ~champion_real]).sum())
    before, after = champion * (1.0 - champion), challenger * (1.0 - challenger)
    return Compared(
        lost=lost / held if held else None,
        gained=gained / called if called else None,
        shift=float((challenger - champion).sum()) / expected,
        vagueness=float((after - before).sum()) / expected,
    )


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen of a challenger.

    Attributes
    ----------
    tests
        By the names of `TESTS`.
    pairs, runs
        Exposures that both scored, and runs that the challenger was to answer.
    """

    tests: dict[str, MeanTest]
    pairs: int = 0
    runs: int = 0

    @staticmethod
    def none(tolerances: Tolerances) -> "Evidence":
        """Before anything was seen."""
        shift, disagreement = tolerances.score_shift, tolerances.disagreement
        return Evidence(
            tests={
                "errors": MeanTest(lowest=0.0, limit=tolerances.errors),
                "latency": MeanTest(lowest=0.0, limit=0.5),
                "lost": MeanTest(lowest=0.0, limit=disagreement),
                "gained": MeanTest(lowest=0.0, limit=disagreement),
                "fewer": MeanTest(lowest=-_MOST, limit=shift),
                "more": MeanTest(lowest=-_MOST, limit=shift),
                "vaguer": MeanTest(lowest=-_MOST, limit=shift),
                "labels": MeanTest(lowest=-1.0, limit=tolerances.label_loss),
            }
        )

    def with_pair(self, pair: Compared) -> "Evidence":
        """With an exposure that both scored."""
        seen = {
            "fewer": _bounded(-pair.shift),
            "more": _bounded(pair.shift),
            "vaguer": _bounded(pair.vagueness),
        }
        if pair.lost is not None:
            seen["lost"] = pair.lost
        if pair.gained is not None:
            seen["gained"] = pair.gained
        return msgspec.structs.replace(self._with(seen), pairs=self.pairs + 1)

    def with_run(self, *, failed: bool, slower: bool | None) -> "Evidence":
        """With a run that the challenger was to answer.

        Parameters
        ----------
        failed
            Whether it failed, and the champion answered.
        slower
            Whether it took longer than the champion is allowed to be exceeded by, for as many
            tiles; None if there is no run of the champion to compare it with.
        """
        seen = {"errors": float(failed)}
        if slower is not None:
            seen["latency"] = float(slower)
        return msgspec.structs.replace(self._with(seen), runs=self.runs + 1)

    def with_label(self, champion: float, challenger: float, *, real: bool) -> "Evidence":
        """With a person's label of a source that both scored, and their confidences."""
        return self._with({"labels": (challenger - real) ** 2 - (champion - real) ** 2})

    def _with(self, seen: Mapping[str, float]) -> "Evidence":
        tests = self.tests | {name: self.tests[name].see(value) for name, value in seen.items()}
        return msgspec.structs.replace(self, tests=tests)

    def alarms(self, false_alarms: float) -> list[str]:
        """The tests that reject, each at its share of the rate (union bound)."""
        return [
            name for name, test in self.tests.items() if test.alarms(rate_of_each(false_alarms))
        ]


def rate_of_each(false_alarms: float) -> float:
    """The rate of false alarms of a single test."""
    return false_alarms / len(TESTS)


def _bounded(value: float) -> float:
    return min(max(value, -_MOST), _MOST)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a canary goes on.

    Attributes
    ----------
    fractions
        Shares of the runs that the challenger answers, step by step.
    exposures, runs
        How many exposures both must have scored in a step, and how many runs the challenger must
        have been given, before the next one.
    least_seconds, most_seconds
        How long a step takes at least, and after how long one that has seen too little ends it.
    """

    fractions: tuple[float, ...]
    exposures: int
    runs: int
    least_seconds: float
    most_seconds: float


class Decision(NamedTuple):
    """What becomes of a challenger, and why."""

    what: Literal["wait", "go-on", "send-back"]
    reason: str


def decide(
    evidence: Evidence, before: Evidence, seconds: float, plan: Plan, tolerances: Tolerances
) -> Decision:
    """What becomes of a challenger now.

    Parameters
    ----------
    evidence, before
        What was seen until now, and until this step began.
    seconds
        For how long the step has lasted.
    plan, tolerances
        How it goes on, and what may be.
    """
    if alarms := evidence.alarms(tolerances.false_alarms):
        told = "; ".join(_told(name, evidence.tests[name]) for name in alarms)
        return Decision("send-back", told)
    pairs, runs = evidence.pairs - before.pairs, evidence.runs - before.runs
    seen = (
        f"{pairs} of {plan.exposures} exposures scored by both,"
        f" {runs} of {plan.runs} runs of the challenger"
    )
    if pairs >= plan.exposures and runs >= plan.runs and seconds >= plan.least_seconds:
        return Decision("go-on", f"nothing speaks against it after {seen}")
    if seconds >= plan.most_seconds:
        return Decision("send-back", f"too little was seen in {seconds:.0f} s: {seen}")
    return Decision("wait", seen)


def _told(name: str, test: MeanTest) -> str:
    return (
        f"{name}: {TESTS[name]} (mean {test.mean or 0.0:.3g} of {test.count}, tolerated"
        f" {test.limit:.3g}, e-value {test.evidence:.3g})"
    )
