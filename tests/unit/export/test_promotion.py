"""The order of a promotion, and what is left when a step of it fails.

The repository is a real one in a folder. MLflow's aliases, the Tritons and the gateway's route are
kept in memory here; every call to one of them is written down, and may be made to fail.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from astrotriton.export import digests, promotion, registry
from astrotriton.export.errors import (
    ExportError,
    RegistryError,
    ServingError,
    UnfinishedError,
)
from astrotriton.export.gateway_routes import Challenger, Route, UncertainError
from astrotriton.export.promotion import Live, Serving
from astrotriton.export.repository import Repository
from astrotriton.settings import ModelConfig
from tests.unit.export import samples

NAME = "unet_small"
SETTINGS = ModelConfig(model_name=NAME, input_size=(64, 64), batch_size=8, enable_gpu=False)
ADDRESSES = ("one:8001", "other:8001")
FIRST = Route(champion=1)


@dataclass
class World:
    """Everything that a promotion touches, and what was done to it, in order."""

    repository: Repository
    aliases: dict[str, int] = field(default_factory=dict)
    route: Route | None = None
    loaded: dict[str, list[int]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    #: Raises what shall go wrong at a call.
    fault: Callable[[str], None] = lambda call: None
    url: str = "http://gateway"

    def call(self, call: str) -> None:
        self.calls.append(call)
        self.fault(call)

    def serving(self, **changes: Any) -> Serving:
        given = {
            "repository": self.repository,
            "replicas": ADDRESSES,
            "gateway": Gateway(self),
            "settings": SETTINGS,
            "profile": "cpu",
            "drain": 0.0,
        }
        return Serving(**{**given, **changes})

    def promote(self, version: int, **changes: Any) -> Live:
        card = self.repository.read(NAME, version)
        self.steps.clear()
        return promotion.promote(card, self.serving(**changes), on_step=self.steps.append)

    def challenge(self, version: int, **changes: Any) -> Live:
        card = self.repository.read(NAME, version)
        return promotion.challenge(card, self.serving(**changes), "canary", 0.25)

    def state(self) -> dict[str, Any]:
        root = Path(self.repository.location)
        return {
            "files": {
                str(path.relative_to(root)): path.read_bytes()
                for path in root.rglob("*")
                if path.is_file()
            },
            "aliases": dict(self.aliases),
            "route": self.route,
            "loaded": {address: list(one) for address, one in self.loaded.items()},
        }


class Gateway:
    def __init__(self, world: World) -> None:
        self.world, self.url = world, world.url

    def route(self, name: str) -> Route | None:
        return self.world.route

    def set_route(self, name: str, route: Route) -> Route:
        self.world.call(f"route {route.champion}")
        self.world.route = route
        return route


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    """Versions 1 to 4 are published; nothing is served."""
    made = World(Repository(tmp_path / "models"), loaded={one: [] for one in ADDRESSES})
    for version in (1, 2, 3, 4):
        files = {"model.onnx": b"weights %d" % version, "golden.npz": b"golden %d" % version}
        card = msgspec.structs.replace(
            samples.card(NAME),
            version=version,
            digests={name: digests.of_bytes(content) for name, content in files.items()},
        )
        made.repository.publish(card, files)

    class Replica:
        """A Triton, which serves what the repository lists when it is told to load."""

        def __init__(self, address: str) -> None:
            self.address = address

        def __enter__(self) -> "Replica":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def load(self, name: str) -> None:
            made.call(f"load {self.address}")
            made.loaded[self.address] = list(made.repository.listed(name))

        def unload(self, name: str) -> None:
            made.call(f"unload {self.address}")
            made.loaded[self.address] = []

        def check(self, card: Any, golden: bytes) -> float:
            made.call(f"check {card.version} {self.address}")
            assert card.version in made.loaded[self.address]
            assert golden == b"golden %d" % card.version
            return 0.0

    def set_alias(name: str, alias: str, version: int | None) -> None:
        made.call(f"alias {alias} {version}")
        if version is None:
            made.aliases.pop(alias, None)
        else:
            made.aliases[alias] = version

    monkeypatch.setattr(promotion, "Replica", Replica)
    monkeypatch.setattr(registry, "aliases", lambda name: dict(made.aliases))
    monkeypatch.setattr(registry, "set_alias", set_alias)
    return made


@pytest.fixture
def live(world) -> World:
    """Version 1 is the champion."""
    world.promote(1)
    world.calls.clear()
    return world


def test_the_first_promotion_serves_a_version_everywhere(world):
    done = world.promote(1)
    assert done == Live(name=NAME, champion=1, previous_champion=None, challenger=None)
    assert world.route == FIRST
    assert world.aliases == {"champion": 1}
    assert world.loaded == {address: [1] for address in ADDRESSES}


def test_what_is_proven_everywhere_gets_its_alias_and_then_is_asked(live):
    done = live.promote(2)
    assert (done.champion, done.previous_champion, done.removed) == (2, 1, [])
    assert live.calls == [
        *("load one:8001", "check 2 one:8001", "load other:8001", "check 2 other:8001"),
        # The way back is known before the champion is another.
        *("alias previous_champion 1", "alias champion 2", "route 2"),
    ]
    assert live.steps == ["listed", "loaded", "aliased", "routed", "trimmed", "pruned"]
    # The one before stays loaded, so that it is a moment's work to go back to it.
    assert live.loaded == {address: [1, 2] for address in ADDRESSES}


def test_what_nobody_asks_any_more_is_unloaded_only_then(live):
    live.promote(2)
    live.calls.clear()
    live.promote(3)
    routed = live.calls.index("route 3")
    assert live.calls[routed + 1 :] == ["load one:8001", "load other:8001"]
    assert live.loaded == {address: [2, 3] for address in ADDRESSES}


def test_a_repeat_changes_nothing(live):
    live.promote(2)
    before = live.state()
    again = live.promote(2)
    assert (again.champion, again.previous_champion) == (2, 1)
    assert live.state() == before


def test_old_versions_go_newer_ones_and_those_with_an_alias_stay(live):
    live.promote(2)
    done = live.promote(3, keep=1)
    assert done.removed == [1]
    assert live.repository.versions(NAME) == [2, 3, 4]
    assert live.aliases == {"champion": 3, "previous_champion": 2}


def test_without_a_route_the_gateway_is_fixed_on_what_answers(live):
    live.route = None
    live.promote(2)
    assert live.calls[0] == "route 1"
    assert live.steps[0] == "pinned"
    assert live.route == Route(champion=2)


def test_without_a_gateway_triton_alone_is_told(live):
    live.route = None
    live.promote(2, gateway=None)
    assert live.route is None
    assert not [call for call in live.calls if call.startswith("route")]
    assert live.aliases["champion"] == 2


def calls_before_the_route(live: World) -> list[str]:
    """What a promotion of version 2 does until it cannot be put back, tried out and undone."""
    live.promote(2)
    calls = list(live.calls)
    promotion.rollback(NAME, live.serving())
    live.promote(1)
    live.calls.clear()
    return calls


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("kind", [ServingError, KeyboardInterrupt])
def test_a_failure_at_any_call_leaves_everything_as_it_was(live, place, kind):
    wanted = calls_before_the_route(live)
    assert len(wanted) == 7
    before = live.state()
    made = 0

    def fault(call: str) -> None:
        nonlocal made
        made += 1
        if made == place + 1:
            raise kind("no more")

    live.fault = fault
    with pytest.raises(kind):
        live.promote(2)
    assert live.calls[place] == wanted[place]
    assert live.state() == before
    live.fault = lambda call: None
    assert live.promote(2).champion == 2


def test_a_version_that_answers_wrongly_on_one_triton_is_nowhere(live):
    before = live.state()

    def fault(call: str) -> None:
        if call == "check 2 other:8001":
            raise ServingError("it answers wrongly")

    live.fault = fault
    with pytest.raises(ServingError, match="answers wrongly"):
        live.promote(2)
    assert live.state() == before
    assert not [call for call in live.calls if call.startswith(("alias", "route"))]


def test_the_first_one_that_fails_leaves_nothing_loaded(world):
    def fault(call: str) -> None:
        if call.startswith("alias champion"):
            raise RegistryError("MLflow is away")

    world.fault = fault
    with pytest.raises(RegistryError):
        world.promote(1)
    assert world.aliases == {}
    assert world.loaded == {address: [] for address in ADDRESSES}
    assert world.repository.listed(NAME) == []


def test_a_gateway_that_may_have_changed_is_told_to_go_back(live):
    """Its answer was lost: the route may be the new one."""

    def fault(call: str) -> None:
        if call == "route 2":
            live.route = Route(champion=2)
            raise UncertainError("no answer")

    live.fault = fault
    before = live.state()
    with pytest.raises(UncertainError):
        live.promote(2)
    assert live.state() == before
    assert live.calls.count("route 1") == 1


def test_while_the_gateway_may_ask_it_a_version_stays_loaded(live):
    def fault(call: str) -> None:
        if call.startswith("route"):
            raise UncertainError("no answer")

    live.fault = fault
    with pytest.raises(UnfinishedError, match=r"could not put back the route.*stays loaded"):
        live.promote(2)
    assert live.loaded == {address: [1, 2] for address in ADDRESSES}
    assert live.aliases["champion"] == 2


def test_what_cannot_be_put_back_is_said_and_the_rest_is_put_back(live):
    def fault(call: str) -> None:
        if call == "route 2" or call == "alias champion 1":
            raise ServingError(f"no {call}")

    live.fault = fault
    with pytest.raises(UnfinishedError, match=r"the alias champion.*run the same command again"):
        live.promote(2)
    assert live.loaded == {address: [1] for address in ADDRESSES}
    assert live.route == FIRST


def test_once_it_is_asked_a_failure_does_not_turn_back(live):
    live.promote(2)

    def fault(call: str) -> None:
        if call.startswith("load") and live.route == Route(champion=3):
            raise ServingError("it does not load")

    live.fault = fault
    with pytest.raises(UnfinishedError, match=r"version 3 .* is the champion.*same command again"):
        live.promote(3)
    assert (live.route, live.aliases["champion"]) == (Route(champion=3), 3)
    live.fault = lambda call: None
    assert live.promote(3).champion == 3
    assert live.loaded == {address: [2, 3] for address in ADDRESSES}


def test_a_challenger_is_tried_beside_the_champion(live):
    done = live.challenge(2)
    trial = Challenger(version=2, mode="canary", fraction=0.25)
    assert (done.champion, done.challenger) == (1, trial)
    assert live.route == Route(champion=1, challenger=trial)
    assert live.aliases == {"champion": 1, "challenger": 2}
    assert live.loaded == {address: [1, 2] for address in ADDRESSES}


def test_a_challenger_that_is_promoted_is_no_challenger_any_more(live):
    live.challenge(2)
    live.promote(2)
    assert live.route == Route(champion=2)
    assert live.aliases == {"champion": 2, "previous_champion": 1}


def test_a_challenger_is_withdrawn(live):
    live.promote(2)
    live.challenge(3)
    done = promotion.withdraw(NAME, live.serving())
    assert (done.champion, done.challenger) == (2, None)
    assert live.route == Route(champion=2)
    assert live.aliases == {"champion": 2, "previous_champion": 1}
    assert live.loaded == {address: [1, 2] for address in ADDRESSES}
    with pytest.raises(ServingError, match="has no challenger"):
        promotion.withdraw(NAME, live.serving())


def test_a_challenger_needs_a_champion_and_a_gateway(world):
    with pytest.raises(ServingError, match="no champion to challenge"):
        world.challenge(1)
    world.promote(1)
    with pytest.raises(ServingError, match="no champion to challenge"):
        world.challenge(1)
    with pytest.raises(ServingError, match="ASTROTRITON_GATEWAY_URL"):
        world.challenge(2, gateway=None)


def test_a_rollback_goes_back_once(live):
    live.promote(2)
    live.calls.clear()
    done = promotion.rollback(NAME, live.serving())
    assert (done.champion, done.previous_champion) == (1, None)
    assert live.route == FIRST
    assert live.aliases == {"champion": 1}
    assert live.loaded == {address: [1] for address in ADDRESSES}
    # The way back is forgotten last: until then another rollback goes on, and does not turn round.
    assert live.calls[-1] == "alias previous_champion None"
    with pytest.raises(RegistryError, match="no previous champion"):
        promotion.rollback(NAME, live.serving())


def test_a_rollback_that_stops_is_finished_by_the_next(live):
    live.promote(2)

    def fault(call: str) -> None:
        if call == "alias previous_champion None":
            raise RegistryError("MLflow is away")

    live.fault = fault
    with pytest.raises(UnfinishedError):
        promotion.rollback(NAME, live.serving())
    assert live.route == FIRST
    live.fault = lambda call: None
    assert promotion.rollback(NAME, live.serving()).champion == 1
    assert live.aliases == {"champion": 1}


def test_a_version_that_is_gone_cannot_be_gone_back_to(live):
    live.aliases["previous_champion"] = 9
    before = live.state()
    with pytest.raises(ExportError):
        promotion.rollback(NAME, live.serving())
    assert live.state() == before


def test_what_a_version_is_measured_against(live):
    assert promotion.champion_of(NAME, live.repository) == 1
    assert promotion.rival_of(NAME, 2, live.repository) == 1
    assert promotion.rival_of(NAME, 1, live.repository) is None
    live.promote(2)
    # The champion is measured against the one before.
    assert promotion.rival_of(NAME, 2, live.repository) == 1
    # Where nothing was ever promoted, the newest that is served counts as the champion.
    live.aliases.clear()
    assert promotion.champion_of(NAME, live.repository) == 2


def test_a_version_without_a_number_is_no_version(live):
    with pytest.raises(ValueError, match="has no version"):
        promotion.promote(samples.card(NAME), live.serving())
