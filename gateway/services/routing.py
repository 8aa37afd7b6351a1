"""Which version of the model answers a run, and changing that without a gap."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Literal, NamedTuple, TypeGuard, TypeVar

import msgspec
from uuid_utils.compat import uuid7

from astrotriton.detection.errors import InputError
from astrotriton.gateway.errors import GatewayError, NotFoundError, VersionError
from astrotriton.gateway.services.canary.book import CanaryBook
from astrotriton.gateway.services.events import PROMOTED, EventSource, promoted_event
from astrotriton.gateway.services.models import ModelService
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.storage.canaries import StoredCanary, hold_running
from astrotriton.gateway.storage.database import Connection, Database
from astrotriton.gateway.storage.outbox import insert_event
from astrotriton.gateway.storage.routes import change_route, find_route, hold_route
from astrotriton.wire.models import Challenger, Route, RouteIn

T = TypeVar("T")

Wanted = int | Literal["champion", "challenger"] | None

# Seconds for which what was read still counts. A run of a version that has been replaced since
# begins again, as `RoutingService.still_allows` looks once more.
_RECENT = 1.0


class Choice(NamedTuple):
    """The version that a run got.

    Attributes
    ----------
    wanted
        What its request asks for.
    version
        What that means now.
    shadow
        The version that shall score the exposure too, in the background.
    fallback
        The champion, which answers a run that a canary fails.
    """

    wanted: Wanted
    version: int
    shadow: int | None = None
    fallback: int | None = None


class _Recent(Generic[T]):
    """What was read a moment ago, or is read now."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._last: tuple[float, T] | None = None

    async def get(self, *, fresh: bool) -> T:
        if fresh or self._last is None or time.monotonic() - self._last[0] > _RECENT:
            self._last = time.monotonic(), await self._read()
        return self._last[1]

    def forget(self) -> None:
        self._last = None


class RoutingService:
    """Chooses versions by the route in the database, or by the settings while there is none.

    Parameters
    ----------
    database, models, outbox
        Where the route is, what proves a version, and who tells of a promotion.
    event_source
        ``source`` of an event.
    book
        Where canaries that end by themselves are written down.
    canary_pairs
        Share of the exposures that both versions of such a canary score.
    """

    def __init__(
        self,
        *,
        database: Database,
        models: ModelService,
        outbox: OutboxPublisher,
        event_source: EventSource,
        book: CanaryBook,
        canary_pairs: float,
    ) -> None:
        self._database = database
        self._models = models
        self._outbox = outbox
        self._event_source = event_source
        self._book = book
        self._canary_pairs = canary_pairs
        self._route = _Recent(self._find)
        self._configured = _Recent(models.configured_version)

    async def choose(
        self, wanted: Wanted, key: str | asyncio.Task[str], *, fresh: bool = False
    ) -> Choice:
        """The version for a run, which keeps it.

        Parameters
        ----------
        wanted
            What the request asks for.
        key
            Names the exposure: the same one always gets the same side of a canary. It is waited for
            only where there is a canary or a shadow.
        fresh
            Look now. Otherwise what was read in the last second counts, unless a version is asked
            for by name.

        Raises
        ------
        InputError
            If the version asked for is not one that may answer.
        GatewayError
            If PostgreSQL or Triton does not answer, or Triton serves no version.
        """
        route = await self._route.get(fresh=fresh or _is_named(wanted))
        if route is None:
            return await self._choose_by_settings(wanted, fresh)
        if _is_named(wanted):
            return Choice(wanted, _named(route, wanted))
        trial = route.challenger
        if wanted is not None or trial is None:
            return Choice(wanted, route.champion)
        name = key if isinstance(key, str) else await key
        tried = _share(route.name, name) < trial.fraction
        if trial.mode == "shadow":
            return Choice(wanted, route.champion, trial.version if tried else None)
        # Another draw than the canary's: both sides of it are compared.
        paired = trial.automatic and _share(f"{route.name} pairs", name) < self._canary_pairs
        if tried:
            shadow = route.champion if paired else None
            return Choice(wanted, trial.version, shadow, fallback=route.champion)
        return Choice(wanted, route.champion, trial.version if paired else None)

    async def prevalence(self) -> float | Literal["estimated"] | None:
        """The share of real sources that the route states, as it was read in the last second."""
        route = await self._route.get(fresh=False)
        return None if route is None else route.prevalence

    async def still_allows(self, connection: Connection, choice: Choice) -> bool:
        """Whether a run's version may be answered, which stays so until the transaction ends."""
        route = await hold_route(connection, self._models.name)
        return route is None or choice.version in _allowed(route, choice.wanted)

    async def get(self, name: str) -> Route:
        """The route of the model.

        Raises
        ------
        NotFoundError
            If it has none: the settings decide.
        """
        async with self._database.transaction() as connection:
            route = await find_route(connection, self._known(name))
        if route is None:
            raise NotFoundError(f"the model {name!r} has no route: the settings choose its version")
        return route

    async def change(self, name: str, new: RouteIn) -> Route:
        """Set the route of the model, after every version in it has proven itself.

        Runs that began with a version that the new route leaves out, and are not stored yet, begin
        again. When this returns, nothing of such a version is stored any more. A canary that was to
        end by itself is over, unless it is what is asked for: then it goes on.

        Raises
        ------
        NotFoundError
            If the gateway serves another model.
        VersionError
            If a version is not served by every Triton, or does not answer its golden tile there.
        InputError
            If the challenger is the champion, or a shadow is to end by itself.
        """
        self._known(name)
        trial = new.challenger
        if trial is not None and trial.automatic and trial.mode != "canary":
            raise InputError(
                "shadow-is-automatic", "challenger.automatic", "only a canary ends by itself"
            )
        if trial is not None and trial.version == new.champion:
            raise InputError(
                "challenger-is-champion", "challenger.version", "name another version than champion"
            )
        await self.prove("champion", new.champion)
        if trial is not None:
            await self.prove("challenger.version", trial.version)
        async with self._database.transaction() as connection:
            canary = await hold_running(connection, name)
            route = await find_route(connection, name)
            if route is None or not _goes_on(canary, new):
                if canary is not None:
                    await self._book.end(connection, canary, "ended", _changed_to(new))
                if trial is not None and trial.automatic:
                    await self._book.begin(connection, name, new.champion, trial.version)
                    first = msgspec.structs.replace(trial, fraction=self._book.plan.fractions[0])
                    new = msgspec.structs.replace(new, challenger=first)
                route = await self.write(connection, new)
        self.forget()
        self._outbox.wake()
        return route

    async def write(self, connection: Connection, new: RouteIn) -> Route:
        """Set the route in a transaction, with the event; call `forget` once it is committed."""
        route, promoted = await change_route(connection, self._models.name, new)
        if promoted:
            event_id = uuid7()
            event = promoted_event(route, event_id, self._event_source)
            await insert_event(connection, event_id, PROMOTED, event)
        return route

    def forget(self) -> None:
        """Look at the route anew for the next run."""
        self._route.forget()

    async def prove(self, field: str, version: int) -> None:
        """Have a version answer its golden tile on every instance of every Triton.

        Raises
        ------
        VersionError
            If one does not; it names the field.
        """
        try:
            proofs = await self._models.prove(await self._models.get(version))
        except GatewayError as error:
            raise VersionError(field, version, error.detail) from error
        for proof in proofs:
            if not proof.good:
                raise VersionError(field, version, f"{proof.detail} at {proof.replica.address}")

    async def _find(self) -> Route | None:
        async with self._database.connection() as connection:
            return await find_route(connection, self._models.name)

    async def _choose_by_settings(self, wanted: Wanted, fresh: bool) -> Choice:
        if wanted == "challenger":
            raise InputError("no-such-version", "model_version", "there is no challenger")
        if isinstance(wanted, int):
            served = await self._models.served_versions()
            if wanted not in served:
                raise InputError(
                    "no-such-version", "model_version", f"{wanted} is not served, only {served}"
                )
            return Choice(wanted, wanted)
        return Choice(wanted, await self._configured.get(fresh=fresh))

    def _known(self, name: str) -> str:
        if name != self._models.name:
            raise NotFoundError(f"the model here is {self._models.name!r}, not {name!r}")
        return name


def _goes_on(canary: StoredCanary | None, new: RouteIn) -> bool:
    """Whether a canary that is under way is what is asked for."""
    trial = new.challenger
    return (
        canary is not None
        and trial is not None
        and trial.automatic
        and (new.champion, trial.version) == (canary.champion, canary.challenger)
    )


def _changed_to(new: RouteIn) -> str:
    trial: Challenger | None = new.challenger
    beside = "nothing" if trial is None else f"version {trial.version} as {trial.mode}"
    return f"the route was changed: version {new.champion} is the champion, with {beside} beside it"


def _is_named(wanted: Wanted) -> TypeGuard[int | Literal["challenger"]]:
    """Whether a request asks for a version that not every request gets."""
    return isinstance(wanted, int) or wanted == "challenger"


def _named(route: Route, wanted: int | Literal["challenger"]) -> int:
    allowed = _allowed(route, wanted)
    if wanted == "challenger":
        if not allowed:
            raise InputError("no-such-version", "model_version", "there is no challenger")
        return allowed[0]
    if wanted not in allowed:
        raise InputError(
            "no-such-version", "model_version", f"{wanted} may not answer, only {allowed}"
        )
    return wanted


def _allowed(route: Route, wanted: Wanted) -> list[int]:
    """The versions that a request may get."""
    trial = route.challenger
    challenger = [] if trial is None else [trial.version]
    if wanted == "challenger":
        return challenger
    if wanted == "champion":
        return [route.champion]
    if wanted is None:
        canary = trial is not None and trial.mode == "canary"
        return [route.champion, *(challenger if canary else ())]
    previous = [] if route.previous_champion is None else [route.previous_champion]
    return sorted({route.champion, *challenger, *previous})


def _share(name: str, key: str) -> float:
    """A number from 0 to 1 for an exposure, as if drawn by chance but always the same."""
    digest = hashlib.sha256(f"{name}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
