"""Waiting for a person's word, with MLflow's tags in memory and a real repository."""

import msgspec
import pytest

from astrotriton.detection.quality.golden import GOLDEN_FILE
from astrotriton.export import approval, digests, registry
from astrotriton.export.approval import APPROVED_AT, APPROVED_BY, ASKED_FOR, REJECTED_BY, Wait
from astrotriton.export.champions import Champions, champions_of, keep_champions
from astrotriton.export.errors import (
    RegistryError,
    RejectedError,
    ServingError,
    UnapprovedError,
    UnknownVersionError,
)
from astrotriton.export.manifest import Manifest
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import MANIFEST_FILE, Repository
from tests.unit.export import samples

NAME = "unet small.v2"
VERSION = RegisteredVersion(name=NAME, version=2, run_id="r", digest=None, manifest_digest=None)
AT_ONCE = Wait(timeout=0.0, interval=0.0)
PATIENT = Wait(timeout=60.0, interval=0.0)
FILES = {"model.onnx": b"graph", GOLDEN_FILE: b"tile"}
CARD = msgspec.structs.replace(
    samples.card(NAME),
    version=2,
    digests={name: digests.of_bytes(content) for name, content in FILES.items()},
)
MANIFEST = Manifest(name=NAME, version=2, made_at=CARD.trained_at, champion=1)


class World:
    """MLflow's tags of the version, and what happens at each look at them."""

    def __init__(self, root):
        self.repository = Repository(root)
        self.tags = {}
        self.vouched = []
        self.told = []
        self.looks = []

    def look(self, registered):
        if self.looks:
            self.looks.pop(0)()
        return dict(self.tags)

    def set(self, registered, wanted):
        for tag, value in wanted.items():
            if value is None:
                del self.tags[tag]
            else:
                self.tags[tag] = value

    def wait(self, manifest=MANIFEST, how=AT_ONCE):
        return approval.wait(
            VERSION, CARD, manifest, self.repository, how, on_progress=self.told.append
        )

    def champion(self, version):
        keep_champions(NAME, Champions(versions=[version]), self.repository)


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(registry, "tags", made.look)
    monkeypatch.setattr(registry, "set_tags", made.set)
    monkeypatch.setattr(registry, "vouch", lambda _, manifest: made.vouched.append(manifest))
    made.repository.publish(CARD, FILES)
    made.champion(1)
    return made


def raising(error):
    def look():
        raise error

    return look


def nothing():
    pass


def test_a_tag_approves_and_is_kept_with_its_time(world):
    world.looks = [nothing, nothing, lambda: world.tags.update({APPROVED_BY: " Ada "})]
    approved = world.wait(how=PATIENT)
    assert approved.approval.by == "Ada"
    assert world.tags[APPROVED_AT] == approved.approval.at.isoformat()
    assert world.vouched == [approved]
    kept = world.repository.file(NAME, 2, MANIFEST_FILE)
    assert Manifest.from_json(kept).approval == approved.approval


def test_it_says_what_it_waits_for_and_how_to_answer(world):
    with pytest.raises(UnapprovedError, match=r"nobody has approved unet small\.v2 version 2"):
        world.wait()
    told = "\n".join(world.told)
    assert APPROVED_BY in told
    assert REJECTED_BY in told
    assert "set_model_version_tag" in told
    assert world.tags == {ASKED_FOR: MANIFEST.made_at.isoformat()}


def test_a_rejection_ends_it_and_wins(world):
    world.looks = [nothing, lambda: world.tags.update({APPROVED_BY: "Ada", REJECTED_BY: "Bob"})]
    with pytest.raises(RejectedError, match="rejected by Bob"):
        world.wait(how=PATIENT)


def test_an_answer_that_came_while_nobody_waited_counts(world):
    with pytest.raises(UnapprovedError):
        world.wait()
    world.tags[APPROVED_BY] = "Ada"
    assert world.wait().approval.by == "Ada"


def test_an_answer_to_other_gates_does_not_count(world):
    world.tags |= {APPROVED_BY: "Ada", APPROVED_AT: "then", ASKED_FOR: "2020-01-01T00:00:00+00:00"}
    with pytest.raises(UnapprovedError):
        world.wait()
    assert APPROVED_BY not in world.tags


def test_an_answer_that_was_acted_upon_counts_once(world):
    world.looks = [nothing, lambda: world.tags.update({APPROVED_BY: "Ada"})]
    approved = world.wait()
    assert world.wait(approved).approval == approved.approval  # Stopped before it went live.
    approval.close(VERSION)
    with pytest.raises(UnapprovedError):
        world.wait(approved)


def test_what_was_acted_upon_counts_once_though_the_request_was_never_closed(world):
    """MLflow was away, or the command was killed, once the version was live."""
    world.looks = [nothing, lambda: world.tags.update({APPROVED_BY: "Ada"})]
    approved = world.wait()
    live = champions_of(NAME, world.repository).promoted(2)
    keep_champions(NAME, live, world.repository)
    assert world.wait(approved).approval == approved.approval  # Repeated, to finish it.
    keep_champions(NAME, live.back_to(1), world.repository)
    with pytest.raises(UnapprovedError):
        world.wait(approved)
    assert world.tags == {ASKED_FOR: MANIFEST.made_at.isoformat()}
    # As the same command finds it when it is given once more.
    kept = Manifest.from_json(world.repository.file(NAME, 2, MANIFEST_FILE))
    with pytest.raises(UnapprovedError):
        world.wait(kept)
    world.tags[APPROVED_BY] = "Bob"
    assert world.wait(kept).approval.by == "Bob"


def test_an_empty_tag_is_no_answer(world):
    world.looks = [nothing, lambda: world.tags.update({APPROVED_BY: " "})]
    with pytest.raises(UnapprovedError):
        world.wait()


def test_it_waits_on_while_mlflow_is_away(world):
    away = raising(RegistryError("MLflow cannot be reached"))
    world.looks = [away, away, nothing, away, lambda: world.tags.update({APPROVED_BY: "Ada"})]
    assert world.wait(how=PATIENT).approval.by == "Ada"
    assert sum("MLflow is away" in one for one in world.told) == 1


def test_another_champion_ends_it(world):
    world.looks = [nothing, lambda: world.champion(3)]
    with pytest.raises(ServingError, match="beside version 1, but the champion is version 3"):
        world.wait(how=PATIENT)


def test_a_version_that_was_deleted_ends_it(world):
    world.looks = [nothing, raising(UnknownVersionError("it was deleted"))]
    with pytest.raises(UnknownVersionError):
        world.wait(how=PATIENT)


def test_an_interruption_leaves_it_to_be_asked_again(world):
    world.looks = [nothing, raising(KeyboardInterrupt())]
    with pytest.raises(UnapprovedError, match="interrupted"):
        world.wait(how=PATIENT)
