"""What the channels of a network's input show of an exposure and the images that came with it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from astrotriton.detection.arrays import Image
from astrotriton.detection.card import ModelCard
from astrotriton.detection.errors import PlaneMissingError
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.tiling import views_of
from astrotriton.wire.exposures import COMPANIONS, Companion, Plane

_OTHER: dict[Companion, Companion] = {"science": "template", "template": "science"}

#: A view of an image that a channel shows, float32 (H, W), or what it shows everywhere.
Shown = Image | float


class Channels:
    """What each channel shows, of an exposure or of its negative.

    The negative of a difference is that of its images changed round: for a network that is shown
    it, the science image takes the place of the template, and the template that of the science
    image.

    Parameters
    ----------
    card
        Names the channels.
    exposure
        What was sent.
    negative
        Whether the network is shown the negative of the difference.

    Attributes
    ----------
    images
        The images that it uses beside the difference, by the plane that they are shown as.
    planes
        All that it uses of what was sent: the difference first.

    Raises
    ------
    PlaneMissingError
        ``plane-missing`` if it needs an image that was not sent; the field is the image.
    """

    def __init__(self, card: ModelCard, exposure: Exposure, *, negative: bool) -> None:
        sent: dict[Companion, Companion] = {
            plane: _OTHER[plane] if negative else plane for plane in card.companions
        }
        for plane in card.required_planes:
            if sent[plane] not in exposure.companions:
                _refuse(card, sent[plane])
        self.images: Mapping[Companion, Exposure] = {
            plane: exposure.companions[one]
            for plane, one in sent.items()
            if one in exposure.companions
        }
        used = {sent[plane] for plane in self.images}
        self.planes: tuple[Plane, ...] = (
            "difference",
            *(one for one in COMPANIONS if one in used),
        )
        self._channels = card.channels

    def views(
        self, difference: Image, read: Callable[[Companion], Image], count: int
    ) -> list[Sequence[Shown]]:
        """What each channel shows, by view.

        Parameters
        ----------
        difference
            Float32 (H, W), as the network sees it.
        read
            Gives the same of an image of `images`, by its plane.
        count
            Of views; see `views_of`.
        """
        seen: dict[str, list[Image]] = {"difference": views_of(difference, count)}
        for plane in self.images:
            seen[plane] = views_of(read(plane), count)
        return [[self._shown(name, seen, view) for name in self._channels] for view in range(count)]

    def _shown(self, channel: str, seen: Mapping[str, list[Image]], view: int) -> Shown:
        if channel in seen:
            return seen[channel][view]
        # Whether there is an image; of one that there is not, every pixel is 0.
        return float(channel.removeprefix("has_") in seen)


def fill(inputs: Image, shown: Sequence[Shown]) -> None:
    """Write what the channels show into an input of the network, float32 (C, H, W)."""
    for channel, image in zip(inputs, shown, strict=True):
        channel[:] = np.float32(image) if isinstance(image, float) else image


def needs_more(card: ModelCard, exposure: Exposure, polarity: Literal[1, -1] | None) -> bool:
    """Whether a network needs an image that did not come with an exposure."""
    try:
        Channels(card, exposure, negative=is_negative(card, polarity))
    except PlaneMissingError:
        return True
    return False


def is_negative(card: ModelCard, polarity: Literal[1, -1] | None) -> bool:
    """Whether a network is shown the negative, in which what fades brightens."""
    return polarity is not None and polarity not in card.polarities


def _refuse(card: ModelCard, plane: Companion) -> None:
    version = "" if card.version is None else f" version {card.version}"
    raise PlaneMissingError(
        "plane-missing",
        plane,
        f"{card.name}{version} needs the {plane} image beside the difference: send it as the part"
        f" `{plane}`, name its HDU in {plane}_hdu, or ask for a version that does without it",
    )
