"""What a promotion would do, and a person's word on it, on real servers."""

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from astrotriton.cli import main
from astrotriton.client import Client
from astrotriton.export import promotion, registry
from astrotriton.export.approval import APPROVED_AT, APPROVED_BY, ASKED_FOR, REJECTED_BY, Wait
from astrotriton.export.errors import RejectedError, ServingError, UnapprovedError
from astrotriton.export.manifest import Manifest
from astrotriton.export.overview import overview
from astrotriton.export.repository import MANIFEST_FILE
from tests.integration.gateway_parts import npy
from tests.integration.promotion_parts import (
    NAME,
    Site,
    command_line,
    hanging,
    promoted_site,
)
from tests.unit.export import samples

pytestmark = pytest.mark.promotion


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """As `promoted_site`."""
    with promoted_site(tmp_path_factory.mktemp("stack")) as made:
        yield made


@pytest.fixture
def command(site: Site, monkeypatch):
    """As `command_line`."""
    return command_line(site, monkeypatch)


def test_a_plan_says_what_would_be_done_and_how_long_and_changes_nothing(site: Site, command):
    before = site.state()
    planned = command("promote", "2", "--plan", "--require-approval")
    said = {step["name"]: step for step in planned["steps"]}
    assert (planned["champion"], planned["obstacles"]) == (1, [])
    assert list(said)[:3] == ["converted", "onnx", "parity"]
    # As long as the champion's took; nothing was compared with a champion yet.
    for step in ("converted", "accuracy", "sandbox", "published", "loaded", "aliased"):
        [seconds] = said[step]["seconds"]
        assert seconds >= 0.0
    assert said["accuracy_change"]["seconds"] == []
    assert said["approved"]["does"] == f"waits for the tag {APPROVED_BY} in MLflow"
    assert said["loaded"]["does"].endswith(", ".join(site.replicas))
    assert site.state() == before

    run = [sys.executable, "-X", "importtime", "-m", "astrotriton", "promote", "2", "--plan"]
    printed = subprocess.run(
        run, env={**site.environment(), **os.environ}, check=True, capture_output=True, text=True
    )
    assert "version 2 would become the champion; judged beside version 1" in printed.stdout
    imported = set(re.findall(r"\| +(\S+)$", printed.stderr, re.MULTILINE))
    assert "mlflow" in imported
    assert not {"tensorflow", "keras"} & imported


class Waiting:
    """A promotion in a thread that waits for approval."""

    def __init__(self, site: Site, version: int) -> None:
        self.told: list[str] = []
        self.asks = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self.done: Future = self._pool.submit(
            site.release,
            version,
            approval=Wait(timeout=120.0, interval=0.2),
            on_progress=self._hear,
        )
        while not self.asks.wait(0.1):
            assert not self.done.done(), self.done.result()

    def _hear(self, what: str) -> None:
        self.told.append(what)
        if what.startswith("to reject it"):
            self.asks.set()


def tag(version: int, name: str, value: str) -> None:
    MlflowClient().set_model_version_tag(NAME, str(version), name, value)


def test_a_version_waits_for_a_persons_word(site: Site, command, monkeypatch):
    # As the command has it, but shorter.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    before = site.state()[1:]
    # Nobody answers: it stays published, and nothing serves it.
    with pytest.raises(UnapprovedError):
        site.release(2, approval=Wait(timeout=0.0))
    assert site.state()[1:] == before
    assert site.serving().repository.holds(NAME, 2)
    assert 2 not in site.serving().repository.listed(NAME)
    few = ("--require-approval", "--approval-timeout", "0")
    assert "nobody has approved" in command("promote", "2", *few, code=6)["error"]

    # MLflow hangs while it waits; then the line that it printed is run, with a name in it.
    waiting = Waiting(site, 2)
    assert not any("comparing" in one for one in waiting.told), "its gates were asked again"
    with hanging("mlflow"):
        while not any("while MLflow is away" in one for one in waiting.told):
            assert not waiting.done.done(), waiting.done.result()
    [line] = [one for one in waiting.told if one.startswith("to approve")]
    shell = line.partition(": ")[2].replace("YOUR NAME", "Ada").replace("python", sys.executable, 1)
    subprocess.run(shell, shell=True, check=True)
    released = waiting.done.result(timeout=120)
    assert released.live.champion == 2
    assert released.manifest.approval.by == "Ada"

    # Who and when is kept, and shown.
    kept = site.serving().repository.file(NAME, 2, MANIFEST_FILE)
    assert Manifest.from_json(kept).approval == released.manifest.approval
    tags = MlflowClient().get_model_version(NAME, "2").tags
    assert tags[APPROVED_AT] == released.manifest.approval.at.isoformat()
    assert ASKED_FOR not in tags
    MlflowClient().update_model_version(NAME, "2", "A second\nnetwork")
    tag(2, "survey", "BlackGEM")
    MlflowClient().set_registered_model_tag(NAME, "owner", "Ada")
    state = {one["version"]: one for one in command("models")["versions"]}[2]
    assert (state["gates"], state["approval"]["by"]) == ("passed", "Ada")
    assert state["tags"] == {"survey": "BlackGEM"}
    shown = overview(NAME, site.serving()).text()
    assert f"{NAME}: tags owner=Ada" in shown
    assert "version 2: A second network; tags survey=BlackGEM; approved by Ada, " in shown

    # After a rollback the old word does not count.
    promotion.rollback(NAME, site.serving())
    again = Waiting(site, 2)
    tag(2, REJECTED_BY, "Bob")
    with pytest.raises(RejectedError, match="rejected by Bob"):
        again.done.result(timeout=60)
    assert site.gateway.route(NAME).champion == 1
    assert not site.serving().repository.holds(NAME, 2)


def test_another_champion_ends_the_wait(site: Site):
    number = registry.register(samples.detector(31), samples.card(NAME))
    waiting = Waiting(site, number)
    site.release(2)
    tag(number, APPROVED_BY, "Ada")
    with pytest.raises(ServingError, match="but the champion is version 2 now"):
        waiting.done.result(timeout=60)
    assert site.gateway.route(NAME).champion == 2
    assert not site.serving().repository.holds(NAME, number)


def test_two_versions_side_by_side(site: Site, command):
    image = np.flipud(samples.field(99).image)
    site.release(2)
    for version in (2, 1):
        promotion.promote(site.serving().repository.read(NAME, version), site.serving())
        with Client(site.gateway.url) as client:
            client.score(npy(image))
    compared = command("compare", "1", "2", "--fields", "4", "--window", "1h")
    assert (compared["one"], compared["other"], compared["faults"]) == (1, 2, [])
    figures = {row["name"]: row for row in compared["figures"]}
    assert figures["average_precision"]["one"] == pytest.approx(
        figures["average_precision"]["other"], abs=0.1
    )
    lately = {row["name"]: row for row in compared["lately"]}
    assert lately["runs"]["one"] >= 1
    assert lately["runs"]["other"] >= 1
    assert compared["agreement"]["exposures"] == 1
    assert compared["agreement"]["agreement"] == 1.0
    assert (
        "give two versions of one model" in CliRunner().invoke(main, ["compare", "1", "1"]).output
    )
