"""Build the images on a base made from Debian's packages: no registry of images is asked.

``python -m containers.build`` builds all of them, or those that are named, and prints their sizes.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import click

from containers.engine import Engine, missing

ROOT = Path(__file__).parents[1]
#: Where images and layers lie, unless ``ASTROTRITON_CONTAINERS`` names another folder.
STORAGE = Path(os.environ.get("ASTROTRITON_CONTAINERS", ROOT / "var" / "containers"))
#: What the Dockerfile builds on unless told otherwise.
BASE = "docker.io/library/python:3.11-slim-bookworm"
TARGETS = ("gateway", "worker", "export", "triton-cpu")

_PACKAGES = ("usr-is-merged", "ca-certificates", "python3", "python3-venv", "tzdata")
_LEFT_OUT = ("bash-completion", "doc", "info", "lintian", "locale", "man")
_AS_THE_OFFICIAL_ONE = (
    'ln -s python3 "$1/usr/bin/python"; rm -f "$1"/usr/lib/python3.*/EXTERNALLY-MANAGED'
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def image(target: str) -> str:
    """The name of an image that was built here."""
    return f"localhost/astrotriton-{target}:dev"


def build_base(engine: Engine) -> None:
    """Make Debian with Python, under the name that the Dockerfile asks for, if it is not there."""
    if engine.podman("images", "--quiet", BASE):
        return
    with tempfile.TemporaryDirectory(dir=engine.folder) as folder:
        tar = Path(folder) / "base.tar"
        command = [
            *("mmdebstrap", "--quiet", "--variant=minbase"),
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            f"--include={','.join(_PACKAGES)}",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT),
            f"--customize-hook={_AS_THE_OFFICIAL_ONE}",
            *("bookworm", str(tar), _mirror()),
        ]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        engine.podman("import", f"--change=ENV=PATH={_PATH}", tar, BASE)


def build(engine: Engine, target: str) -> float:
    """Build a target of the Dockerfile; the seconds that it took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=engine.folder) as folder:
        (Path(folder) / "uv.toml").write_text("system-certs = true\n")
        # This machine's way to its package index; nothing of it stays in an image.
        given = {
            Path(folder) / "uv.toml": "/etc/uv/uv.toml",
            Path("/etc/ssl/certs/ca-certificates.crt"): "/etc/ssl/certs/ca-certificates.crt",
            Path("/etc/pip.conf"): "/etc/pip.conf",
        }
        engine.podman(
            *("build", "--quiet", "--layers", "--pull=never", "--network=host"),
            *(f"--volume={here}:{there}:ro" for here, there in given.items() if here.exists()),
            *(f"--target={target}", f"--tag={image(target)}", ROOT),
            patience=7200,
        )
    return time.monotonic() - started


def size(engine: Engine, target: str) -> int:
    """Bytes of an image's files."""
    return int(engine.podman("image", "inspect", "--format={{.Size}}", image(target)))


def _mirror() -> str:
    """Where this machine has Debian from."""
    wanted = "$(CODENAME) $(COMPONENT) $(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    found = [line.split()[-1] for line in lines if line.startswith("bookworm main ")]
    return found[0] if found else "http://deb.debian.org/debian"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("targets", nargs=-1, type=click.Choice(TARGETS))
def main(targets: tuple[str, ...]) -> None:
    """Build the images, or those that are named, and print their sizes."""
    if reason := missing():
        raise click.ClickException(f"{reason}; elsewhere: docker build --target gateway .")
    with Engine(STORAGE) as engine:
        build_base(engine)
        for target in targets or TARGETS:
            took = build(engine, target)
            click.echo(f"{image(target):36} {size(engine, target) / 1e6:7.0f} MB {took:6.0f} s")


if __name__ == "__main__":
    main()
