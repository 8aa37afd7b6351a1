"""Every flag that an answer may carry; what raises one takes its name from here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Flag:
    """What a user should know about a detection or about a run.

    Attributes
    ----------
    name
        As it stands in the answer's ``flags``.
    meaning
        What is so, in one sentence.
    of
        ``run``: of the exposure, and so of each of its detections too; ``detection``: of one alone.
    raised_in
        The file, from the project's root, that decides it.
    """

    name: str
    meaning: str
    of: Literal["detection", "run"]
    raised_in: str


_ANSWER = "astrotriton/detection/scoring/answer.py"
_WCS = "astrotriton/detection/image/wcs.py"

FLAGS = (
    Flag(
        "bad_wcs", "The header has a WCS that cannot be used; `ra` and `dec` are null.", "run", _WCS
    ),
    Flag(
        "blended",
        "Another source lies nearer than twice the FWHM of the seeing.",
        "detection",
        _ANSWER,
    ),
    Flag(
        "dipole",
        "The negative lobe beside the source is more than half as deep as the source is high.",
        "detection",
        _ANSWER,
    ),
    Flag(
        "edge",
        "The source lies nearer to the edge of the exposure than one FWHM of the seeing.",
        "detection",
        _ANSWER,
    ),
    Flag(
        "masked",
        "The source lies on masked pixels and cannot be scored; `outcome` is `unscored`.",
        "detection",
        _ANSWER,
    ),
    Flag(
        "masked_near", "Some pixels of the source's surroundings are masked.", "detection", _ANSWER
    ),
    Flag(
        "negative",
        "The source is darker than its surroundings: it has faded.",
        "detection",
        _ANSWER,
    ),
    Flag(
        "no_candidate",
        "The network found the source, and no candidate of the request names it.",
        "detection",
        _ANSWER,
    ),
    Flag("no_wcs", "The file has no celestial WCS; `ra` and `dec` are null.", "run", _WCS),
    Flag(
        "out_of_distribution",
        "The source is unlike anything that the confidence was fitted on.",
        "detection",
        _ANSWER,
    ),
    Flag(
        "saturated",
        "Pixels of the source reach the level from which the header calls pixels saturated.",
        "detection",
        _ANSWER,
    ),
    Flag(
        "trail",
        "The source lies on a straight trail, as a satellite leaves it.",
        "detection",
        _ANSWER,
    ),
    Flag(
        "uncalibrated",
        "The model was never calibrated, so the confidence is the network's probability.",
        "detection",
        _ANSWER,
    ),
)

MEANINGS = {flag.name: flag.meaning for flag in FLAGS}

#: What the schema says of the field `flags`.
DESCRIPTION = (
    "What a user should know about it: " + ", ".join(f"`{name}`" for name in MEANINGS) + "."
)
