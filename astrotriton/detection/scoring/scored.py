"""What scoring an exposure answers."""

import msgspec

from astrotriton.wire.confidence import Guarantee, Prevalence
from astrotriton.wire.detections import Detection
from astrotriton.wire.exposures import ImageQuality, Observation
from astrotriton.wire.flags import Flag


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an exposure.

    Attributes
    ----------
    detections
        Kept ones by falling confidence, then masked ones that could not be scored, then merged
        ones, then candidates that lie nowhere on the exposure.
    features
        For each of them what its confidence is a function of, in the order of the card's confidence
        model, NaN where unknown; None for one that has no confidence, and without such a model.
    image
        Quality of the exposure as a whole.
    observation
        How it was taken.
    hdu
        The HDU that was scored.
    shape
        Its rows and columns, pixels.
    tiles
        Number of tiles that the exposure was read in: a U-Net answers each.
    extracted
        Whether SEP found the candidates because none were sent.
    threshold
        Least confidence of a detection that is called real.
    guarantee
        What is promised of those, if the caller asked.
    prevalence
        The share of real sources that the confidences hold for, if not the card's.
    flags
        What is odd about the exposure.
    """

    detections: list[Detection]
    features: list[list[float] | None]
    image: ImageQuality
    observation: Observation = Observation()
    hdu: str
    shape: tuple[int, int]
    tiles: int
    extracted: bool
    threshold: float
    guarantee: Guarantee | None
    prevalence: Prevalence | None = None
    flags: tuple[Flag, ...]
