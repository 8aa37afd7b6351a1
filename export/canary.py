"""A canary that the gateway ends by itself, and what is left to do then.

The gateway's route is what decides. It cannot write to the model repository nor to MLflow, so once
the challenger is the champion there, the repository's note and the aliases are a step behind, and
both versions stay loaded. Whoever changes what is served next takes the route's word and notes it:
the command that waits for the canary, its repetition, or any other promotion or rollback.
"""

import time
from collections.abc import Callable

from astrotriton.export.champions import Champions
from astrotriton.export.errors import CanaryError, ServingError
from astrotriton.export.gateway_routes import Canary, Gateway, Route, UncertainError

# Between two questions to the gateway; it looks at a canary every few seconds itself.
_PAUSE = 1.0


def settled(name: str, noted: Champions, route: Route | None, gateway: Gateway | None) -> Champions:
    """The champions with what a canary has come to since they were noted.

    Parameters
    ----------
    noted, route
        What the repository notes, and the gateway's route.

    Raises
    ------
    ServingError
        If the gateway does not answer.
    """
    new = noted.challenger
    if gateway is None or route is None or new is None or route.champion != new:
        return noted
    canary = gateway.canary(name)
    if canary is None or canary.status != "promoted":
        return noted
    if (canary.champion, canary.challenger) != (noted.champion, new):
        return noted
    return noted.promoted(new)


def mended(name: str, noted: Champions, gateway: Gateway | None) -> Champions:
    """The champions as they are to be noted, also where a canary has sent its challenger back.

    Raises
    ------
    ServingError
        If the gateway does not answer.
    """
    route = None if gateway is None else gateway.route(name)
    now = settled(name, noted, route, gateway)
    if gateway is None or route is None or now.challenger is None or now.champion is None:
        return now
    canary = gateway.canary(name)
    if canary is None or canary.status == "running" or canary.challenger != now.challenger:
        return now
    back = route.challenger is None and route.champion == now.champion
    return now.promoted(now.champion) if back else now


def is_over(name: str, version: int, gateway: Gateway) -> bool:
    """Whether the route has a version as the champion because a canary made it that."""
    canary, route = gateway.canary(name), gateway.route(name)
    return (
        canary is not None
        and canary.status == "promoted"
        and canary.challenger == version
        and route is not None
        and route.champion == version
    )


def wait(
    name: str,
    version: int,
    gateway: Gateway,
    on_progress: Callable[[str], None],
    pause: float = _PAUSE,
) -> None:
    """Wait until a canary has made a version the champion.

    A gateway that does not answer is asked again, as another one may go on. Who gives up waiting
    ends nothing.

    Raises
    ------
    CanaryError
        If the version was sent back.
    ServingError
        If the canary was ended by another change of the route.
    """
    told = ""
    while True:
        try:
            canary = gateway.canary(name)
        except UncertainError as error:
            text = f"the canary goes on unseen: {error}"
        else:
            if canary is None or canary.challenger != version:
                raise ServingError(f"{name} version {version} is not on trial any more")
            if canary.status != "running":
                return _ended(name, canary)
            text = f"version {version} answers {canary.fraction:.0%} of the runs"
        if text != told:
            on_progress(text)
            told = text
        time.sleep(pause)


def _ended(name: str, canary: Canary) -> None:
    which = f"{name} version {canary.challenger}"
    if canary.status == "sent-back":
        raise CanaryError(f"{which} was sent back by {canary.reason}")
    if canary.status == "ended":
        raise ServingError(f"the canary of {which} was ended: {canary.reason}")
