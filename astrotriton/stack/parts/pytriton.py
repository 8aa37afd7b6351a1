"""Where Triton's binary is: in the wheel of NVIDIA's pytriton, of which nothing else is used.

The wheel pins NumPy below 2 for its own Python layer, so that a resolver refuses it beside what
astrotriton needs. Where it is not installed, it is therefore fetched by itself, once for a user.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from astrotriton.stack.errors import PartError

_VERSION = "0.7.0"
# Of the wheels for x86-64 and for 64-bit Arm.
_SHA256 = (
    "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df",
    "f99e07ee56fe065337453956afba17d2673e02ec6a632c3de26ce6e7b32a0898",
)


def find_pytriton() -> Path | None:
    """The folder ``pytriton`` that is installed, or was fetched; None if there is none."""
    # Found without an import: that would load pytriton's own layer.
    spec = importlib.util.find_spec("pytriton")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    fetched = _cache() / "pytriton"
    return fetched if fetched.is_dir() else None


def fetch_pytriton() -> Path:
    """The folder ``pytriton``, fetched from the package index first where it is missing.

    Raises
    ------
    PartError
        If pip cannot fetch it, or it is not the file that was tested.
    """
    if (found := find_pytriton()) is not None:
        return found
    folder = _cache()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        wanted = Path(made) / "requirements.txt"
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in _SHA256)
        wanted.write_text(f"nvidia-pytriton=={_VERSION} {hashes}\n")
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"),
            *("--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"),
            *("--target", f"{made}/site", "-r", str(wanted)),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise PartError(
                "triton",
                f"its binary could not be fetched ({reason}): install it by"
                f" `pip install --no-deps nvidia-pytriton=={_VERSION}`",
            )
        try:
            os.rename(f"{made}/site", folder)  # noqa: PTH104 - whole or not at all
        except OSError:  # another process was faster
            if find_pytriton() is None:
                raise
    return folder / "pytriton"


def _cache() -> Path:
    return user_cache_path("astrotriton") / f"pytriton-{_VERSION}"
