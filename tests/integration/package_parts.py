"""Packages that single tests need, in folders of their own."""

import subprocess
import sys
from pathlib import Path

import pytest


def installed_packages(folder: Path, *wanted: str) -> Path:
    """A folder with packages and none that they depend on; where they cannot be had, it skips."""
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
    done = subprocess.run(
        [*command, "--target", folder, *wanted],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        pytest.skip(f"{wanted} cannot be had from the package registry: {done.stderr[-500:]}")
    return folder
