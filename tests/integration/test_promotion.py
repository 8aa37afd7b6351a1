"""Promotion on real servers: MLflow on PostgreSQL and S3, two Tritons, and the gateway."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time

import mlflow
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from astrotriton.cli import main
from astrotriton.detection.quality.labelled import ValidationSet
from astrotriton.export import convert, onnx_graph, pipeline, promotion, registry
from astrotriton.export.champions import Champions, champions_of, keep_champions
from astrotriton.export.errors import (
    GateError,
    RegistryError,
    RepositoryError,
    ServingError,
    UnfinishedError,
    UnknownVersionError,
)
from astrotriton.export.manifest import Manifest
from astrotriton.export.own_fields import keep_fields
from astrotriton.export.release import Role
from astrotriton.export.serving import Replica
from tests.integration.promotion_parts import (
    NAME,
    SETTINGS,
    Client,
    Site,
    Timeline,
    command_line,
    golden_tiles,
    hanging,
    promoted_site,
    reset,
    trial,
    validation,
)
from tests.unit.export import samples

KILLED_AT = ("publishing", "published", "listed", "loaded", "noted", "routed", "aliased")
#: Steps after which the new version answers.
ANSWERS = ("routed", "aliased")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """As `promoted_site`."""
    with promoted_site(tmp_path_factory.mktemp("stack")) as made:
        yield made


@pytest.mark.promotion
def test_whole_life_without_a_gap(site: Site):
    client = Client(site.gateway.url)
    timeline = Timeline(1)
    change = timeline.change

    with client.asking():
        client.wait_for(4)

        shadow = change({1}, lambda: site.release(2, Role(mode="shadow", fraction=1.0)))
        assert shadow.live.champion == 1
        assert {gate.name for gate in shadow.manifest.gates} >= {"accuracy_change", "latency"}
        assert registry.aliases(NAME) == {"champion": 1, "challenger": 2}
        assert {answer.version for answer in client.wait_for(8)[2:]} == {1}

        canary = change({1, 2}, lambda: site.release(2, Role(mode="canary", fraction=0.5)))
        # Its gates were not asked again.
        assert canary.manifest == shadow.manifest
        assert site.gateway.route(NAME).challenger.mode == "canary"
        assert {answer.version for answer in client.wait_for(20)[2:]} == {1, 2}
        # The same exposure always gets the same version.
        assert len({client.ask(3).version for _ in range(4)}) == 1

        promoted = change({2}, lambda: site.release(2))
        assert (promoted.live.champion, promoted.live.previous_champion) == (2, 1)
        assert registry.aliases(NAME) == {"champion": 2, "previous_champion": 1}
        assert {answer.version for answer in client.wait_for(8)[2:]} == {2}

        back = change({1}, lambda: promotion.rollback(NAME, site.serving()))
        assert back.champion == 1
        assert registry.aliases(NAME) == {"champion": 1}
        assert {answer.version for answer in client.wait_for(8)[2:]} == {1}

    assert {answer.status for answer in client.answers} == {200}, [
        answer.text for answer in client.answers if answer.status != 200
    ]
    assert not timeline.wrong(client.answers)
    for address in site.replicas:
        with Replica(address) as replica:
            assert replica.ready_versions(NAME) == [1]
    with pytest.raises(RegistryError, match="no previous champion"):
        promotion.rollback(NAME, site.serving())
    reset(site, 2)


@pytest.mark.promotion
def test_manifest_is_in_the_run_and_beside_the_version(site: Site):
    registered = registry.resolve(f"{NAME}@champion")
    manifest = pipeline.read_manifest(registered, site.serving().repository)
    assert manifest.blessed
    logged = mlflow.artifacts.load_text(f"runs:/{registered.run_id}/export/manifest.json")
    assert Manifest.from_json(logged.encode()) == manifest
    metrics = mlflow.tracking.MlflowClient().get_run(registered.run_id).data.metrics
    assert metrics["average_precision"] == manifest.figures["average_precision"]
    assert manifest.figures["latency_ms"] > 0

    # One that was changed is not believed.
    path = site.root / NAME / "1" / "manifest.json"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept.replace(b'"passed": true', b'"passed":  true'))
        assert pipeline.read_manifest(registered, site.serving().repository) is None
    finally:
        path.write_bytes(kept)


def swapped_channels(*source):
    """As a conversion that mixes up which channels are which."""
    graph = onnx.load_model_from_string(convert.convert(*source))
    concat = next(node for node in graph.graph.node if node.op_type == "Concat")
    concat.input[:] = reversed(concat.input)
    return graph.SerializeToString()


def perturbed(*source):
    return samples.perturbed(convert.convert(*source), by=0.01)


def nan_weights():
    model = samples.detector(3)
    weights = model.get_weights()
    weights[0][:] = np.nan
    model.set_weights(weights)
    return model


@pytest.mark.parametrize(
    ("model", "converter", "gate"),
    [
        (lambda: samples.detector(4), perturbed, "parity"),
        (lambda: samples.detector(4), swapped_channels, "parity"),
        (nan_weights, convert.convert, "parity"),
        (lambda: samples.detector(5, spoiled=True), convert.convert, "accuracy"),
        (lambda: samples.detector(6, width=512), convert.convert, "latency"),
    ],
    ids=["perturbed", "swapped", "nan", "trained badly", "slow"],
)
@pytest.mark.promotion
def test_gate_refuses_and_changes_nothing(site: Site, model, converter, gate):
    version = registry.register(model(), samples.card(NAME))
    before = site.state()

    with pytest.raises(GateError) as refused:
        site.release(version, converter=converter)

    manifest = refused.value.manifest
    assert gate in {one.name for one in manifest.failed}
    assert all(one.name in str(refused.value) and one.figures for one in manifest.failed)
    assert site.state() == before
    registered = registry.resolve(f"models:/{NAME}/{version}")
    logged = mlflow.artifacts.load_text(f"runs:/{registered.run_id}/export/manifest.json")
    assert Manifest.from_json(logged.encode()) == manifest


@pytest.mark.promotion
def test_replica_that_answers_wrongly_leaves_everything_as_it_was(site: Site, monkeypatch):
    before = site.state()
    loaded = []

    def check(self, card, golden):
        loaded.append(self.address)
        if self.address == site.replicas[1]:
            raise ServingError("it answers wrongly")
        return 0.0

    monkeypatch.setattr("astrotriton.export.promotion.Replica.check", check)
    with pytest.raises(ServingError, match="answers wrongly"):
        site.release(2)

    assert loaded[-1] == site.replicas[1]
    assert site.state() == before
    for address in site.replicas:
        with Replica(address) as replica:
            assert replica.ready_versions(NAME) == [1]


@pytest.mark.promotion
def test_gateway_that_does_not_answer_leaves_everything_as_it_was(site: Site, monkeypatch):
    before = site.state()
    real = type(site.gateway).set_route

    def set_route(self, name, route):
        if route.champion == 2:
            raise ServingError("the gateway refuses")
        return real(self, name, route)

    monkeypatch.setattr("astrotriton.export.gateway_routes.Gateway.set_route", set_route)
    with pytest.raises(ServingError, match="the gateway refuses"):
        site.release(2)
    assert site.state() == before


@pytest.mark.promotion
def test_what_stops_after_the_route_has_changed_says_so_and_is_finished(site: Site, monkeypatch):
    steps = []

    def load(self, name):
        if "routed" in steps:
            raise ServingError("it does not load")
        real(self, name)

    real = Replica.load
    with monkeypatch.context() as patch:
        patch.setattr("astrotriton.export.promotion.Replica.load", load)
        # Another one stays loaded, so that there is something to unload.
        site.release(2)
        steps.clear()
        with pytest.raises(UnfinishedError, match=r"version 1 .* champion.*run the same command"):
            promotion.rollback(NAME, site.serving(), on_step=steps.append)
    assert site.gateway.route(NAME).champion == registry.aliases(NAME)["champion"] == 1
    assert promotion.rollback(NAME, site.serving()).champion == 1
    assert registry.aliases(NAME) == {"champion": 1}
    for address in site.replicas:
        with Replica(address) as replica:
            assert replica.ready_versions(NAME) == [1]
    reset(site, 2)


@pytest.mark.promotion
def test_other_precision_than_the_blessed_one_is_not_taken_for_it(site: Site):
    before = site.state()
    with pytest.raises(RepositoryError, match=r"published as fp32, not int8.*copy_model_version"):
        site.release(1, precision="int8")
    assert site.state() == before

    # As the message says.
    copy = mlflow.tracking.MlflowClient().copy_model_version(f"models:/{NAME}/1", NAME)
    released = site.release(int(copy.version), precision="int8")
    assert released.manifest.precision == "int8"
    content = site.serving().repository.file(NAME, int(copy.version), "model.onnx")
    assert onnx_graph.metadata(content)["precision"] == "int8"
    promotion.rollback(NAME, site.serving())
    reset(site, int(copy.version))


@pytest.mark.promotion
def test_challenger_needs_a_champion_and_can_be_withdrawn(site: Site):
    with pytest.raises(ServingError, match="no champion to challenge"):
        site.release(1, Role(mode="shadow"))
    site.release(2, Role(mode="shadow", fraction=0.25))
    assert site.gateway.route(NAME).challenger.fraction == 0.25
    live = promotion.withdraw(NAME, site.serving())
    assert (live.champion, live.challenger) == (1, None)
    assert site.gateway.route(NAME).challenger is None
    assert registry.aliases(NAME) == {"champion": 1}
    with pytest.raises(ServingError, match="has no challenger"):
        promotion.withdraw(NAME, site.serving())
    reset(site, 2)


KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from astrotriton.export import pipeline, promotion, store

act, step, path = sys.argv[1:]
serving, candidate = pickle.loads(Path(path).read_bytes())

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def on_step(done):
    if done == step:
        die()

if act == "promote":
    if step == "publishing":
        # In the middle of the folder: one file is there, the next is half.
        real = store._write
        def write(path, content):
            if path.name == "golden.npz":
                real(path, content[:100])
                die()
            real(path, content)
        store._write = write
    pipeline.publish(candidate, serving.repository)
    on_step("published")
    promotion.promote(candidate.card, serving, on_step=on_step)
else:
    promotion.rollback(candidate.card.name, serving, on_step=on_step)
"""


@pytest.fixture
def one_replica(site: Site, monkeypatch):
    """Loading starts two processes for each replica and version: one replica is enough here."""
    monkeypatch.setattr(site, "replicas", site.replicas[:1])


def kill_at(site: Site, tmp_path, act, step, candidate):
    state = tmp_path / "state"
    state.write_bytes(pickle.dumps((site.serving(), candidate)))
    died = subprocess.run(
        [sys.executable, "-c", KILLED, act, step, str(state)],
        env=site.environment(),
        check=False,
        timeout=120,
    )
    assert died.returncode == -signal.SIGKILL


def answering(site: Site) -> int:
    answer = Client(site.gateway.url).ask(1)
    assert answer.status == 200, answer.text
    return answer.version


def assert_nothing_is_half(site: Site):
    repository = site.serving().repository
    for version in repository.versions(NAME):
        repository.read(NAME, version)
    assert set(repository.listed(NAME)) <= set(repository.versions(NAME))


@pytest.mark.usefixtures("one_replica")
@pytest.mark.promotion
def test_killed_at_any_step_the_old_version_serves_and_a_repeat_finishes(site: Site, tmp_path):
    candidate = pipeline.verify(
        registry.resolve(f"models:/{NAME}/2"),
        site.serving().repository,
        SETTINGS,
        golden_tiles,
        trial=trial(),
        profile="cpu",
    )
    for step in KILLED_AT:
        kill_at(site, tmp_path, "promote", step, candidate)
        assert answering(site) == (2 if step in ANSWERS else 1), step
        assert_nothing_is_half(site)

        if step != "publishing":
            # Its gates are on record: what is left is done without TensorFlow, in a moment.
            live = site.release(2, trial=trial(validation=unneeded)).live
        else:
            pipeline.publish(candidate, site.serving().repository)
            live = promotion.promote(candidate.card, site.serving())
        assert (live.champion, live.previous_champion) == (2, 1)
        assert registry.aliases(NAME) == {"champion": 2, "previous_champion": 1}
        assert answering(site) == 2
        promotion.rollback(NAME, site.serving())
        reset(site, 2)
        assert not list((site.root / NAME).glob(".*"))


def start_anew(site: Site) -> None:
    """Forget the champions before this one, and unload them."""
    repository = site.serving().repository
    champion = champions_of(NAME, repository).champion
    keep_champions(NAME, Champions(versions=[champion]), repository)
    promotion.promote(repository.read(NAME, champion), site.serving())


def unneeded():
    raise AssertionError("a gate was asked again")


@pytest.mark.usefixtures("one_replica")
@pytest.mark.promotion
def test_rollback_killed_at_any_step_is_finished_by_the_next(site: Site, tmp_path):
    site.release(2)
    for step in ("loaded", "routed"):
        kill_at(site, tmp_path, "rollback", step, pickled_card(site))
        assert answering(site) == (1 if step == "routed" else 2), step
        assert promotion.rollback(NAME, site.serving()).champion == 1
        assert answering(site) == 1
        assert registry.aliases(NAME) == {"champion": 1}
        site.release(2, trial=trial(validation=unneeded))
    promotion.rollback(NAME, site.serving())
    reset(site, 2)


def pickled_card(site: Site):
    repository = site.serving().repository
    return pipeline.Candidate(
        registered=registry.resolve(f"models:/{NAME}/1"),
        card=repository.read(NAME, 1),
        files={},
        manifest=pipeline.read_manifest(registry.resolve(f"models:/{NAME}/1"), repository),
        published_before=True,
    )


@pytest.mark.promotion
def test_old_versions_are_pruned_and_newer_ones_wait(site: Site):
    repository = site.serving().repository
    versions = [
        registry.register(samples.detector(seed), samples.card(NAME)) for seed in (11, 12, 13)
    ]
    for version in versions:
        pipeline.export(
            f"{NAME}/{version}", site.root, SETTINGS, golden_tiles, profile="cpu", serve=False
        )
    assert repository.listed(NAME) == [1]
    middle = repository.read(NAME, versions[1])
    live = promotion.promote(middle, site.serving(keep=2))
    # The first of the three was never asked for by anybody.
    assert live.removed == []
    assert repository.versions(NAME) == [1, *versions]
    live = promotion.promote(repository.read(NAME, versions[2]), site.serving(keep=2))
    assert live.removed == [1, versions[0]]
    assert repository.listed(NAME) == versions[1:]

    assert champions_of(NAME, repository).versions == versions[1:]
    with pytest.raises(UnknownVersionError, match="version 1 is not published"):
        promotion.rollback(NAME, site.serving(), to=1)

    # Back to where the other tests begin.
    site.release(1)
    start_anew(site)
    for version in versions:
        reset(site, version)


@pytest.mark.promotion
@pytest.mark.usefixtures("one_replica")
def test_no_dead_ends_when_mlflow_forgets_hangs_or_is_moved_by_hand(site: Site, command):
    extra = registry.register(samples.detector(21), samples.card(NAME))
    pipeline.export(
        f"{NAME}/{extra}", site.root, SETTINGS, golden_tiles, profile="cpu", serve=False
    )
    repository = site.serving().repository
    site.release(2)
    promotion.promote(repository.read(NAME, extra), site.serving())

    # The champion is deleted in MLflow: it is served on, and can be gone back from.
    MlflowClient().delete_model_version(NAME, str(extra))
    seen = command("models")
    assert {one["version"]: one["registered"] for one in seen["versions"]}[extra] is False
    assert site.release(2).live.champion == 2
    back = command("rollback")["live"]
    assert back["champion"] == extra
    assert "deleted there" in back["notes"][0]
    assert command("rollback", "--to", "1")["live"]["champion"] == 1
    assert answering(site) == 1

    # MLflow hangs: a rollback does not wait for it, and its aliases are moved later.
    site.release(2)
    with hanging("mlflow"):
        hung = command("rollback")["live"]
        assert "cannot be reached" in hung["notes"][0]
        assert answering(site) == 1
        assert any("MLflow" in fault for fault in command("models")["faults"])
    assert registry.aliases(NAME)["champion"] == 2
    [mismatch, _] = command("models")["mismatches"]
    assert "the alias champion is version 2 in MLflow, and should be version 1" in mismatch
    assert command("models", "--mend-aliases")["mismatches"] == []
    assert registry.aliases(NAME) == {"champion": 1}
    for version in (2, extra):
        reset(site, version)


@pytest.mark.promotion
def test_what_there_is_not_is_said_at_once(site: Site, command):
    unknown = command("promote", f"{NAME[:-1]}/1", code=2)["error"]
    assert f"did you mean '{NAME}'?" in unknown
    assert "has no version 99" in command("verify", "99", code=2)["error"]
    assert "has no alias @best" in command("export", "@best", code=2)["error"]
    assert f"published are {NAME}" in command("rollback", "unet", code=2)["error"]
    assert f"published are {NAME}" in command("models", "unet", code=2)["error"]
    run = [sys.executable, "-X", "importtime", "-m", "astrotriton", "promote", "99"]
    said = subprocess.run(
        run, env={**site.environment(), **os.environ}, check=False, capture_output=True, text=True
    )
    assert said.returncode == 2, said.stderr[-2000:]
    imported = set(re.findall(r"\| +(\S+)$", said.stderr, re.MULTILINE))
    assert "mlflow" in imported
    assert not {"tensorflow", "keras"} & imported


@pytest.fixture
def small_disk(tmp_path):
    """A folder that has room for a quarter of a megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.promotion
def test_a_full_disk_is_one_line_and_leaves_nothing(site: Site, command, small_disk):
    (small_disk / "of_others").write_bytes(bytes(200_000))
    said = command("export", "2", "--repository", str(small_disk), code=1)
    assert said["error"].endswith("cannot be written: No space left on device")
    assert [path.name for path in (small_disk / NAME).iterdir()] == []


@pytest.fixture
def command(site: Site, monkeypatch):
    """As `command_line`."""
    return command_line(site, monkeypatch)


@pytest.mark.promotion
@pytest.mark.usefixtures("one_replica")
def test_a_canary_ends_by_itself_and_its_command_may_die(site: Site, command):
    site.release(2, Role(mode="shadow", fraction=0.1))  # its gates are then on record
    promotion.withdraw(NAME, site.serving())
    client = Client(site.gateway.url)
    auto = ("promote", "2", "--canary", "auto")

    def seen():
        return site.gateway.canary(NAME)

    def killed_once_it_runs() -> None:
        with subprocess.Popen([sys.executable, "-m", "astrotriton", *auto]) as waiting:
            while (canary := seen()) is None or canary.status != "running":
                assert waiting.poll() is None
                time.sleep(0.05)
            waiting.kill()

    # Nobody asks anything, so that it waits; a change of the route ends it.
    killed_once_it_runs()
    assert command("rollback", "--challenger")["live"]["challenger"] is None
    assert seen().status == "ended"
    assert registry.aliases(NAME) == {"champion": 1}

    killed_once_it_runs()
    with client.asking():
        while seen().status == "running":
            time.sleep(0.1)
        assert seen().status == "promoted", seen().reason
        # The route has decided; what is noted follows.
        assert site.gateway.route(NAME).champion == 2
        assert registry.aliases(NAME)["champion"] == 1
        assert any("by its canary" in one for one in command("models")["mismatches"])
        live = command(*auto)["live"]
        client.wait_for(2)
    assert (live["champion"], live["previous_champion"], live["challenger"]) == (2, 1, None)
    assert registry.aliases(NAME) == {"champion": 2, "previous_champion": 1}
    assert command("models")["mismatches"] == []
    assert {answer.status for answer in client.answers} == {200}
    assert command("rollback")["live"]["champion"] == 1
    reset(site, 2)


@pytest.mark.promotion
def test_command_line(site: Site, command, tmp_path, monkeypatch):
    site.release(1)  # so that the route names it, whatever ran before
    before = site.state()
    # Trained on other skies than those that the command validates on.
    few = ("--fields", "4", "--calibration-fields", "20")
    refused = command("promote", f"models:/{NAME}/2", *few, code=3)
    assert {gate["name"] for gate in refused["manifest"]["gates"]} >= {"onnx", "parity", "accuracy"}
    assert "accuracy" in refused["error"]
    assert site.state() == before

    exported = command("export", "2")
    assert (exported["version"], exported["published_before"]) == (2, False)
    assert command("export", f"{NAME}/2")["published_before"]

    seen = command("models")
    states = {one["version"]: one for one in seen["versions"]}
    assert states[1]["aliases"] == ["champion"]
    assert len(states[1]["loaded"]) == 2
    assert states[1]["gates"] == "passed"
    assert (states[2]["published"], states[2]["listed"], states[2]["gates"]) == (
        True,
        False,
        "part",
    )
    assert seen["route"]["champion"] == 1

    assert "names no registered model" in command("verify", "models:/x/y/z", code=2)["error"]
    assert "no previous champion" in command("rollback", code=1)["error"]
    assert CliRunner().invoke(main, ["promote"]).exit_code == 2
    reset(site, 2)

    # Judged on the fields that it brings, which are of the sky that it knows.
    keep_fields(registry.resolve(f"{NAME}/2"), validation())
    for limit in ("LATENCY", "MEMORY"):  # a busy machine's
        monkeypatch.setenv(f"ASTROTRITON_GATE_MAX_{limit}_RATIO", "100")
    judged = command("verify", "2", *few)["manifest"]
    gates = {gate["name"]: gate for gate in judged["gates"]}
    assert judged["validation"] == validation().description
    assert gates["accuracy"]["passed"]
    # On labelled exposures that lie somewhere else, if that is asked for.
    elsewhere = ValidationSet(validation().fields, "in a folder")
    (tmp_path / "validation.fits").write_bytes(elsewhere.to_fits())
    judged = command("verify", "2", *few, "--validation", str(tmp_path))["manifest"]
    assert judged["validation"] == "in a folder"
    nothing = ("--validation", str(tmp_path / "nowhere"))
    assert "has no truth.json" in command("verify", "2", *few, *nothing, code=1)["error"]
    reset(site, 2)
