"""A proven version goes live on every Triton, by alias and on the gateway; and comes back.

The order is what makes it safe: published, listed, loaded and proven on every replica, then the
repository notes it as the champion, then the gateway asks it, and only then do MLflow's aliases
follow and does what nobody asks any more go away. Until the gateway's step the old version answers.
Each step may be repeated: after a failure all is put back, and after a ``kill -9`` the same command
finishes the job. MLflow comes last and stops nothing.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from msgspec import UNSET, UnsetType

from astrotriton.detection.card import ModelCard
from astrotriton.detection.quality.golden import GOLDEN_FILE
from astrotriton.export import canary, registry
from astrotriton.export.champions import CHAMPIONS_FILE, Champions, champions_of, keep_champions
from astrotriton.export.errors import (
    ExportError,
    RegistryError,
    ServingError,
    UnfinishedError,
    UnknownVersionError,
)
from astrotriton.export.gateway_routes import Challenger, Gateway, Mode, Route, UncertainError
from astrotriton.export.repository import Listing, Repository
from astrotriton.export.serving import Replica
from astrotriton.export.triton_config import CONFIG_FILE
from astrotriton.settings import ModelConfig

Progress = Callable[[str], None]
Step = Literal["pinned", "listed", "loaded", "noted", "routed", "aliased", "trimmed", "pruned"]
OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where versions are served.

    Attributes
    ----------
    repository
        What every Triton serves from.
    replicas
        ``host:port`` of every Triton's gRPC service.
    gateway
        None where clients ask Triton alone.
    settings, profile
        As `astrotriton.export.triton_config.build_config` takes them.
    keep
        Published versions up to the champion that are kept; older ones that no alias names go.
    drain
        Seconds between the gateway's change and the unloading of a version that was asked until
        then.
    """

    repository: Repository
    replicas: Sequence[str]
    gateway: Gateway | None
    settings: ModelConfig
    profile: str
    keep: int = 3
    drain: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What is served of a model after a promotion or a rollback.

    Attributes
    ----------
    champion, previous_champion
        The version that answers, and the one that a rollback brings back; None if there is none.
    challenger
        What is tried beside the champion; None if nothing is.
    removed
        Versions that pruning removed from the repository; nobody can go back to them.
    notes
        What is still to be done, or to be known, in words.
    """

    name: str
    champion: int
    previous_champion: int | None
    challenger: Challenger | None
    removed: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What shall be served.

    Attributes
    ----------
    card
        Of the version that is loaded and proven.
    champions
        What the repository keeps from then on.
    challenger
        As the gateway is told.
    noted_last
        Whether the repository notes it only once all else is done. A rollback that stopped is then
        finished by the next one, and not gone on with.
    """

    card: ModelCard
    champions: Champions
    challenger: Challenger | None = None
    noted_last: bool = False


# Made of the champions and the route as they are once nobody else can change them.
_Plan = Callable[[Champions, Route | None], _Change]


def promote(
    card: ModelCard,
    serving: Serving,
    *,
    judged_against: int | UnsetType | None = UNSET,
    on_progress: Progress = lambda _: None,
    on_step: OnStep = lambda _: None,
) -> Live:
    """Make a published and proven version the champion; a challenger is then no more.

    Parameters
    ----------
    card
        Of the version.
    judged_against
        The champion that its gates compared it with, None for no champion; if not given, any
        will do.
    on_progress
        Told what comes next, in a few words.
    on_step
        Told of every step that is done.

    Raises
    ------
    ExportError
        If it was judged against another champion than there is now, or a step fails. The champion
        is then the one before, and everything is as it was.
    UnfinishedError
        If not everything could be put back, or the version is live and the one before could not be
        unloaded.
    """
    version = _number(card)

    def plan(now: Champions, route: Route | None) -> _Change:
        check_rival(card, now, judged_against)
        return _Change(card=card, champions=now.promoted(version))

    return _go_live(card.name, plan, serving, on_progress, on_step)


def challenge(
    card: ModelCard,
    serving: Serving,
    mode: Mode,
    fraction: float,
    *,
    automatic: bool = False,
    judged_against: int | UnsetType | None = UNSET,
    on_progress: Progress = lambda _: None,
    on_step: OnStep = lambda _: None,
) -> Live:
    """Have a published and proven version tried beside the champion.

    Parameters
    ----------
    mode, fraction
        As `astrotriton.export.gateway_routes.Challenger` has them.
    automatic
        Whether the gateway ends the trial by itself, and sets the fraction.
    card, judged_against, on_progress, on_step
        As `promote` takes them.

    Raises
    ------
    ExportError
        If there is no champion or no gateway, or a step fails. Everything is then as it was.
    """
    version = _number(card)

    def plan(now: Champions, route: Route | None) -> _Change:
        if now.champion in (None, version):
            raise ServingError(
                f"{card.name} version {version} has no champion to challenge: promote it as"
                " champion"
            )
        check_rival(card, now, judged_against)
        trial = Challenger(version=version, mode=mode, fraction=fraction, automatic=automatic)
        return _Change(card=card, champions=now.challenged(version), challenger=trial)

    if serving.gateway is None:
        raise ServingError("a challenger needs a gateway that asks it: set ASTROTRITON_GATEWAY_URL")
    return _go_live(card.name, plan, serving, on_progress, on_step)


def withdraw(
    name: str,
    serving: Serving,
    *,
    on_progress: Progress = lambda _: None,
    on_step: OnStep = lambda _: None,
) -> Live:
    """Try the challenger no longer; the champion stays.

    Raises
    ------
    ExportError
        If there is no challenger, or a step fails.
    """

    def plan(now: Champions, route: Route | None) -> _Change:
        if now.champion is None or now.challenger is None:
            raise ServingError(f"{name} has no challenger")
        card = serving.repository.read(name, now.champion)
        return _Change(card=card, champions=now.promoted(now.champion))

    return _go_live(name, plan, serving, on_progress, on_step)


def rollback(
    name: str,
    serving: Serving,
    *,
    to: int | None = None,
    on_progress: Progress = lambda _: None,
    on_step: OnStep = lambda _: None,
) -> Live:
    """Make a former champion the champion again; a challenger is then no more.

    It needs no MLflow and no gates: the version passed them before, and answers its golden tiles or
    the rollback fails.

    Parameters
    ----------
    to
        The version: a former champion, or any other that is published and passed its gates; if
        None, the champion before this one.
    name, serving, on_progress, on_step
        As `promote` takes them.

    Raises
    ------
    ExportError
        If there is none before, it is no longer published, or a step fails.
    UnknownVersionError
        If ``to`` is no version that can be gone back to.
    """
    repository = serving.repository

    def plan(now: Champions, route: Route | None) -> _Change:
        version = _before(name, now, route, repository) if to is None else to
        if version not in now.versions:
            _check_passed(name, version, repository)
            return _Change(card=repository.read(name, version), champions=now.promoted(version))
        if not repository.holds(name, version):
            raise UnknownVersionError(
                f"{name} version {version} is no longer published: {_ways_back(name, repository)}"
            )
        card = repository.read(name, version)
        return _Change(card=card, champions=now.back_to(version), noted_last=True)

    return _go_live(name, plan, serving, on_progress, on_step)


def _before(name: str, now: Champions, route: Route | None, repository: Repository) -> int:
    """The champion to go back to, also where a change of the champion was killed half-way."""
    asked = now.champion if route is None else route.champion
    if asked in now.versions[:-1]:
        return asked  # This rollback was begun, and not noted.
    version = now.previous if asked == now.champion else now.champion
    if version is None:
        raise RegistryError(
            f"{name} has no previous champion to go back to: {_ways_back(name, repository)}"
        )
    return version


def _ways_back(name: str, repository: Repository) -> str:
    """What can be done where a version cannot be gone back to."""
    published = ", ".join(map(str, repository.versions(name))) or "none"
    return (
        f"published are {published} (`astrotriton rollback {name} --to N`); promote another that"
        f" shall serve: astrotriton promote models:/{name}/N"
    )


def _check_passed(name: str, version: int, repository: Repository) -> None:
    if not repository.holds(name, version):
        raise UnknownVersionError(
            f"{name} version {version} is not published: {_ways_back(name, repository)}"
        )
    manifest = repository.manifest(name, version)
    if manifest is None or not manifest.blessed:
        raise UnknownVersionError(
            f"{name} version {version} was never the champion, and has not passed every gate:"
            f" astrotriton promote models:/{name}/{version}"
        )


def check_rival(card: ModelCard, now: Champions, judged_against: int | UnsetType | None) -> None:
    """Refuse a version that was judged beside another champion than there is.

    Raises
    ------
    ServingError
        If it was.
    """
    rival = now.rival(_number(card))
    if judged_against is UNSET or judged_against == rival:
        return
    raise ServingError(
        f"{card.name} version {card.version} was judged beside version {judged_against}, but the"
        f" champion is version {rival} now: run the same command again"
    )


def _go_live(
    name: str, plan: _Plan, serving: Serving, on_progress: Progress, on_step: OnStep
) -> Live:
    repository, gateway = serving.repository, serving.gateway
    with repository.locked(name):
        before = repository.listing(name)
        now = champions_of(name, repository)
        route = gateway.route(name) if gateway else None
        now = canary.settled(name, now, route, gateway)
        change = plan(now, route)
        card, after = change.card, change.champions
        assert after.champion is not None, "every change has a champion"
        if gateway and route is None and now.champion is not None:
            # Without a route the newest version that is loaded answers: that would be this one.
            on_progress(f"fixing the gateway on version {now.champion}")
            route = gateway.set_route(name, Route(champion=now.champion))
            on_step("pinned")
        kept = repository.note(name, CHAMPIONS_FILE)
        try:
            on_progress(f"listing version {card.version} in {repository.location}/{name}")
            wanted = {*before.versions, _number(card), after.champion}
            repository.list_versions(card, wanted, serving.settings, serving.profile)
            on_step("listed")
            golden = repository.file(name, _number(card), GOLDEN_FILE)
            for address in serving.replicas:
                on_progress(f"loading version {card.version} into the Triton at {address}")
                with Replica(address) as replica:
                    replica.load(name)
                    replica.check(card, golden)
            on_step("loaded")
            if not change.noted_last:
                # The way back first, so that it is known whenever the champion is another.
                keep_champions(name, after, repository)
                on_step("noted")
            if gateway:
                on_progress(f"telling the gateway at {gateway.url}")
                gateway.set_route(
                    name, Route(champion=after.champion, challenger=change.challenger)
                )
            on_step("routed")
        except BaseException as error:
            on_progress("putting everything back")
            faults = _undo(name, before, kept, route, serving, error)
            if faults and isinstance(error, ExportError):
                problems = "; ".join(faults)
                raise UnfinishedError(f"{error}; {problems}: run the same command again") from error
            raise
        live = Live(
            name=name,
            champion=after.champion,
            previous_champion=after.previous,
            challenger=change.challenger,
        )
        with _clearing_up(live):
            on_progress("moving the aliases in MLflow")
            notes = mirror(name, after)
            on_step("aliased")
            _trim(card, after, before.versions, serving, on_progress)
            on_step("trimmed")
            if change.noted_last:
                keep_champions(name, after, repository)
                on_step("noted")
    with _clearing_up(live):
        removed, told = _prune(name, after, serving)
    on_step("pruned")
    return replace(live, removed=removed, notes=[*notes, *told])


@contextlib.contextmanager
def _clearing_up(live: Live) -> Iterator[None]:
    """What comes after the route has changed, which is not put back."""
    try:
        yield
    except ExportError as error:
        raise UnfinishedError(
            f"version {live.champion} of {live.name} is the champion and the gateway's route has"
            f" changed, but clearing up stopped: {error}; run the same command again"
        ) from error


def mirror(name: str, champions: Champions) -> list[str]:
    """Have MLflow's aliases say who the champions are; what keeps them from it, in words."""
    try:
        gone = registry.move_aliases(name, champions.aliases())
    except RegistryError as error:
        return [
            f"the aliases in MLflow are as they were: {error}; `astrotriton models {name}"
            " --mend-aliases` moves them"
        ]
    return [
        f"MLflow has no alias {alias}: version {version} was deleted there, and is served as before"
        for alias, version in gone.items()
    ]


def mend_aliases(name: str, serving: Serving) -> list[str]:
    """Move MLflow's aliases to what the repository notes; what keeps them from it, in words.

    What a canary has come to is noted first, if the gateway answers.

    Raises
    ------
    ExportError
        If the repository keeps no champions of the model, or cannot be read.
    """
    repository = serving.repository
    with repository.locked(name):
        if repository.note(name, CHAMPIONS_FILE) is None:
            raise ServingError(
                f"nothing was ever promoted of {name} in {repository.location}, so the aliases say"
                " what they should"
            )
        noted = now = champions_of(name, repository)
        with contextlib.suppress(ServingError):  # the aliases need no gateway
            now = canary.mended(name, noted, serving.gateway)
        if now != noted:
            keep_champions(name, now, repository)
        return mirror(name, now)


def _undo(
    name: str,
    before: Listing,
    kept: bytes | None,
    route: Route | None,
    serving: Serving,
    error: BaseException,
) -> list[str]:
    """Put back what was; a fault on the way stops nothing else. What is not as it was, in words."""
    faults: list[str] = []
    repository, gateway = serving.repository, serving.gateway

    def attempt(what: str, action: Callable[[], object]) -> bool:
        try:
            action()
        except ExportError as fault:
            faults.append(f"could not put back {what}: {fault}")
            return False
        return True

    # An interrupt may have come while the gateway was being told, too.
    uncertain = isinstance(error, UncertainError) or not isinstance(error, ExportError)
    if gateway and route and uncertain:
        known = attempt("the route", lambda: gateway.set_route(name, route))
        if not known:
            # It may ask the new version already, so that one stays loaded.
            faults.append("the new version stays loaded, as the gateway may ask it")
            return faults

    for file, content in ((CHAMPIONS_FILE, kept), (CONFIG_FILE, before.content)):
        attempt(file, partial(repository.keep_note, name, file, content))
    for address in serving.replicas:
        with Replica(address) as replica:
            action = replica.load if before.content else replica.unload
            attempt(f"the versions loaded at {address}", partial(action, name))
    return faults


def _trim(
    card: ModelCard,
    after: Champions,
    listed: Sequence[int],
    serving: Serving,
    on_progress: Progress,
) -> None:
    """Unload what nobody asks any more: all but champion, the one before, and challenger."""
    wanted = set(after.aliases().values())
    if gone := set(listed) - wanted:
        on_progress(f"unloading {', '.join(f'version {one}' for one in sorted(gone))}")
        time.sleep(serving.drain)
    if not serving.repository.list_versions(card, wanted, serving.settings, serving.profile):
        return
    for address in serving.replicas:
        with Replica(address) as replica:
            replica.load(card.name)


def _prune(name: str, after: Champions, serving: Serving) -> tuple[list[int], list[str]]:
    """Remove old versions from the repository; those removed, and what kept the rest, in words."""
    repository = serving.repository
    try:
        aliased = registry.aliases(name).values()
    except RegistryError as error:
        return [], [f"nothing was pruned, as aliases of your own may name a version: {error}"]
    needed = {*repository.listed(name), *after.aliases().values(), *aliased}
    removed = []
    for version in prunable(repository.versions(name), after, needed, serving.keep):
        with contextlib.suppress(ExportError):
            repository.remove(name, version)
            removed.append(version)
    if removed:
        with repository.locked(name):
            left = champions_of(name, repository).among(repository.versions(name))
            keep_champions(name, left, repository)
    return removed, []


def prunable(
    published: Sequence[int], champions: Champions, needed: Collection[int], keep: int
) -> list[int]:
    """The versions that pruning takes away.

    Parameters
    ----------
    published
        Those that are published, ascending.
    champions
        As they are afterwards.
    needed
        Those that stay, however old.
    keep
        As `Serving` has it.
    """
    # Newer ones are waiting for their turn.
    old = [one for one in published if one <= (champions.champion or 0)]
    return [one for one in old[:-keep] if one not in needed]


def _number(card: ModelCard) -> int:
    if card.version is None:
        raise ValueError(f"{card.name} has no version: only a registered model is served")
    return card.version
