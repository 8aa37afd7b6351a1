"""Canaries that end by themselves: how far one is, and what speaks against the challenger."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta


class CanaryTest(msgspec.Struct, frozen=True, kw_only=True):
    """One way to be worse, and what was seen of it."""

    name: Annotated[str, Meta(examples=["lost"])]
    finds: Annotated[str, Meta(description="What is the case if it alarms.")]
    count: Annotated[int, Meta(description="Observations.")]
    mean: Annotated[float | None, Meta(description="Of the observations; null without any.")]
    tolerated: Annotated[float, Meta(description="The largest true mean that is no fault.")]
    e_value: Annotated[
        float,
        Meta(
            description="The evidence that the true mean is larger, the largest so far; 1e300 "
            "stands for all that is beyond."
        ),
    ]
    alarms_at: Annotated[float, Meta(description="The e-value at which the challenger goes back.")]


class CanaryStep(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a canary."""

    at: datetime
    what: Annotated[
        Literal["began", "went-on", "promoted", "sent-back", "ended"],
        Meta(
            description="`ended`: the route was changed by somebody else, so that there was "
            "nothing left to decide."
        ),
    ]
    fraction: Annotated[
        float, Meta(description="Share of the runs that the challenger answers from then on.")
    ]
    reason: str
    tests: list[CanaryTest]


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger that answers more and more, until it is the champion or is sent back."""

    id: UUID
    name: str
    champion: int
    challenger: int
    status: Literal["running", "promoted", "sent-back", "ended"]
    step: Annotated[int, Meta(description="The step it is at, or came to; counted from 1.")]
    of: Annotated[int, Meta(description="Steps.")]
    fraction: Annotated[
        float, Meta(description="Share of the runs that the challenger answers now.")
    ]
    reason: Annotated[str, Meta(description="What it waits for, or why it ended.")]
    false_alarms: Annotated[
        float,
        Meta(
            description="Chance at most that a challenger within all tolerances is sent back, over "
            "the whole canary and all tests."
        ),
    ]
    pairs: Annotated[int, Meta(description="Exposures that both versions scored.")]
    runs: Annotated[int, Meta(description="Runs that the challenger was to answer.")]
    tests: list[CanaryTest]
    began_at: datetime
    finished_at: datetime | None
    steps: Annotated[list[CanaryStep], Meta(description="What happened so far, oldest first.")]
