"""Disks whose power can be cut: what was not synced is gone, which no ``kill -9`` can do."""

import contextlib
import fcntl
import os
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

# The kernel's own means of testing its file systems: from this call on nothing reaches the disk,
# not even the journal. Linux, include/uapi/linux/ext4.h: EXT4_IOC_SHUTDOWN is
# _IOR('X', 125, __u32), and EXT4_GOING_FLAGS_NOLOGFLUSH is 2.
_SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
_NO_LOG_FLUSH = struct.pack("I", 2)

_PATIENCE = 10.0


class Disk:
    """An ext4 file system of its own, in a file, mounted while the block runs.

    Parameters
    ----------
    image
        The file; it grows as the disk fills.
    folder
        Where it is mounted.
    megabytes
        Its size.
    """

    def __init__(self, image: Path, folder: Path, megabytes: int) -> None:
        self._image = image
        self.folder = folder
        self._megabytes = megabytes

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as file:
            file.truncate(self._megabytes << 20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount()
        self._image.unlink()

    def cut(self) -> None:
        """Cut its power. Whoever uses it must have been stopped before, and must not go on."""
        root = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(root, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(root)

    def restore(self) -> None:
        """Give it its power again: it replays its journal. Nobody may have a file of it open."""
        self._unmount()
        if _run("losetup", "-j", str(self._image)):
            # Somebody's mount namespace, such as a container's, has a copy of the mount, and with
            # it keeps the dead file system alive, which would be mounted again.
            copy = self._image.with_name(f"{self._image.name}.copy")
            _run("cp", "--sparse=always", str(self._image), str(copy))
            copy.replace(self._image)
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-t", "ext4", "-o", "loop", str(self._image), str(self.folder))

    def _unmount(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                _run("umount", str(self.folder))
            except RuntimeError:
                # The last of its users has not quite ended.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


def why_not() -> str | None:
    """What keeps a disk's power from being cut here; None if nothing does."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with Disk(Path(folder, "image"), Path(folder, "disk"), 16) as disk:
                lost = disk.folder / "lost"
                lost.write_bytes(b"not synced")
                disk.cut()
                disk.restore()
                with contextlib.suppress(FileNotFoundError):
                    if lost.read_bytes():
                        return "a file that was never synced has outlived a cut"
        except (OSError, RuntimeError) as error:
            return f"needs root, loop devices and mkfs.ext4 of e2fsprogs: {error}"
    return None


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
