"""A run is tried with the version that its route chooses, and again where that version fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from astrotriton.detection.errors import PlaneMissingError
from astrotriton.gateway.errors import GatewayError
from astrotriton.gateway.services.recorder import Recorder
from astrotriton.gateway.services.routing import Choice, RoutingService, Wanted

T = TypeVar("T")


class ReplacedError(Exception):
    """The version may no longer be answered; the run begins again with the one that may."""


class Attempted(NamedTuple, Generic[T]):
    """What came of the attempts.

    Attributes
    ----------
    answer
        Of the last one.
    choice
        The version that answered.
    failed
        The version of a canary that failed the run before; None if none did.
    """

    answer: T
    choice: Choice
    failed: int | None


async def attempt(
    routing: RoutingService,
    recorder: Recorder,
    wanted: Wanted,
    sticky: str | asyncio.Task[str],
    began: float,
    run: Callable[[Choice], Awaitable[T]],
) -> Attempted[T]:
    """Run until a version answers that may.

    Parameters
    ----------
    routing, recorder
        Choose the version, and count what failed.
    wanted, sticky
        What is asked for; what the same exposure has in common, so that it gets the same version.
    began
        When the request came, seconds of `time.perf_counter`.
    run
        Scores and stores with a version; raises `ReplacedError` if it may no longer be answered.

    Raises
    ------
    GatewayError
        If a version fails that has not been replaced, and no champion stands in for it.
    PlaneMissingError
        If one needs an image that was not sent, likewise.
    """
    choice = await routing.choose(wanted, sticky)
    failed: int | None = None
    while True:
        try:
            return Attempted(await run(choice), choice, failed)
        except ReplacedError:
            failed, choice = None, await routing.choose(wanted, sticky, fresh=True)
        except (GatewayError, PlaneMissingError) as error:
            # The version may have been replaced meanwhile, and even unloaded.
            previous, choice = choice, await routing.choose(wanted, sticky, fresh=True)
            if choice.version not in (previous.version, failed):
                continue
            # What a canary fails, the champion answers.
            fallback = choice.fallback if failed is None else None
            # What a champion needs, its callers have to send: that is no failure of its own.
            if fallback is not None or isinstance(error, GatewayError):
                recorder.run_failed(previous.version, error.code, time.perf_counter() - began)
            if fallback is None:
                raise
            failed, choice = choice.version, Choice(wanted, fallback)
