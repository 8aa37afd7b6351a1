"""Flags: what a user should know about a detection, or about a whole exposure.

This is the one register of them. The science raises a flag as a member of `Flag`, so that no other
name can be raised; the OpenAPI document, the dashboard and the documents say what a flag means by
drawing from here. On the wire a flag is its name: whoever reads an answer of a later release may
meet a name that is not registered yet.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

#: ``source``: raised for one source. ``exposure``: for the exposure, and for each of its sources.
Raised = Literal["source", "exposure"]


class Flag(StrEnum):
    """A flag. It is equal to its name as it goes over the wire.

    Attributes
    ----------
    meaning
        What it says, in one sentence.
    raised
        Whether it is raised for a source or for an exposure as a whole. The flags of an exposure
        are repeated on each of its detections.
    """

    meaning: str
    raised: Raised

    def __new__(cls, name: str, raised: Raised, meaning: str) -> "Flag":
        """A member, declared by its name, where it is raised, and what it means."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.raised = raised
        member.meaning = meaning
        return member

    NO_WCS = (
        "no_wcs",
        "exposure",
        "The header has no celestial WCS, so that no sky positions are known.",
    )
    BAD_WCS = (
        "bad_wcs",
        "exposure",
        "The header's WCS cannot be used, so that no sky positions are known.",
    )
    SEEING_ASSUMED = (
        "seeing_assumed",
        "exposure",
        "Neither the request nor the header says how wide point sources are, and too few of them "
        "were found to measure it: 4 px are assumed, and the errors of fluxes are as large as that "
        "makes them.",
    )
    NO_CANDIDATE = (
        "no_candidate",
        "source",
        "The network found this source, and none of the candidates names it.",
    )
    MASKED = (
        "masked",
        "source",
        "The pixel that the source lies on is masked or missing, so that it could not be scored.",
    )
    MASKED_NEAR = (
        "masked_near",
        "source",
        "Some of the pixels within one FWHM of the source are masked or missing.",
    )
    EDGE = ("edge", "source", "The source lies within one FWHM of the edge of the exposure.")
    SATURATED = (
        "saturated",
        "source",
        "A pixel within 2 px of the source reaches the saturation level that the header states.",
    )
    BLENDED = ("blended", "source", "Another source lies within two FWHM of this one.")
    DIPOLE = (
        "dipole",
        "source",
        "Beside the source lies a negative lobe more than half as deep as the source is high: the "
        "trace of a badly subtracted star.",
    )
    TRAIL = (
        "trail",
        "source",
        "The source lies on a straight line that stands out by more than 8 sigma, as a satellite "
        "leaves it.",
    )
    NEGATIVE = (
        "negative",
        "source",
        "The source lies below the background: it has faded, and a version that looks for "
        "fading sources scores it as it scores others.",
    )
    OUT_OF_DISTRIBUTION = (
        "out_of_distribution",
        "source",
        "The measurements of the source are unlike those that the confidence was fitted to, so "
        "that its confidence may be wrong.",
    )
    BRIGHTER_THAN_TRAINED = (
        "brighter_than_trained",
        "source",
        "The signal-to-noise ratio of the source lies beyond the card's domain; it is out of "
        "distribution for that.",
    )
    SEEING_OUTSIDE_TRAINING = (
        "seeing_outside_training",
        "exposure",
        "The width of point sources lies outside the card's domain, so every source of the "
        "exposure is out of distribution.",
    )
    SUBTRACTION_SUSPECT = (
        "subtraction_suspect",
        "exposure",
        "Far more sources look real than a difference holds, and nearly all of them have the same "
        "sign: the epochs were probably subtracted with the wrong flux scale, or not at all.",
    )
    PREVALENCE_NOT_USED = (
        "prevalence_not_used",
        "exposure",
        "The route says what share of the sources is real, and confidences hold for the share of "
        "the calibration all the same: too few exposures are stored to estimate it, or the "
        "version's card does not say what share it was calibrated on.",
    )
    UNCALIBRATED = (
        "uncalibrated",
        "source",
        "The version has no calibrated confidence for such a run, so that the confidence is "
        "the network's own probability.",
    )


#: Every flag there is.
FLAGS: tuple[Flag, ...] = tuple(Flag)

_MEANINGS = {str(flag): flag.meaning for flag in FLAGS}


def meaning_of(name: str) -> str | None:
    """What a flag means; None for one that is not registered, as of a later or earlier release."""
    return _MEANINGS.get(name)


def explained(flags: Iterable[Flag]) -> str:
    """Flags with their meanings as a list in Markdown, for the description of a field."""
    return "\n".join(f"- `{flag}`: {flag.meaning}" for flag in flags)
