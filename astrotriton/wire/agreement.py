"""How far two versions agree on exposures that both have scored."""

from typing import Annotated

import msgspec
from msgspec import Meta

from astrotriton.wire.fields import Window
from astrotriton.wire.models import VersionRef


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """What two versions made of the same exposures.

    A source that both scored is a pair: the closest first, within the NMS radius of `other`.
    """

    model: VersionRef
    other: VersionRef
    window: Window
    exposures: Annotated[int, Meta(description="Exposures that both have scored.")]
    shadowed: Annotated[
        int, Meta(description="Of these, how many one of them scored in the shadow of the other.")
    ]
    matched: Annotated[int, Meta(description="Sources that both scored.")]
    only_model: Annotated[int, Meta(description="Sources that `model` alone scored.")]
    only_other: Annotated[int, Meta(description="Sources that `other` alone scored.")]
    verdicts_changed: Annotated[
        int, Meta(description="Of those that both scored, how many only one of them calls real.")
    ]
    agreement: Annotated[
        float | None, Meta(description="Share of the matched sources with the same verdict.")
    ]
    mean_difference: Annotated[
        float | None, Meta(description="Of the confidences of matched sources, absolute.")
    ]
    largest_difference: float | None
    reason: Annotated[str | None, Meta(description="Why there are no figures.")] = None
