"""What a card may say wrongly of the pixels that its network sees."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import msgspec

from astrotriton.detection.card import ModelCard, Scaling, StampModel
from astrotriton.detection.errors import CardError
from astrotriton.detection.image.normalisation import Normalisation


@dataclass(frozen=True, slots=True)
class Alternative:
    """A card that says another thing.

    Attributes
    ----------
    of
        What it says differently.
    said
        How, in words.
    """

    of: str
    said: str
    card: ModelCard


def alternatives(card: ModelCard, champion: ModelCard | None) -> Iterator[Alternative]:
    """What a card could say instead: as the champion's first, then as the default.

    Of a classifier of stamps every other scaling; its normalisation where it has a meaning.
    """
    if isinstance(card, StampModel):
        yield from _scalings(card, champion)
        if card.scaling != "asinh":
            return
    others = {} if champion is None else {"the champion's": champion.normalisation}
    own = card.normalisation
    for whose, other in {**others, "the default": Normalisation()}.items():
        # The size of the tiles follows from this one.
        other = msgspec.structs.replace(other, resize=own.resize)
        if other == own:
            continue
        theirs = msgspec.structs.asdict(other)
        said = ", ".join(
            f"{name} is {value:g}, {whose} {theirs[name]:g}"
            for name, value in msgspec.structs.asdict(own).items()
            if value != theirs[name]
        )
        yield Alternative("normalisation", said, msgspec.structs.replace(card, normalisation=other))


def _scalings(card: StampModel, champion: ModelCard | None) -> Iterator[Alternative]:
    known = [one for one in get_args(Scaling) if one != card.scaling]
    champions = champion.scaling if isinstance(champion, StampModel) else None
    for scaling in sorted(known, key=lambda one: one != champions):
        whose = "the champion's" if scaling == champions else "another"
        try:
            other = msgspec.structs.replace(card, scaling=scaling)
        except CardError:  # It would have to say more.
            continue
        yield Alternative("scaling", f"scaling is {card.scaling}, {whose} {scaling}", other)
