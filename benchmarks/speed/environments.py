"""Environments of their own, for what must not share the project's."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

_REQUIREMENTS = Path(__file__).parent / "requirements"
_PATIENCE = 600.0


def environment(name: str, cache: Path, *, dependencies: bool = True) -> Path:
    """The folder of an environment with what ``requirements/NAME.txt`` pins; made once.

    Parameters
    ----------
    cache
        Where environments are kept.
    dependencies
        Whether the file lists less than what it needs.

    Raises
    ------
    RuntimeError
        If it cannot be installed.
    """
    pinned = _REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(pinned.read_bytes() + sys.version.encode()).hexdigest()
    folder = (cache / "environments" / name).resolve()
    stamp = folder / "made-from"
    if stamp.exists() and stamp.read_text() == digest:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    uv = Path(sys.executable).with_name("uv")
    python = folder / "bin" / "python"
    without = [] if dependencies else ["--no-deps"]
    for command in (
        [str(uv), "venv", "-q", "--python", sys.executable, str(folder)],
        [str(uv), "pip", "install", "-q", "--python", str(python), *without, "-r", str(pinned)],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        if done.returncode:
            raise RuntimeError(f"cannot be installed: {done.stderr.strip()[-300:]}")
    stamp.write_text(digest)
    return folder


def perf_analyzer(cache: Path) -> tuple[str, dict[str, str]]:
    """NVIDIA's load generator and the environment variables that it needs.

    ``perf-analyzer`` on PyPI is empty for older C libraries; this one comes in a client's wheel,
    and finds the two libraries that it lacks among those of Triton's.

    Raises
    ------
    RuntimeError
        If it cannot be had.
    """
    folder = environment("perf_analyzer", cache, dependencies=False)
    program = folder / "bin" / "perf_analyzer"
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None or not program.exists():
        raise RuntimeError("neither it nor Triton's libraries are installed")
    libraries = folder / "libraries"
    libraries.mkdir(exist_ok=True)
    for wanted, pattern in (("libcudart.so.12", "libcudart-*"), ("libb64.so.0d", "libb64-*")):
        link = libraries / wanted
        link.unlink(missing_ok=True)
        link.symlink_to(next((Path(spec.origin).parents[1] / "nvidia_pytriton.libs").glob(pattern)))
    program.chmod(0o755)
    return str(program), {"LD_LIBRARY_PATH": str(libraries), "PATH": ""}
