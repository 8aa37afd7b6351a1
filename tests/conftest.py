"""Groups of long tests, a folder for each run, and a stack for all tests that need no other."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from astrotriton.stack import Addresses, StackError, down, up
from astrotriton.stack.site import owner_of

_OWNER_PATIENCE = 600.0  # seconds; it takes 40 on idle cores
_OWN_FOLDER = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give every run a folder of its own.

    pytest closes its common folder to other users each time it starts. Servers that run as another
    user, as PostgreSQL must, then lose their data in the middle of another run.
    """
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.option.basetemp = tempfile.mkdtemp(prefix="astrotriton-tests-")
        config.stash[_OWN_FOLDER] = Path(config.option.basetemp)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the folder unless it shows what has failed."""
    folder = session.config.stash.get(_OWN_FOLDER, None)
    if folder is not None and exitstatus != pytest.ExitCode.TESTS_FAILED:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test of a group as one that takes long, and see that it is in one group alone."""
    groups = groups_of(config)
    for item in items:
        found = [group for group in groups if item.get_closest_marker(group)]
        assert len(found) <= 1, f"{item.nodeid} is in {found}"
        if found:
            item.add_marker(pytest.mark.system)
        item.user_properties.append(("group", found[0] if found else "test"))


def groups_of(config: pytest.Config) -> list[str]:
    """The groups of long tests, as `pyproject.toml` declares them."""
    markers = [line.partition(": ") for line in config.getini("markers")]
    return [name for name, _, meaning in markers if meaning.startswith("(group)")]


@pytest.fixture(scope="session")
def served_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of `served`.

    Where this user may mount, PostgreSQL's part of it is a file system of its own, small enough for
    a test to fill.
    """
    data = tmp_path_factory.mktemp("served")
    disk = data / "postgres"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    yield data
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="session")
def served(served_data: Path) -> Iterator[Addresses]:
    """Where the parts of the stack answer."""
    owner = [sys.executable, "-X", "faulthandler", "-m", "astrotriton.one_machine.owner"]

    def abort() -> None:
        if (pid := owner_of(served_data)) is not None:
            os.kill(pid, signal.SIGABRT)

    # One that hangs says where, by its last words.
    watch = Timer(_OWNER_PATIENCE, abort)
    watch.start()
    try:
        addresses = up(served_data, [*owner, str(served_data)], on_progress=lambda part, what: None)
        watch.cancel()
        yield addresses
    except StackError:
        print((served_data / "logs" / "owner.log").read_text()[-20_000:])
        raise
    finally:
        watch.cancel()
        down(served_data)
