"""The wheel, the source distribution and the chart: the same files make the same bytes."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import helm_python as helm

ROOT = Path(__file__).resolve().parents[1]
_CHART = Path("helm/astrotriton")


def build(source: Path, out: Path, epoch: int) -> list[Path]:
    """Build everything that a version consists of.

    Parameters
    ----------
    source
        A checkout.
    out
        A folder that the files are put into.
    epoch
        The time that stands in them, seconds since 1970: `SOURCE_DATE_EPOCH`.

    Returns
    -------
    list of Path
        The files, by name.

    Raises
    ------
    subprocess.CalledProcessError
        If the wheel cannot be built.
    """
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch), "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        command[command.index(str(out))] = str(made)
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, umask=0o022)
        _package_chart(source / _CHART, made, epoch)
        files = sorted(made.iterdir())
        return [Path(shutil.move(path, out / path.name)) for path in files]


def _package_chart(chart: Path, out: Path, epoch: int) -> None:
    """Package a chart: Helm writes the files' own times and modes, so they are given some."""
    with tempfile.TemporaryDirectory() as folder:
        # Links lead to files outside the chart, and Helm packages what they lead to.
        copy = Path(shutil.copytree(chart, Path(folder, chart.name)))
        for path in copy.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (epoch, epoch))
        helm.package(copy, destination=out)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
