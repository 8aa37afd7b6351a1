"""Podman with settings and storage of its own, which leaves nothing behind.

crun refuses the hybrid control groups of some machines, and what Podman mounts should not outlive
it. So its commands run in a mount namespace of their own, which ends with this process.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

PROGRAMS = ("podman", "buildah", "crun", "mmdebstrap", "catatonit", "unshare", "nsenter")

_CONTAINERS = """
[containers]
cgroups = "enabled"
netns = "host"
log_driver = "k8s-file"
# Each instance of a model that Triton runs in Python takes its part of it.
shm_size = "256m"
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""
# The namespace lives as long as somebody holds this shell's standard input.
_HOLD = 'umount /sys/fs/cgroup/unified 2> /dev/null; mkdir -p "$1" "$2" && mount --bind "$1" "$2"'


def missing() -> str | None:
    """What keeps this machine from running containers, if anything does."""
    if os.geteuid() != 0:
        return "only root runs containers here"
    gone = [name for name in PROGRAMS if shutil.which(name) is None and not _is_helper(name)]
    return f"missing: {', '.join(gone)} (apt-get install them)" if gone else None


def _is_helper(name: str) -> bool:
    return Path("/usr/libexec/podman", name).exists()


class Engine:
    """Podman, for as long as the block runs; its images stay, and its containers do not.

    Parameters
    ----------
    folder
        Where images, layers and settings lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        (self.folder / "containers.conf").write_text(_CONTAINERS)
        (self.folder / "storage.conf").write_text(_STORAGE.format(folder=self.folder))
        # What this machine's uv has fetched need not be fetched again: `--mount=type=cache,id=uv`.
        fetched = Path(os.environ.get("UV_CACHE_DIR", Path.home() / ".cache" / "uv"))
        hold = f"{_HOLD} && echo ready && exec cat > /dev/null"
        self._holder = subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "slave", "sh", "-c", hold, "hold"),
                *(fetched, self.folder / "tmp" / "buildah-cache" / "uv"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise RuntimeError("no mount namespace: run as root, with CAP_SYS_ADMIN")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._holder is not None
        assert self._holder.stdin is not None
        for what in (("pod", "rm"), ("rm",)):
            self.podman(*what, "--all", "--force", "--time=0", check=False)
        self._holder.stdin.close()
        self._holder.wait()

    def command(self, *arguments: str | Path) -> list[str]:
        """The words that run podman in the namespace."""
        assert self._holder is not None
        namespace = f"--mount=/proc/{self._holder.pid}/ns/mnt"
        settings = {
            "CONTAINERS_CONF": self.folder / "containers.conf",
            "CONTAINERS_STORAGE_CONF": self.folder / "storage.conf",
            "TMPDIR": self.folder / "tmp",
        }
        given = [f"{name}={value}" for name, value in settings.items()]
        return ["nsenter", namespace, "env", *given, "podman", *map(str, arguments)]

    def podman(
        self,
        *arguments: str | Path,
        check: bool = True,
        content: str | None = None,
        output: IO[Any] | None = None,
        patience: float = 600.0,
    ) -> str:
        """Run podman, and return what it printed.

        Parameters
        ----------
        check
            Whether its failure is one.
        content
            For its standard input.
        output
            Where it prints instead.
        patience
            Seconds.

        Raises
        ------
        RuntimeError
            If podman fails; it says why.
        """
        ran = subprocess.run(
            self.command(*arguments),
            input=content,
            stdin=subprocess.DEVNULL if content is None else None,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.STDOUT if output else subprocess.PIPE,
            text=True,
            timeout=patience,
        )
        if check and ran.returncode != 0:
            said = (ran.stderr or ran.stdout or "").strip()
            raise RuntimeError(f"podman {_told(arguments)} ended with {ran.returncode}: {said}")
        return (ran.stdout or "").strip()

    def logs(self, container: str) -> str:
        """What a container has printed, if it is there."""
        ran = subprocess.run(
            self.command("logs", container),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # What a container printed on its standard error is printed there.
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        return ran.stdout


def _told(arguments: Sequence[str | Path]) -> str:
    return " ".join(map(str, arguments))[:200]
