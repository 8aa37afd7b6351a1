"""The guard: nothing that a part started outlives the part's owner."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

GUARD = Path(__file__).parents[3] / "astrotriton" / "stack" / "guard.py"

# Leaves the guard's session and process group, and its own parent ends: an ordinary daemon.
DAEMON = (
    "setsid sh -c 'echo $$ > daemon; exec sleep 600' & while ! [ -s daemon ]; do sleep 0.01; done"
)


def guard(
    *command: str, owner: int | str | None = None, grace: float = 5.0, leftover: str = ""
) -> list[str]:
    return [
        *(sys.executable, "-I", "-S", str(GUARD), f"--owner={owner or os.getpid()}"),
        *("--stop-signal=15", f"--grace={grace}"),
        *([f"--leftover={leftover}"] if leftover else []),
        *("--", *command),
    ]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def has_pid(path: Path) -> bool:
    return path.exists() and path.read_text().strip().isdigit()


def test_status_is_the_parts(tmp_path: Path) -> None:
    assert subprocess.run(guard("sh", "-c", "exit 3")).returncode == 3
    assert subprocess.run(guard("sh", "-c", "kill -9 $$")).returncode == 128 + signal.SIGKILL
    assert subprocess.run(guard("/no/such/program"), stderr=subprocess.PIPE).returncode == 127


def test_descendants_end_with_the_part(tmp_path: Path) -> None:
    subprocess.run(guard("sh", "-c", DAEMON), cwd=tmp_path, check=True)
    assert not psutil.pid_exists(int((tmp_path / "daemon").read_text()))


def test_terminate_asks_the_part_first(tmp_path: Path) -> None:
    script = "trap 'echo asked > asked; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done"
    process = subprocess.Popen(guard("sh", "-c", script), cwd=tmp_path)
    wait_for(lambda: has_pid(tmp_path / "pid"), "the part")
    process.terminate()
    assert process.wait(20) == 0
    assert (tmp_path / "asked").exists()


def test_a_part_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    script = f"trap '' TERM; {DAEMON}; echo $$ > pid; while :; do sleep 0.05; done"
    process = subprocess.Popen(guard("sh", "-c", script, grace=0.2), cwd=tmp_path)
    wait_for(lambda: has_pid(tmp_path / "pid"), "the part")
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGKILL
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    assert not psutil.pid_exists(int((tmp_path / "daemon").read_text()))


@pytest.mark.parametrize("victim", ["owner", "guard"])
def test_kill_9_ends_the_part(tmp_path: Path, victim: str) -> None:
    owner = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import os, subprocess, sys\n"
            "command = [part.replace('OWNER', str(os.getpid())) for part in sys.argv[1:]]\n"
            "print(subprocess.Popen(command).pid, flush=True)\n"
            "os.read(0, 1)",
            *guard("sh", "-c", "echo $$ > pid; exec sleep 600", owner="OWNER"),
        ],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    wait_for(lambda: has_pid(tmp_path / "pid"), "the part")
    part = int((tmp_path / "pid").read_text())
    os.kill(owner.pid if victim == "owner" else pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(part), "the part's end")
    owner.kill()
    owner.communicate()
    wait_for(lambda: not psutil.pid_exists(pid), "the guard's end")


def test_an_owner_that_is_gone_already_starts_nothing(tmp_path: Path) -> None:
    subprocess.run(guard("touch", "started", owner=1), cwd=tmp_path, check=True)
    assert not (tmp_path / "started").exists()


def test_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "region_1").touch()
    (tmp_path / "other").touch()
    subprocess.run(guard("true", leftover=f"{tmp_path}/region_*"), check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
