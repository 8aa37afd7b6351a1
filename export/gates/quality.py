"""How good the detections are, by the criteria that hold everywhere: see `criteria`."""

import msgspec

from astrotriton.detection.quality import criteria
from astrotriton.export.gates.version import VersionUnderTest
from astrotriton.wire.validation import Gate


class Accuracy:
    """Whether the figures are good enough by themselves."""

    name = "accuracy"
    needs = ("parity", "batch", "answers")

    def applies(self, version: VersionUnderTest) -> bool:
        """Of a version that is tried."""
        return version.trial is not None

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        return _suspecting(version, criteria.accuracy(version.quality.figures, version.limits))


class AccuracyChange:
    """Whether they are no worse than the champion's on the same fields."""

    name = "accuracy_change"
    needs = ("parity", "batch", "answers")

    def applies(self, version: VersionUnderTest) -> bool:
        """Of a version that is tried, where there is a champion."""
        return version.trial is not None and version.champion is not None

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        figures, champion = version.quality[:2]
        assert champion is not None
        return _suspecting(version, criteria.accuracy_change(figures, champion, version.limits))


class Calibration:
    """Whether the confidence says how often it is right."""

    name = "calibration"
    needs = ("parity", "batch", "answers")

    def applies(self, version: VersionUnderTest) -> bool:
        """Of a version that is tried."""
        return version.trial is not None

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        figures, champion, before, refitted = version.quality
        return criteria.calibration(
            figures, version.limits, champion=champion, before=before, refitted=refitted
        )


class OptionalPlanes:
    """Whether the detections are as good for those who leave out the images that they may."""

    name = "optional_planes"
    needs = ("parity", "batch", "answers")

    def applies(self, version: VersionUnderTest) -> bool:
        """Of a version that is tried, and may be sent more or less."""
        return version.trial is not None and bool(version.card.optional_planes)

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        (figures, champion), limits = version.least_planes, version.limits
        answers = [
            criteria.accuracy(figures, limits),
            criteria.calibration(figures, limits, champion=champion),
        ]
        if champion is not None:
            answers.append(criteria.accuracy_change(figures, champion, limits))
        without = f"without {' and '.join(version.card.optional_planes)}"
        problems = [f"{without}, {one.detail}" for one in answers if not one.passed]
        kept = ("average_precision", "completeness", "purity", "ece")
        return Gate.of(
            self.name,
            problems,
            f"{without}: {answers[0].detail}",
            **{f"{name}_without_optional_planes": figures[name] for name in kept},
        )


def _suspecting(version: VersionUnderTest, answer: Gate) -> Gate:
    """An answer that refuses, with the card's normalisation named if that seems to be the cause."""
    if answer.passed or version.suspicion is None:
        return answer
    return msgspec.structs.replace(answer, detail=f"{answer.detail}; {version.suspicion}")
