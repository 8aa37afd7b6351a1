"""What share of the sources is real: as a request or a route says, or as it is estimated."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from scipy.special import logit

from astrotriton.detection.card import ModelCard
from astrotriton.detection.confidence.prevalence import StatedPrevalence, estimate
from astrotriton.detection.errors import CardError, InputError
from astrotriton.detection.scoring.score import TTA_VIEWS
from astrotriton.gateway.compute import compute
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.services.models import ModelService, ServedModel
from astrotriton.gateway.services.routing import RoutingService
from astrotriton.gateway.storage.database import Connection, Database
from astrotriton.gateway.storage.models import find_card
from astrotriton.gateway.storage.prevalence import count_log_ratios, recent_runs
from astrotriton.gateway.storage.routes import set_prevalence
from astrotriton.wire.confidence import PrevalenceEstimate
from astrotriton.wire.models import PrevalenceIn, RoutePrevalence
from astrotriton.wire.runs import InferRequest

#: Fewer exposures or sources than these say nothing.
LEAST_EXPOSURES, LEAST_SOURCES = 20, 1000

_AGE = timedelta(days=30)
_KEPT_CARDS = 64
# A route waits this long for what is missing, rather than to count at every run.
_MISSING = 10.0


class Stated(NamedTuple):
    """The share that a run is scored for, and whether the route's is left out of account."""

    prevalence: StatedPrevalence | None
    unused: bool = False


class PrevalenceService:
    """Finds the share of real sources that a run is scored for.

    Parameters
    ----------
    database, models, routing
        What was scored lately, whose cards say what share was calibrated on, and what a route says.
    exposures
        Most exposures that an estimate rests on.
    refresh
        Seconds after which an estimate is made anew, once it is asked for.
    """

    def __init__(
        self,
        *,
        database: Database,
        models: ModelService,
        routing: RoutingService,
        exposures: int,
        refresh: float,
    ) -> None:
        self._database = database
        self._models = models
        self._routing = routing
        self._exposures = exposures
        self._refresh = refresh
        self._lock = asyncio.Lock()
        self._known: dict[bool, tuple[float, PrevalenceEstimate | str]] = {}
        self._calibrated: dict[tuple[UUID, bool], float | None] = {}

    async def stated(self, request: InferRequest, model: ServedModel) -> Stated:
        """The share that a run by a version is scored for.

        Raises
        ------
        InputError
            ``prevalence-unknown`` if the request wants it estimated, and too little is stored.
        GatewayError
            If PostgreSQL does not answer.
        """
        asked, extracted = request.prevalence, request.candidates is None
        if asked == "calibrated":
            return Stated(None)
        if asked == "estimated":
            found = await self._estimate(extracted)
            if isinstance(found, str):
                raise InputError("prevalence-unknown", "prevalence", found)
            return Stated(StatedPrevalence(share=found.share, source="request", estimate=found))
        if asked is not None:
            return Stated(StatedPrevalence(share=asked, source="request"))
        by_route = await self._routing.prevalence()
        if by_route is None:
            return Stated(None)
        if model.card.calibrated_share(_views(request.tta)) is None:
            return Stated(None, unused=True)
        if by_route != "estimated":
            return Stated(StatedPrevalence(share=by_route, source="route"))
        found = await self._estimate(extracted)
        if isinstance(found, str):
            return Stated(None, unused=True)
        return Stated(StatedPrevalence(share=found.share, source="route", estimate=found))

    async def get(self, name: str) -> RoutePrevalence:
        """What a route says, and what is estimated.

        Raises
        ------
        NotFoundError
            If the model has no route.
        """
        route = await self._routing.get(name)
        found = [await self._estimate(extracted) for extracted in (True, False)]
        return RoutePrevalence(
            name=name,
            prevalence=route.prevalence,
            estimates=[one for one in found if not isinstance(one, str)],
        )

    async def set(self, name: str, new: PrevalenceIn) -> RoutePrevalence:
        """State the share of real sources of a route, from the next run on.

        Raises
        ------
        NotFoundError
            If the model has no route.
        InputError
            ``prevalence-unusable`` if a version of the route does not know the share that it was
            calibrated on.
        """
        route = await self._routing.get(name)
        versions = [route.champion]
        if route.challenger is not None:
            versions.append(route.challenger.version)
        for version in versions if new.prevalence is not None else ():
            card = (await self._models.get(version)).card
            if card.calibrated_share(1) is None:
                raise InputError(
                    "prevalence-unusable",
                    "prevalence",
                    f"the card of version {version} does not say what share it was calibrated on,"
                    " so its confidence cannot follow another one: calibrate it anew, and promote"
                    " that version first",
                )
        async with self._database.transaction() as connection:
            if await set_prevalence(connection, name, new.prevalence) is None:
                raise NotFoundError(f"the model {name!r} has no route any more")
        self._routing.forget()
        return await self.get(name)

    async def _estimate(self, extracted: bool) -> PrevalenceEstimate | str:
        """As it was estimated lately, or the reason why it cannot be."""
        async with self._lock:
            known = self._known.get(extracted)
            if known is not None:
                old = _MISSING if isinstance(known[1], str) else self._refresh
                if time.monotonic() - known[0] <= min(old, self._refresh):
                    return known[1]
            found = await self._estimated(extracted)
            self._known[extracted] = time.monotonic(), found
        return found

    async def _estimated(self, extracted: bool) -> PrevalenceEstimate | str:
        async with self._database.transaction() as connection:
            runs = await recent_runs(
                connection, self._models.name, self._exposures, _AGE, extracted=extracted
            )
            used, offsets = [], []
            for run in runs:
                calibrated = await self._of_card(connection, run.model_id, tta=run.tta)
                if calibrated is not None:
                    used.append(run)
                    offsets.append(run.shift + float(logit(calibrated)))
            counts = await count_log_ratios(connection, [run.id for run in used], offsets)
        exposures, sources = len(used), int(counts.sum())
        if exposures < LEAST_EXPOSURES or sources < LEAST_SOURCES:
            kind = "the gateway extracted" if extracted else "were sent"
            return (
                f"{exposures} exposures with {sources} sources, whose candidates {kind}, are stored"
                f" of the last {_AGE.days} days: {LEAST_EXPOSURES} with {LEAST_SOURCES} are needed"
                " to estimate what share is real; state a share, or leave it out"
            )
        found = await compute(estimate, counts)
        return PrevalenceEstimate(
            share=found.share,
            low=found.low,
            high=found.high,
            error=found.error,
            exposures=exposures,
            sources=sources,
            extracted=extracted,
            since=used[-1].created_at,
            until=used[0].created_at,
            estimated_at=datetime.now(UTC),
        )

    async def _of_card(self, connection: Connection, model_id: UUID, *, tta: bool) -> float | None:
        """The share that a version's confidence was calibrated on, if its card says it."""
        key = model_id, tta
        if key not in self._calibrated:
            if len(self._calibrated) >= _KEPT_CARDS:
                self._calibrated.clear()
            try:
                card = ModelCard.from_json(await find_card(connection, model_id))
            except CardError:  # stored by another release
                self._calibrated[key] = None
            else:
                self._calibrated[key] = card.calibrated_share(_views(tta))
        return self._calibrated[key]


def _views(tta: bool) -> int:
    return TTA_VIEWS if tta else 1
