"""What a promotion would do, with MLflow in memory and a real repository."""

from datetime import UTC, datetime

import msgspec
import pytest

from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.detection.quality.golden import GOLDEN_FILE
from astrotriton.export import digests, registry
from astrotriton.export.champions import Champions, keep_champions
from astrotriton.export.errors import GateError
from astrotriton.export.gates.version import Trial
from astrotriton.export.manifest import Manifest
from astrotriton.export.plan import plan
from astrotriton.export.promotion import Serving
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.release import Role
from astrotriton.export.repository import CARD_FILE, MANIFEST_FILE, Repository
from astrotriton.settings import ModelConfig
from astrotriton.wire.validation import Gate
from tests.unit.export import samples

NAME = "unet_small"
SETTINGS = ModelConfig(model_name=NAME, input_size=(64, 64), batch_size=8, enable_gpu=False)
FILES = {"model.onnx": b"graph", GOLDEN_FILE: b"tile"}


def unneeded(*_):
    raise AssertionError("a plan makes nothing")


TRIAL = Trial(validation=unneeded, open_sandbox=unneeded, limits=GateLimits())


def card_of(version):
    found = {name: digests.of_bytes(content) for name, content in FILES.items()}
    return msgspec.structs.replace(samples.card(NAME), version=version, digests=found)


class World:
    def __init__(self, root):
        self.root = root
        self.repository = Repository(root)
        self.manifests = {}
        self.taken = {}

    def publish(self, version, manifest=None):
        card = card_of(version)
        self.repository.publish(card, FILES)
        if manifest is not None:
            content = msgspec.structs.replace(
                manifest, digests={CARD_FILE: digests.of_bytes(card.to_json())}
            ).to_json()
            self.repository.attach(NAME, version, MANIFEST_FILE, content)
            self.manifests[version] = digests.of_bytes(content)

    def plan(self, version, role=None, **more):
        registered = RegisteredVersion(
            name=NAME,
            version=version,
            run_id="r",
            digest=None,
            manifest_digest=self.manifests.get(version),
        )
        serving = Serving(
            repository=self.repository,
            replicas=(),
            gateway=None,
            settings=SETTINGS,
            profile="cpu",
            keep=2,
        )
        return plan(registered, serving, TRIAL, role or Role(), **more)

    def content(self):
        return {str(one): one.read_bytes() for one in self.root.rglob("*") if one.is_file()}


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(registry, "seconds_taken", lambda name: made.taken)
    monkeypatch.setattr(registry, "load_card", lambda registered: card_of(registered.version))
    monkeypatch.setattr(registry, "aliases", lambda name: {})
    return made


def names(planned):
    return [step.name for step in planned.steps]


def test_the_first_version_is_compared_with_none_and_nothing_is_known(world):
    planned = world.plan(1)
    assert planned.champion is None
    assert "accuracy" in names(planned)
    assert "accuracy_change" not in names(planned)
    assert "judged beside no champion" in planned.text()
    assert "not known yet" in planned.text()


def test_it_says_every_step_and_how_long_it_took_and_changes_nothing(world):
    for version in (1, 2, 3):
        world.publish(version)
    champions = Champions(versions=[2, 3])
    keep_champions(NAME, champions, world.repository)
    world.repository.list_versions(card_of(3), [2, 3], SETTINGS, "cpu")
    world.taken = {"converted": [30.0, 10.0, 20.0], "accuracy": [200.0]}
    before = world.content()

    planned = world.plan(4, approval=True)
    said = {step.name: step for step in planned.steps}
    assert planned.champion == 3
    assert said["converted"].typical == 20.0
    assert said["accuracy_change"].does == "gate, beside version 3"
    assert said["accuracy_change"].typical is None
    assert said["listed"].does == "config.pbtxt lists versions 2, 3, 4"
    assert said["noted"].does == "champions.json: previous_champion 3, champion 4"
    assert said["trimmed"].does == "unloaded: version 2"
    assert said["pruned"].does == "removed from the repository: versions 1, 2"
    order = ["converted", "onnx", "memory", "published", "approved", "listed", "routed", "pruned"]
    assert [name for name in names(planned) if name in order] == order
    assert planned.typical == 220.0
    assert "together about 3.7 min" in planned.text()
    assert world.content() == before


def test_half_precision_is_not_compared_with_keras(world):
    assert "detections" not in names(world.plan(1, precision="fp16"))


@pytest.mark.parametrize("failed", [False, True])
def test_gates_that_were_asked_are_not_asked_again(world, failed):
    gates = [Gate(name="sandbox", passed=not failed, detail="", figures={})]
    made = Manifest(
        name=NAME, version=2, made_at=datetime.now(UTC), champion=1, profile="cpu", gates=gates
    )
    world.publish(1)
    keep_champions(NAME, Champions(versions=[1]), world.repository)
    world.publish(2, made)
    if failed:
        with pytest.raises(GateError):
            world.plan(2)
        return
    planned = world.plan(2)
    assert names(planned)[:2] == ["gates", "listed"]
    assert "passed already" in planned.steps[0].does


def test_a_challenger_needs_a_champion_and_a_gateway(world):
    planned = world.plan(1, Role(mode="canary", fraction=0.1))
    assert planned.role == "the challenger, as canary on 10% of the runs"
    assert len(planned.obstacles) == 2
    assert "obstacle: there is no champion" in planned.text()
