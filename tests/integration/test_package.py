"""The wheel as users install it, in environments that have nothing else."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.stack_parts import ROOT

pytestmark = pytest.mark.package

UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the source distribution, as `python -m build` does it."""
    made = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", made, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = made.glob("*.whl")
    assert list(made.glob("*.tar.gz"))
    return wheel


@pytest.fixture(scope="module")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Install the wheel with an extra in an environment of its own; its ``bin`` folder."""

    def installed(extra: str = "") -> Path:
        folder = tmp_path_factory.mktemp("environment")
        subprocess.run([UV, "venv", "-q", "--seed", "--python", sys.executable, folder], check=True)
        # With the locked versions, so that it does not depend on what came out today.
        command = [
            *(UV, "pip", "install", "-q", "--python", folder / "bin" / "python"),
            *("--constraint", _constraints(folder), f"{wheel}{extra}"),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return folder / "bin"

    return installed


def _constraints(folder: Path) -> Path:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.rstrip(" \\") for line in lines if "==" in line and not line.startswith(" ")]
    path = folder / "constraints.txt"
    path.write_text("\n".join(pins))
    return path


def run(program: Path, *arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    """Outside the checkout, with no setting of this one's."""
    passed = ("PIP_", "UV_", "SSL_", "REQUESTS_")
    environment = {name: text for name, text in os.environ.items() if name.startswith(passed)}
    environment |= {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    return subprocess.run(
        [str(program), *map(str, arguments)],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_wheel_has_one_name_its_licence_and_its_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"astrotriton", "astrotriton-0.1.0.dist-info"}
    assert "astrotriton/py.typed" in names
    assert "astrotriton-0.1.0.dist-info/licenses/LICENSE" in names
    # What lies at the top of a checkout is inside the one name.
    for inside in ("gateway/app.py", "export/convert.py", "triton-config/server.flags"):
        assert f"astrotriton/{inside}" in names


def test_the_client_comes_alone(install: Callable[[str], Path], tmp_path: Path) -> None:
    programs = install()
    assert run(programs / "astrotriton", "score", "--help", home=tmp_path).returncode == 0
    listed = run(UV, "pip", "list", "--python", programs / "python", home=tmp_path).stdout
    have = {line.split()[0].lower() for line in listed.splitlines()[2:]}
    assert {"httpx", "msgspec", "click"} <= have
    assert not have & {"numba", "numpy", "tensorflow", "tensorflow-cpu", "alembic", "litestar"}
    # Whoever asks for more is told what to install.
    for command, extra in (("demo", "stack"), ("promote", "export"), ("keys", "server")):
        asked = run(programs / "astrotriton", command, "x", home=tmp_path)
        assert asked.returncode == 1
        assert f"pip install 'astrotriton[{extra}]'" in asked.stderr
    exposure = tmp_path / "exposure.fits"
    exposure.write_bytes(b"")
    alone = run(programs / "astrotriton", "score", exposure, home=tmp_path)
    assert alone.returncode == 1
    assert "no gateway: give --url" in alone.stderr


def test_a_wheel_with_the_stack_runs_the_demo(
    install: Callable[[str], Path], tmp_path: Path
) -> None:
    """From an empty home and an environment without pytriton, whose binary is fetched."""
    programs = install("[stack]")
    done = run(programs / "astrotriton", "demo", "--out", tmp_path / "out", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "marked as published" in done.stdout
    assert (tmp_path / "out" / "detections.png").exists()
    assert (tmp_path / ".local" / "share" / "astrotriton" / "model_repository").is_dir()
