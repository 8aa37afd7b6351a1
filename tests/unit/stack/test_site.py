"""The data folder: one owner, lasting secrets, distinct ports."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from astrotriton.stack.errors import PartError, StackInUseError
from astrotriton.stack.site import MARK, Site, State, is_held, read_state, sweep

ROOT = Path(__file__).parents[3]


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys; from pathlib import Path; from astrotriton.stack.site import Site;"
            "site = Site(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert is_held(tmp_path)
    with pytest.raises(StackInUseError, match=str(holder.pid)) as caught:
        Site(tmp_path)
    assert caught.value.owner == holder.pid

    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert not is_held(tmp_path)
    Site(tmp_path).release()
    assert not is_held(tmp_path)


def test_credentials_are_private_random_and_lasting(tmp_path: Path) -> None:
    first = Site(tmp_path / "a")
    again = Site(tmp_path / "b")
    assert first.credentials != again.credentials
    assert (tmp_path / "a" / "credentials.json").stat().st_mode & 0o777 == 0o600
    first.release()
    again.release()
    third = Site(tmp_path / "a")
    assert third.credentials == first.credentials
    third.release()


def test_ports_are_distinct_stay_and_avoid_others(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.release()
    ports = site.ports
    assert len(set(ports.values())) == len(ports)
    again = Site(tmp_path)
    again.release()
    assert again.ports == ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports["postgres"]))
        taken.listen()
        other = Site(tmp_path)
        other.release()
    assert other.ports["postgres"] != ports["postgres"]


def test_people_are_shown_no_secrets(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.release()
    shown = "".join(site.addresses.public().values())
    keys = site.credentials
    assert not any(secret in shown for secret in (keys.astrotriton, keys.nats, keys.s3_secret_key))


def test_state_is_private_and_comes_back(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    site = Site(tmp_path)
    state = State(owner=os.getpid(), addresses=site.addresses, parts={"nats": "starting"})
    site.publish(state)
    site.release()
    assert read_state(tmp_path) == state
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "stack.json").write_text("half a fi")
    assert read_state(tmp_path) is None


def test_parts_get_none_of_our_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "PGHOST", "HTTP_PROXY", "MLFLOW_TRACKING_URI", MARK):
        monkeypatch.setenv(name, "wrong")
    site = Site(tmp_path)
    site.release()
    environment = site.environment(MORE="right")
    assert "wrong" not in environment.values()
    assert environment["MORE"] == "right"
    assert environment["HOME"].startswith(str(tmp_path))


def test_sweep_kills_what_is_marked_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    marked, other = (
        subprocess.Popen(
            command,
            env={**os.environ, MARK: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for folder in (tmp_path, tmp_path / "other")
    )
    for process in (marked, other):
        assert process.stdout is not None
        process.stdout.readline()
    sweep(tmp_path)
    assert marked.poll() is not None
    assert other.poll() is None
    other.communicate()


def test_a_failed_part_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    error = PartError("nats", "ended with status 1", log)
    assert error.part == "nats"
    assert str(error).startswith("nats ended with status 1")
    assert "line 99" in str(error)
    assert "line 79" not in str(error)
    assert str(PartError("nats", "is gone", tmp_path / "none")) == "nats is gone"
