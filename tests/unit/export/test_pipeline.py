"""What becomes of a version that its gates were asked of: recorded, published, believed.

The repository is a real one in a folder. What MLflow holds, the conversion, and the answers of the
gates are given here; `test_gates` is about the gates themselves.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from astrotriton.export import digests, gates, pipeline, registry
from astrotriton.export.errors import GateError, RepositoryError
from astrotriton.export.manifest import Manifest
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import CARD_FILE, MANIFEST_FILE, Repository
from astrotriton.settings import ModelConfig
from astrotriton.wire.validation import Gate
from tests.unit.export import samples

NAME = "unet_small"
SETTINGS = ModelConfig(model_name=NAME, input_size=(64, 64), batch_size=8, enable_gpu=False)
FIELDS = object()


@dataclass
class UnderTest:
    """A version under test, whose measurements nobody needs here."""

    card: Any
    files: dict[str, bytes]
    description: str | None = None
    exporter: str | None = "tf2onnx"
    warnings: list[str] = field(default_factory=list)
    packed: list[Any] = field(default_factory=list)

    def pack(self, fields: Any) -> None:
        self.packed.append(fields)
        self.files["validation.fits"] = b"fields"

    def finish(self) -> None:
        found = {name: digests.of_bytes(file) for name, file in self.files.items()}
        self.card = msgspec.structs.replace(self.card, digests=found)


@dataclass
class World:
    """What MLflow says, which gates refuse, and what was recorded."""

    repository: Repository
    aliases: dict[str, int] = field(default_factory=dict)
    refusing: tuple[str, ...] = ()
    recorded: list[Manifest] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    published: dict[int, Any] = field(default_factory=dict)
    tested: list[UnderTest] = field(default_factory=list)

    def registered(self, version: int, **changes: Any) -> RegisteredVersion:
        known = {one.name for one in RegisteredVersion.__dataclass_fields__.values()}
        given = {
            **dict.fromkeys(known),
            **{"name": NAME, "version": version, "run_id": "run", "digest": "ab12"},
        }
        return RegisteredVersion(**{**given, **changes})

    def verify(self, version: int, **changes: Any) -> pipeline.Candidate:
        given = {"trial": None, "profile": "cpu"}
        return pipeline.verify(
            self.registered(version),
            self.repository,
            SETTINGS,
            lambda card: {},
            **{**given, **changes},
        )

    def export(self, version: int, **changes: Any) -> pipeline.ExportedVersion:
        return pipeline.export(
            f"{NAME}/{version}",
            self.repository.location,
            SETTINGS,
            lambda card: {},
            profile="cpu",
            **changes,
        )


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    made = World(Repository(tmp_path / "models"))

    def under_test(registered, repository, settings, tiles, **given):
        made.asked.append(given)
        version = registered.version
        files = {"model.onnx": b"weights %d" % version, "golden.npz": b"golden %d" % version}
        card = msgspec.structs.replace(samples.card(NAME), version=version)
        made.tested.append(UnderTest(card, files))
        return made.tested[-1]

    def published_card(registered, repository, *_):
        held = repository.holds(NAME, registered.version)
        return repository.read(NAME, registered.version) if held else None

    def ask(tested, on_answer):
        names = ("onnx", "parity", "accuracy")
        return [Gate.of(one, ["no"] if one in made.refusing else [], "yes", a=1.0) for one in names]

    def record(registered, card, manifest):
        made.recorded.append(manifest)

    monkeypatch.setattr(pipeline, "under_test", under_test)
    monkeypatch.setattr(pipeline, "published_card", published_card)
    monkeypatch.setattr(gates, "ask", ask)
    monkeypatch.setattr(registry, "record", record)
    monkeypatch.setattr(registry, "aliases", lambda name: made.aliases)
    monkeypatch.setattr(
        registry, "resolve", lambda uri: made.registered(int(uri.rpartition("/")[2]))
    )
    return made


def test_a_version_that_passes_is_recorded_and_not_published(world):
    candidate = world.verify(1)
    assert world.recorded == [candidate.manifest]
    assert not candidate.manifest.failed
    assert candidate.card.version == 1
    assert not candidate.published_before
    assert world.repository.versions(NAME) == []
    digest = digests.of_bytes(candidate.card.to_json())
    assert candidate.manifest.digests == candidate.card.digests | {CARD_FILE: digest}


def test_a_version_that_is_refused_is_recorded_too_and_says_by_what(world):
    world.refusing = ("parity", "accuracy")
    with pytest.raises(GateError, match="parity") as refused:
        world.verify(1)
    assert [gate.name for gate in refused.value.manifest.failed] == ["parity", "accuracy"]
    assert world.recorded == [refused.value.manifest]
    assert world.repository.versions(NAME) == []


def test_only_one_that_is_tried_has_a_champion_and_a_profile(world):
    world.aliases = {"champion": 1}
    assert world.verify(2).manifest.champion is None
    assert world.verify(2).manifest.profile is None
    tried = world.verify(2, trial=SimpleNamespace()).manifest
    assert (tried.champion, tried.profile) == (1, "cpu")
    assert [given["champion"] for given in world.asked] == [None, None, 1]


def test_fields_travel_with_a_version_that_passed_and_was_not_published(world):
    assert "validation.fits" in world.verify(1, fields=lambda: FIELDS).files
    assert world.tested[-1].packed == [FIELDS]
    # With a trial they are the trial's business.
    world.verify(1, fields=lambda: FIELDS, trial=SimpleNamespace())
    assert world.tested[-1].packed == []
    world.refusing = ("onnx",)
    with pytest.raises(GateError):
        world.verify(1, fields=unneeded)
    world.refusing = ()
    pipeline.publish(world.verify(1), world.repository)
    assert world.verify(1, fields=unneeded).published_before


def unneeded() -> None:
    raise AssertionError("nobody needs fields here")


def test_a_new_version_is_published_and_listed(world):
    told: list[str] = []
    exported = world.export(1, on_progress=told.append)
    assert (exported.version, exported.published_before) == (1, False)
    assert exported.manifest == world.recorded[0]
    assert world.repository.listed(NAME) == [1]
    assert world.repository.read(NAME, 1) == exported.card
    content = world.repository.file(NAME, 1, MANIFEST_FILE)
    assert Manifest.from_json(content) == exported.manifest
    assert [one.split()[0] for one in told] == ["publishing"]


def test_a_published_one_is_answered_at_once(world):
    first = world.export(1)
    world.asked.clear()
    again = world.export(1)
    assert again.published_before
    assert again.manifest is None
    assert (again.card, again.location) == (first.card, first.location)
    assert world.asked == []


def test_the_version_before_stays_listed_until_an_alias_decides(world):
    for version in (1, 2, 3):
        world.export(version)
    assert world.repository.listed(NAME) == [2, 3]
    world.aliases = {"champion": 1, "challenger": 2}
    world.export(4)
    assert world.repository.listed(NAME) == [1, 2, 4]


def test_it_may_be_published_without_being_served(world):
    world.export(1)
    world.export(2, serve=False)
    assert world.repository.versions(NAME) == [1, 2]
    assert world.repository.listed(NAME) == [1]


def test_a_refused_one_leaves_the_repository_as_it_was(world):
    world.export(1)
    world.refusing = ("parity",)
    with pytest.raises(GateError):
        world.export(2)
    assert world.repository.versions(NAME) == world.repository.listed(NAME) == [1]


def test_a_version_without_its_manifest_is_taken_back(world, monkeypatch):
    candidate = world.verify(1)

    def attach(*_: object) -> None:
        raise RepositoryError("it is full")

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "attach", attach)
        with pytest.raises(RepositoryError, match="full"):
            pipeline.publish(candidate, world.repository)
        assert world.repository.versions(NAME) == []
    pipeline.publish(candidate, world.repository)
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "attach", attach)
        with pytest.raises(RepositoryError, match="full"):
            pipeline.publish(candidate, world.repository)
    # It was there before, so that somebody may serve it.
    assert world.repository.versions(NAME) == [1]


def test_a_published_version_that_is_asked_again_keeps_its_manifest(world):
    world.export(1)
    manifest = world.verify(1, trial=object()).manifest
    content = world.repository.file(NAME, 1, MANIFEST_FILE)
    known = world.registered(1, manifest_digest=digests.of_bytes(content))
    assert pipeline.read_manifest(known, world.repository) == manifest == world.recorded[-1]
    # What is refused is refused wherever one looks.
    world.refusing = ("accuracy",)
    with pytest.raises(GateError):
        world.verify(1, trial=object())
    assert world.repository.manifest(NAME, 1).failed


def test_a_manifest_is_believed_if_mlflow_knows_it_and_it_is_of_this_card(world):
    assert pipeline.read_manifest(world.registered(1), world.repository) is None
    world.export(1)
    content = world.repository.file(NAME, 1, MANIFEST_FILE)
    known = world.registered(1, manifest_digest=digests.of_bytes(content))
    assert pipeline.read_manifest(known, world.repository) == world.recorded[0]
    assert pipeline.read_manifest(world.registered(1), world.repository) is None
    changed = content.replace(b'"passed": true', b'"passed":  true')
    assert changed != content
    world.repository.attach(NAME, 1, MANIFEST_FILE, changed)
    assert pipeline.read_manifest(known, world.repository) is None
    # Nor is one of another version, even if MLflow should know it.
    world.export(2)
    other = world.repository.file(NAME, 2, MANIFEST_FILE)
    world.repository.attach(NAME, 1, MANIFEST_FILE, other)
    knows_other = world.registered(1, manifest_digest=digests.of_bytes(other))
    assert pipeline.read_manifest(knows_other, world.repository) is None
    world.repository.attach(NAME, 1, MANIFEST_FILE, b"no manifest")
    with pytest.raises(RepositoryError):
        pipeline.read_manifest(known, world.repository)
