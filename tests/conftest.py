"""One stack with the reference U-Net, kept serving for all tests that need no other."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from astrotriton.stack import Addresses, down, up


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
    owner = [sys.executable, "-m", "astrotriton.local.owner", str(served_data)]
    try:
        yield up(served_data, owner, on_progress=lambda part, what: None)
    finally:
        down(served_data)
