"""The order of a promotion, and what is left when a step of it fails.

The repository is a real one in a folder. MLflow's aliases, the Tritons and the gateway's route are
kept in memory here; every call to one of them is written down, and may be made to fail.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from astrotriton.export import canary, digests, promotion, registry
from astrotriton.export.champions import Champions, champions_of
from astrotriton.export.errors import (
    CanaryError,
    RegistryError,
    ServingError,
    UnfinishedError,
    UnknownVersionError,
)
from astrotriton.export.gateway_routes import Canary, Challenger, Route, UncertainError
from astrotriton.export.manifest import Manifest
from astrotriton.export.promotion import Live, Serving
from astrotriton.export.repository import Repository
from astrotriton.settings import ModelConfig
from astrotriton.wire.validation import Gate
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
    #: Versions that MLflow has no longer.
    deleted: set[int] = field(default_factory=set)
    route: Route | None = None
    loaded: dict[str, list[int]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    #: Raises what shall go wrong at a call.
    fault: Callable[[str], None] = lambda call: None
    url: str = "http://gateway"
    #: What the gateway tells of its last canary that was to end by itself.
    canary: Canary | None = None

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

    def canary(self, name: str) -> Canary | None:
        self.world.fault("canary")
        return self.world.canary

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

    def move_aliases(name: str, wanted: dict[str, int]) -> dict[str, int]:
        made.call(f"aliases {wanted}")
        made.aliases = {alias: one for alias, one in wanted.items() if one not in made.deleted}
        return {alias: one for alias, one in wanted.items() if one in made.deleted}

    def aliases(name: str) -> dict[str, int]:
        made.fault("aliases")
        return dict(made.aliases)

    monkeypatch.setattr(promotion, "Replica", Replica)
    monkeypatch.setattr(registry, "aliases", aliases)
    monkeypatch.setattr(registry, "move_aliases", move_aliases)
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
        *("route 2", "aliases {'previous_champion': 1, 'champion': 2}"),
    ]
    # The way back is noted before the champion is another.
    assert live.steps == ["listed", "loaded", "noted", "routed", "aliased", "trimmed", "pruned"]
    # The one before stays loaded, so that it is a moment's work to go back to it.
    assert live.loaded == {address: [1, 2] for address in ADDRESSES}


def test_what_nobody_asks_any_more_is_unloaded_only_then(live):
    live.promote(2)
    live.calls.clear()
    live.promote(3)
    routed = live.calls.index("route 3")
    assert live.calls[routed + 2 :] == ["load one:8001", "load other:8001"]
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
    calls = live.calls[: live.calls.index("route 2") + 1]
    promotion.rollback(NAME, live.serving())
    live.calls.clear()
    return calls


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("kind", [ServingError, KeyboardInterrupt])
def test_a_failure_at_any_call_leaves_everything_as_it_was(live, place, kind):
    wanted = calls_before_the_route(live)
    assert len(wanted) == 5
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
    assert not [call for call in live.calls if call.startswith(("aliases", "route"))]


def test_the_first_one_that_fails_leaves_nothing_loaded(world):
    def fault(call: str) -> None:
        if call.startswith("route"):
            raise ServingError("the gateway refuses")

    world.fault = fault
    with pytest.raises(ServingError):
        world.promote(1)
    assert not (Path(world.repository.location) / NAME / "champions.json").exists()
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
    live.fault = lambda call: None
    # It may have been asked, so going back leads to the one before.
    assert promotion.rollback(NAME, live.serving()).champion == 1


def test_what_cannot_be_put_back_is_said_and_the_rest_is_put_back(live):
    def fault(call: str) -> None:
        if call == "route 2" or (call == "load one:8001" and "route 2" in live.calls):
            raise ServingError(f"no {call}")

    live.fault = fault
    with pytest.raises(UnfinishedError, match=r"loaded at one:8001.*run the same command again"):
        live.promote(2)
    assert live.loaded == {"one:8001": [1, 2], "other:8001": [1]}
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


def test_a_rollback_goes_back_and_then_there_is_nothing_before(live):
    live.promote(2)
    live.calls.clear()
    done = promotion.rollback(NAME, live.serving())
    assert (done.champion, done.previous_champion) == (1, None)
    assert live.route == FIRST
    assert live.aliases == {"champion": 1}
    assert live.loaded == {address: [1] for address in ADDRESSES}
    with pytest.raises(RegistryError, match=r"no previous champion.*published are 1, 2, 3, 4"):
        promotion.rollback(NAME, live.serving())


def test_several_rollbacks_go_back_step_by_step(live):
    live.promote(2)
    live.promote(3)
    serving = live.serving()
    assert promotion.rollback(NAME, serving).champion == 2
    assert live.aliases == {"champion": 2, "previous_champion": 1}
    assert promotion.rollback(NAME, serving).champion == 1


def test_a_rollback_goes_to_any_former_champion(live):
    live.promote(2)
    live.promote(3)
    done = promotion.rollback(NAME, live.serving(), to=1)
    assert (done.champion, done.previous_champion) == (1, None)
    assert live.loaded == {address: [1] for address in ADDRESSES}


def test_a_rollback_goes_to_a_version_that_passed_its_gates_and_to_no_other(live):
    live.promote(2)
    with pytest.raises(UnknownVersionError, match="was never the champion, and has not passed"):
        promotion.rollback(NAME, live.serving(), to=4)
    with pytest.raises(UnknownVersionError, match="version 9 is not published"):
        promotion.rollback(NAME, live.serving(), to=9)
    card = live.repository.read(NAME, 4)
    manifest = Manifest(
        name=NAME,
        version=4,
        made_at=datetime(2026, 5, 1, tzinfo=UTC),
        digests={"card.json": digests.of_bytes(card.to_json())},
        gates=[Gate(name="sandbox", passed=True, detail="served", figures={})],
    )
    live.repository.attach(NAME, 4, "manifest.json", manifest.to_json())
    done = promotion.rollback(NAME, live.serving(), to=4)
    assert (done.champion, done.previous_champion) == (4, 2)


@pytest.mark.parametrize("step", ["loaded", "routed", "aliased", "trimmed", "noted"])
def test_a_rollback_that_was_killed_is_finished_by_the_next(live, monkeypatch, step):
    live.promote(2)
    live.promote(3)

    class KilledError(Exception):
        pass

    def on_step(done: str) -> None:
        if done == step:
            # What nothing tidies up after.
            raise KilledError

    monkeypatch.setattr(promotion, "_undo", lambda *_: [])
    with pytest.raises(KilledError):
        promotion.rollback(NAME, live.serving(), on_step=on_step)
    done = promotion.rollback(NAME, live.serving())
    if step == "noted":
        # It was done but for clearing up, so this was another one.
        assert (done.champion, live.aliases) == (1, {"champion": 1})
    else:
        assert (done.champion, live.aliases) == (2, {"champion": 2, "previous_champion": 1})


def test_a_promotion_that_was_killed_is_gone_back_from(live, monkeypatch):
    live.promote(2)

    def on_step(done: str) -> None:
        if done == "noted":
            raise KeyboardInterrupt

    card = live.repository.read(NAME, 3)
    monkeypatch.setattr(promotion, "_undo", lambda *_: [])
    with pytest.raises(KeyboardInterrupt):
        promotion.promote(card, live.serving(), on_step=on_step)
    assert live.route == Route(champion=2)
    assert promotion.rollback(NAME, live.serving()).champion == 2
    assert live.loaded == {address: [1, 2] for address in ADDRESSES}


def test_a_rollback_needs_no_mlflow(live):
    live.promote(2)

    def fault(call: str) -> None:
        if call.startswith("aliases"):
            raise RegistryError("MLflow is away")

    live.fault = fault
    done = promotion.rollback(NAME, live.serving())
    assert (done.champion, live.route) == (1, FIRST)
    assert "astrotriton models unet_small --mend-aliases" in done.notes[0]
    assert "nothing was pruned" in done.notes[1]
    assert live.aliases == {"champion": 2, "previous_champion": 1}
    live.fault = lambda call: None
    assert promotion.mend_aliases(NAME, live.serving()) == []
    assert live.aliases == {"champion": 1}


def test_a_champion_that_was_deleted_in_mlflow_stops_nothing(live):
    live.promote(2)
    live.deleted.add(2)
    live.aliases.pop("champion")
    done = live.promote(3)
    assert (done.champion, done.previous_champion) == (3, 2)
    assert "version 2 was deleted there" in done.notes[0]
    assert live.aliases == {"champion": 3}
    assert promotion.rollback(NAME, live.serving()).champion == 2


def test_aliases_that_were_moved_by_hand_change_nothing(live):
    live.promote(2)
    live.aliases = {"champion": 4}
    assert champions_of(NAME, live.repository).champion == 2
    assert promotion.rollback(NAME, live.serving()).champion == 1
    assert live.aliases == {"champion": 1}


def test_a_version_that_was_judged_against_another_champion_is_not_promoted(live):
    live.promote(2)
    before = live.state()
    card = live.repository.read(NAME, 3)
    with pytest.raises(ServingError, match=r"judged beside version 1, .* version 2 now"):
        promotion.promote(card, live.serving(), judged_against=1)
    assert live.state() == before
    assert promotion.promote(card, live.serving(), judged_against=2).champion == 3


def test_two_promotions_at_once_come_one_after_the_other(live):
    cards = [live.repository.read(NAME, version) for version in (2, 3)]
    outcomes: dict[int, object] = {}
    barrier = threading.Barrier(2)

    def promote(card: Any) -> None:
        barrier.wait()
        try:
            outcomes[card.version] = promotion.promote(card, live.serving(), judged_against=1)
        except ServingError as error:
            outcomes[card.version] = error

    threads = [threading.Thread(target=promote, args=(card,)) for card in cards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [version for version, done in outcomes.items() if isinstance(done, Live)]
    [loser] = [done for done in outcomes.values() if isinstance(done, ServingError)]
    assert "judged beside version 1" in str(loser)
    assert live.route == Route(champion=winner)
    assert live.aliases == {"champion": winner, "previous_champion": 1}


def test_a_version_that_is_gone_cannot_be_gone_back_to(live):
    live.promote(2)
    live.promote(3)
    live.repository.remove(NAME, 1)
    before = live.state()
    with pytest.raises(UnknownVersionError, match=r"no longer published.*published are 2, 3, 4"):
        promotion.rollback(NAME, live.serving(), to=1)
    assert live.state() == before


def test_what_a_version_is_measured_against(live):
    def rival(version: int) -> int | None:
        return champions_of(NAME, live.repository).rival(version)

    assert rival(2) == 1
    assert rival(1) is None
    live.promote(2)
    # The champion is measured against the one before.
    assert rival(2) == 1
    # Where nothing was ever promoted, the newest that is served counts as the champion.
    live.aliases.clear()
    (Path(live.repository.location) / NAME / "champions.json").unlink()
    assert champions_of(NAME, live.repository) == Champions(versions=[2])
    live.aliases = {"previous_champion": 2, "champion": 1}
    assert champions_of(NAME, live.repository) == Champions(versions=[2, 1])


def test_a_version_without_a_number_is_no_version(live):
    with pytest.raises(ValueError, match="has no version"):
        promotion.promote(samples.card(NAME), live.serving())


def tried(status: str, **changes: Any) -> Canary:
    """Version 2 beside version 1, as the gateway tells of it."""
    given = {"fraction": 0.25, "reason": "lost: it finds less"} | changes
    return Canary(champion=1, challenger=2, status=status, **given)  # type: ignore[arg-type]


@pytest.fixture
def on_trial(live) -> World:
    """Version 2 has begun a canary that ends by itself."""
    card = live.repository.read(NAME, 2)
    promotion.challenge(card, live.serving(), "canary", 1.0, automatic=True)
    assert live.route.challenger == Challenger(
        version=2, mode="canary", fraction=1.0, automatic=True
    )
    live.canary = tried("running")
    live.calls.clear()
    return live


@pytest.fixture
def went_through(on_trial) -> World:
    """The gateway has made it the champion, and nobody has noted that."""
    on_trial.route, on_trial.canary = Route(champion=2), tried("promoted")
    assert champions_of(NAME, on_trial.repository) == Champions(versions=[1], challenger=2)
    assert on_trial.loaded == {address: [1, 2] for address in ADDRESSES}
    return on_trial


def test_what_a_canary_has_come_to_is_noted_by_its_command(went_through):
    card = went_through.repository.read(NAME, 2)
    done = promotion.promote(card, went_through.serving(), judged_against=1)
    assert (done.champion, done.previous_champion, done.challenger) == (2, 1, None)
    assert champions_of(NAME, went_through.repository).versions == [1, 2]
    assert went_through.aliases == {"previous_champion": 1, "champion": 2}
    assert canary.is_over(NAME, 2, Gateway(went_through))
    assert not canary.is_over(NAME, 3, Gateway(went_through))


def test_what_a_canary_has_come_to_is_noted_with_the_aliases(went_through):
    assert promotion.mend_aliases(NAME, went_through.serving()) == []
    assert champions_of(NAME, went_through.repository) == Champions(versions=[1, 2], retired=[1])
    assert went_through.aliases == {"previous_champion": 1, "champion": 2}


def test_a_rollback_or_another_promotion_goes_from_what_a_canary_has_come_to(went_through):
    assert went_through.promote(3).previous_champion == 2
    assert champions_of(NAME, went_through.repository).versions == [1, 2, 3]


def test_a_rollback_goes_back_from_what_a_canary_has_come_to(went_through):
    assert promotion.rollback(NAME, went_through.serving()).champion == 1
    assert went_through.route == FIRST
    assert champions_of(NAME, went_through.repository) == Champions(versions=[1], retired=[2])


def test_one_that_was_sent_back_is_forgotten_by_its_command_or_with_the_aliases(on_trial):
    on_trial.route, on_trial.canary = FIRST, tried("sent-back")
    promotion.mend_aliases(NAME, on_trial.serving())
    assert champions_of(NAME, on_trial.repository) == Champions(versions=[1], retired=[2])
    assert on_trial.aliases == {"champion": 1}


def test_aliases_are_mended_without_a_gateway_too(on_trial):
    def fault(call: str) -> None:
        if call == "canary":
            raise UncertainError("no answer")

    on_trial.fault, on_trial.route = fault, FIRST
    promotion.mend_aliases(NAME, on_trial.serving())
    assert on_trial.aliases == {"champion": 1, "challenger": 2}


def test_a_canary_that_is_under_way_changes_no_note(on_trial):
    promotion.mend_aliases(NAME, on_trial.serving())
    assert champions_of(NAME, on_trial.repository) == Champions(versions=[1], challenger=2)


def test_who_waits_is_told_how_far_it_is_and_how_it_ends(on_trial, monkeypatch):
    told: list[str] = []
    states = iter([UncertainError("away"), tried("running", fraction=0.5), tried("promoted")])

    def next_state(self: Gateway, name: str) -> Canary:
        state = next(states)
        if isinstance(state, Exception):
            raise state
        return state

    monkeypatch.setattr(Gateway, "canary", next_state)
    canary.wait(NAME, 2, Gateway(on_trial), told.append, pause=0.0)
    assert told == ["the canary goes on unseen: away", "version 2 answers 50% of the runs"]


@pytest.mark.parametrize(
    ("state", "fault", "message"),
    [
        (tried("sent-back"), CanaryError, "version 2 was sent back by lost"),
        (tried("ended", reason="the route was changed"), ServingError, "the route was changed"),
        (None, ServingError, "not on trial any more"),
    ],
)
def test_who_waits_is_told_why_it_ended_otherwise(on_trial, state, fault, message):
    on_trial.canary = state
    with pytest.raises(fault, match=message):
        canary.wait(NAME, 2, Gateway(on_trial), lambda _: None, pause=0.0)
