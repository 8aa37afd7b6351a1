"""How a canary begins, goes on and ends: each in the transaction of the route's change."""

from datetime import UTC, datetime
from typing import Literal

import msgspec
from uuid_utils.compat import uuid7

from astrotriton.detection.quality.canary import TESTS, Evidence, Plan, Tolerances, rate_of_each
from astrotriton.gateway.services.events import CANARY, EventSource, canary_event
from astrotriton.gateway.storage.canaries import (
    Kept,
    StoredCanary,
    finish_canary,
    insert_canary,
    insert_step,
    set_step,
)
from astrotriton.gateway.storage.database import Connection
from astrotriton.gateway.storage.outbox import insert_event
from astrotriton.wire.canary import CanaryStep, CanaryTest
from astrotriton.wire.events import CanaryEvent

_LARGEST = 1e300


class CanaryBook:
    """Writes down what becomes of canaries, with the event that tells of it.

    Parameters
    ----------
    plan, tolerances
        Of canaries that begin.
    event_source
        ``source`` of an event.
    """

    def __init__(self, plan: Plan, tolerances: Tolerances, event_source: EventSource) -> None:
        self.plan = plan
        self._tolerances = tolerances
        self._event_source = event_source

    async def begin(
        self, connection: Connection, name: str, champion: int, challenger: int
    ) -> None:
        """Begin a canary; the caller sets the route to its first fraction."""
        nothing = Evidence.none(self._tolerances)
        kept = Kept(plan=self.plan, tolerances=self._tolerances, evidence=nothing, before=nothing)
        canary_id = uuid7()
        await insert_canary(connection, canary_id, name, champion, challenger, kept)
        first = self.plan.fractions[0]
        event = CanaryEvent(
            canary_id=canary_id,
            name=name,
            champion=champion,
            challenger=challenger,
            step=_step("began", first, f"it answers {first:.0%} of the runs", kept),
        )
        await self._tell(connection, event)

    async def go_on(self, connection: Connection, canary: StoredCanary, reason: str) -> float:
        """Begin the next step; its fraction, to which the caller sets the route."""
        step = canary.step + 1
        kept = msgspec.structs.replace(canary.kept, before=canary.kept.evidence)
        await set_step(connection, canary.id, step, kept)
        fraction = kept.plan.fractions[step]
        await self._tell(connection, _event(canary, _step("went-on", fraction, reason, kept)))
        return fraction

    async def end(
        self,
        connection: Connection,
        canary: StoredCanary,
        how: Literal["promoted", "sent-back", "ended"],
        reason: str,
    ) -> None:
        """End a canary; the caller sets the route to what there is then."""
        await finish_canary(connection, canary.id, how, reason)
        fraction = 1.0 if how == "promoted" else 0.0
        await self._tell(connection, _event(canary, _step(how, fraction, reason, canary.kept)))

    async def _tell(self, connection: Connection, event: CanaryEvent) -> None:
        await insert_step(connection, event.canary_id, event.step)
        event_id = uuid7()
        content = canary_event(event, event_id, self._event_source)
        await insert_event(connection, event_id, CANARY, content)


def tests_of(kept: Kept) -> list[CanaryTest]:
    """What every test has seen."""
    alarms_at = 1.0 / rate_of_each(kept.tolerances.false_alarms)
    return [
        CanaryTest(
            name=name,
            finds=finds,
            count=test.count,
            mean=test.mean,
            tolerated=test.limit,
            e_value=min(test.evidence, _LARGEST),
            alarms_at=alarms_at,
        )
        for name, finds in TESTS.items()
        for test in (kept.evidence.tests[name],)
    ]


def _step(
    what: Literal["began", "went-on", "promoted", "sent-back", "ended"],
    fraction: float,
    reason: str,
    kept: Kept,
) -> CanaryStep:
    return CanaryStep(
        at=datetime.now(UTC), what=what, fraction=fraction, reason=reason, tests=tests_of(kept)
    )


def _event(canary: StoredCanary, step: CanaryStep) -> CanaryEvent:
    return CanaryEvent(
        canary_id=canary.id,
        name=canary.name,
        champion=canary.champion,
        challenger=canary.challenger,
        step=step,
    )
