"""A proven version goes live on every Triton, by alias and on the gateway; and comes back.

The order is what makes it safe: published, listed, loaded and proven on every replica, then the
alias moves, then the gateway asks it, and only then does what nobody asks any more go away. Until
the gateway's step the old version answers. Each step may be repeated: after a failure all is put
back, and after a ``kill -9`` the same command finishes the job.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from astrotriton.detection.card import UNetModel
from astrotriton.detection.quality.golden import GOLDEN_FILE
from astrotriton.export import registry
from astrotriton.export.errors import ExportError, RegistryError, ServingError, UnfinishedError
from astrotriton.export.gateway_routes import Challenger, Gateway, Mode, Route, UncertainError
from astrotriton.export.registry import CHALLENGER, CHAMPION, PREVIOUS
from astrotriton.export.repository import Listing, Repository
from astrotriton.export.serving import Replica
from astrotriton.settings import ModelConfig

Progress = Callable[[str], None]
Step = Literal["pinned", "listed", "loaded", "aliased", "routed", "trimmed", "pruned"]
OnStep = Callable[[Step], None]

_ALIASES = (PREVIOUS, CHAMPION, CHALLENGER)


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
    """What is served of a model after a promotion or a rollback."""

    name: str
    champion: int
    previous_champion: int | None
    challenger: Challenger | None
    removed: list[int] = field(default_factory=list)


def champion_of(name: str, repository: Repository) -> int | None:
    """The version that is the champion, or serves as one as nothing was ever promoted."""
    if (champion := registry.aliases(name).get(CHAMPION)) is not None:
        return champion
    return max(repository.listed(name), default=None)


def rival_of(name: str, version: int, repository: Repository) -> int | None:
    """The champion that a version is measured against: the one before, if it is that itself."""
    champion = champion_of(name, repository)
    return champion if champion != version else registry.aliases(name).get(PREVIOUS)


def promote(
    card: UNetModel,
    serving: Serving,
    *,
    on_progress: Progress = lambda _: None,
    on_step: OnStep = lambda _: None,
) -> Live:
    """Make a published and proven version the champion; a challenger is then no more.

    Parameters
    ----------
    card
        Of the version.
    on_progress
        Told what comes next, in a few words.
    on_step
        Told of every step that is done.

    Raises
    ------
    ExportError
        If a step fails. The champion is then the one before, and everything is as it was.
    UnfinishedError
        If not everything could be put back, or the version is live and the one before could not be
        unloaded.
    """
    version = _number(card)
    previous = rival_of(card.name, version, serving.repository)
    live = Live(name=card.name, champion=version, previous_champion=previous, challenger=None)
    return _go_live(card, live, serving, on_progress, on_step)


def challenge(
    card: UNetModel,
    serving: Serving,
    mode: Mode,
    fraction: float,
    *,
    on_progress: Progress = lambda _: None,
    on_step: OnStep = lambda _: None,
) -> Live:
    """Have a published and proven version tried beside the champion.

    Parameters
    ----------
    mode, fraction
        As `astrotriton.export.gateway_routes.Challenger` has them.
    card, on_progress, on_step
        As `promote` takes them.

    Raises
    ------
    ExportError
        If there is no champion or no gateway, or a step fails. Everything is then as it was.
    """
    version = _number(card)
    champion = champion_of(card.name, serving.repository)
    if champion is None or champion == version:
        raise ServingError(
            f"{card.name} version {version} has no champion to challenge: promote it as champion"
        )
    if serving.gateway is None:
        raise ServingError("a challenger needs a gateway that asks it: set ASTROTRITON_GATEWAY_URL")
    live = Live(
        name=card.name,
        champion=champion,
        previous_champion=registry.aliases(card.name).get(PREVIOUS),
        challenger=Challenger(version=version, mode=mode, fraction=fraction),
    )
    return _go_live(card, live, serving, on_progress, on_step)


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
    champion = champion_of(name, serving.repository)
    if champion is None or registry.aliases(name).get(CHALLENGER) is None:
        raise ServingError(f"{name} has no challenger")
    card = serving.repository.read(name, champion)
    return promote(card, serving, on_progress=on_progress, on_step=on_step)


def rollback(
    name: str,
    serving: Serving,
    *,
    on_progress: Progress = lambda _: None,
    on_step: OnStep = lambda _: None,
) -> Live:
    """Make the previous champion the champion again; a challenger is then no more.

    It needs no gates: it was served before, and answers its golden tile or the rollback fails.

    Raises
    ------
    ExportError
        If there is none before, it is no longer published, or a step fails.
    """
    previous = registry.aliases(name).get(PREVIOUS)
    if previous is None:
        raise RegistryError(
            f"{name} has no previous champion to go back to; promote the version that shall serve:"
            f" astrotriton promote models:/{name}/N"
        )
    card = serving.repository.read(name, previous)
    # The alias `previous_champion` stays until the end: a rollback that was killed is then repeated
    # by the next one, and not turned round.
    live = Live(name=name, champion=previous, previous_champion=previous, challenger=None)
    done = _go_live(card, live, serving, on_progress, on_step)
    with _clearing_up(done):
        registry.set_alias(name, PREVIOUS, None)
    return replace(done, previous_champion=None)


def _go_live(
    card: UNetModel, live: Live, serving: Serving, on_progress: Progress, on_step: OnStep
) -> Live:
    name, repository = card.name, serving.repository
    with repository.locked(name):
        before = repository.listing(name)
        listed = before.versions
        aliases = registry.aliases(name)
        route = serving.gateway.route(name) if serving.gateway else None
        if serving.gateway and route is None and listed:
            # Without a route the newest version that is loaded answers: that would be this one.
            on_progress(f"fixing the gateway on version {max(listed)}")
            route = serving.gateway.set_route(name, Route(champion=max(listed)))
            on_step("pinned")
        try:
            on_progress(f"listing version {card.version} in {repository.location}/{name}")
            wanted = {*listed, _number(card), live.champion}
            repository.list_versions(card, wanted, serving.settings, serving.profile)
            on_step("listed")
            golden = repository.file(name, _number(card), GOLDEN_FILE)
            for address in serving.replicas:
                on_progress(f"loading version {card.version} into the Triton at {address}")
                with Replica(address) as replica:
                    replica.load(name)
                    replica.check(card, golden)
            on_step("loaded")
            on_progress("moving the aliases in MLflow")
            _set_aliases(name, aliases, live)
            on_step("aliased")
            if serving.gateway:
                on_progress(f"telling the gateway at {serving.gateway.url}")
                new = Route(champion=live.champion, challenger=live.challenger)
                serving.gateway.set_route(name, new)
            on_step("routed")
        except BaseException as error:
            on_progress("putting everything back")
            faults = _undo(name, before, aliases, route, serving, error)
            if faults and isinstance(error, ExportError):
                problems = "; ".join(faults)
                raise UnfinishedError(f"{error}; {problems}: run the same command again") from error
            raise
        with _clearing_up(live):
            _trim(card, live, listed, serving, on_progress)
        on_step("trimmed")
    with _clearing_up(live):
        removed = _prune(live, serving)
    on_step("pruned")
    return replace(live, removed=removed)


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


def _set_aliases(name: str, before: dict[str, int], live: Live) -> None:
    challenger = live.challenger.version if live.challenger else None
    # The way back first, so that it is known whenever the champion is another.
    for alias, version in zip(
        _ALIASES, (live.previous_champion, live.champion, challenger), strict=True
    ):
        if before.get(alias) != version:
            registry.set_alias(name, alias, version)


def _undo(
    name: str,
    before: Listing,
    aliases: dict[str, int],
    route: Route | None,
    serving: Serving,
    error: BaseException,
) -> list[str]:
    """Put back what was; a fault on the way stops nothing else. What is not as it was, in words."""
    faults: list[str] = []

    def attempt(what: str, action: Callable[[], object]) -> bool:
        try:
            action()
        except ExportError as fault:
            faults.append(f"could not put back {what}: {fault}")
            return False
        return True

    gateway = serving.gateway
    # An interrupt may have come while the gateway was being told, too.
    uncertain = isinstance(error, UncertainError) or not isinstance(error, ExportError)
    if gateway and route and uncertain:
        known = attempt("the route", lambda: gateway.set_route(name, route))
        if not known:
            # It may ask the new version already, so that one stays loaded.
            faults.append("the new version stays loaded, as the gateway may ask it")
            return faults

    now: dict[str, int] = {}
    if attempt("the aliases", lambda: now.update(registry.aliases(name))):
        for alias in reversed(_ALIASES):
            if now.get(alias) != (old := aliases.get(alias)):
                attempt(f"the alias {alias}", partial(registry.set_alias, name, alias, old))
    attempt("config.pbtxt", lambda: serving.repository.restore_config(name, before.content))
    for address in serving.replicas:
        with Replica(address) as replica:
            action = replica.load if before.content else replica.unload
            attempt(f"the versions loaded at {address}", partial(action, name))
    return faults


def _trim(
    card: UNetModel, live: Live, listed: Sequence[int], serving: Serving, on_progress: Progress
) -> None:
    """Unload what nobody asks any more: all but champion, the one before, and challenger."""
    wanted = {live.champion, live.previous_champion or live.champion}
    if live.challenger:
        wanted.add(live.challenger.version)
    if gone := set(listed) - wanted:
        on_progress(f"unloading {', '.join(f'version {one}' for one in sorted(gone))}")
        time.sleep(serving.drain)
    if not serving.repository.list_versions(card, wanted, serving.settings, serving.profile):
        return
    for address in serving.replicas:
        with Replica(address) as replica:
            replica.load(card.name)


def _prune(live: Live, serving: Serving) -> list[int]:
    repository = serving.repository
    needed = {*repository.listed(live.name), *registry.aliases(live.name).values()}
    # Newer ones are waiting for their turn.
    old = [one for one in repository.versions(live.name) if one <= live.champion]
    removed = []
    for version in old[: -serving.keep]:
        if version not in needed:
            with contextlib.suppress(ExportError):
                repository.remove(live.name, version)
                removed.append(version)
    return removed


def _number(card: UNetModel) -> int:
    if card.version is None:
        raise ValueError(f"{card.name} has no version: only a registered model is served")
    return card.version
