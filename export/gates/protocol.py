"""What every gate is."""

from typing import Protocol

from astrotriton.export.gates.version import VersionUnderTest
from astrotriton.wire.validation import Gate


class VersionGate(Protocol):
    """One question that a version has to answer before it is let through.

    Attributes
    ----------
    name
        As the manifest, the figures in MLflow and the command line name it.
    needs
        Names of the gates before it that must not have failed, or have gone unasked for that
        reason. One that does not apply to the version holds nothing up.
    """

    @property
    def name(self) -> str:
        """See above."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """See above."""
        ...

    def applies(self, version: VersionUnderTest) -> bool:
        """Whether it is a question for this version, by its card, champion, trial and precision.

        A plan asks this before anything else of the version is known.
        """
        ...

    def ask(self, version: VersionUnderTest) -> Gate:
        """The answer, with its figures.

        Raises
        ------
        ExportError
            If it cannot be measured.
        """
        ...
