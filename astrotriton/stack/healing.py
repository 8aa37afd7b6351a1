"""How a stack that keeps serving treats parts that die: the settings, and the count of restarts."""

import time
from collections.abc import Callable

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

_SHORTEST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0


class Healing(BaseSettings):
    """Bounds on restarts, and how often the served models are looked at."""

    model_config = SettingsConfigDict(env_prefix="ASTROTRITON_STACK_", frozen=True, extra="ignore")

    restarts: int = Field(
        10,
        title="Restarts",
        description="Times that a part may be started again within `restarts_within`; a part that "
        "dies more often ends the stack, which names it.",
        ge=0,
    )
    restarts_within: float = Field(
        600.0, title="Restarts within", description="Seconds over which restarts count.", gt=0
    )
    probe_interval: float = Field(
        5.0,
        title="Probe interval",
        description="Seconds between two looks at the served models.",
        gt=0,
    )
    probe_proof_interval: float = Field(
        60.0,
        title="Probe proof interval",
        description="Seconds after which the golden tile is sent again, even if no request failed.",
        gt=0,
    )


class Restarts:
    """The restarts of one part.

    Parameters
    ----------
    most, within
        How many may happen in how many seconds.
    clock
        Tells the time, seconds.
    """

    def __init__(
        self, most: int, within: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._within = within
        self._clock = clock
        self._times: list[float] = []

    def next_pause(self) -> float | None:
        """Count a restart: the seconds to wait before it, or None if there were too many."""
        now = self._clock()
        self._times = [past for past in self._times if now - past < self._within]
        if len(self._times) >= self._most:
            return None
        self._times.append(now)
        return float(min(_SHORTEST_PAUSE * 2 ** (len(self._times) - 1), _LONGEST_PAUSE))
