"""What is carried to the machine: bundles of files, compressed and cut into parts.

Only the standard library is used, as the machine has nothing else before this is unpacked.
"""

import hashlib
import io
import json
import lzma
import os
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACK_FILE = "pack.json"
#: Bytes of a part. A call may carry 64 MiB, and the sources go with it.
PART = 56 << 20
# Each so many bytes are compressed by themselves, on all cores.
_BLOCK = 16 << 20
# Of xz: three times as fast as its own choice, for a tenth more bytes.
_PRESET = 3


class PackError(Exception):
    """The pack is incomplete, damaged, or for another Python; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files that serve one purpose.

    Attributes
    ----------
    name, purpose
        What it is called, and what the run can do with it.
    parts
        File names, in their order, and the SHA-256 of each.
    """

    name: str
    purpose: str
    parts: dict[str, str]


def write(
    folder: Path, name: str, purpose: str, files: Path, python: str, part: int = PART
) -> Bundle:
    """Pack all files of a folder as a bundle, and note it in the pack's list.

    Parameters
    ----------
    folder
        The pack.
    files
        Its content.
    python
        The version it is for, such as ``3.12``.
    part
        Most bytes of a part.

    Raises
    ------
    PackError
        If the pack is for another Python.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = read(folder, python) if (folder / PACK_FILE).exists() else {}
    for path in folder.glob(f"{name}.*"):
        path.unlink()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for path in sorted(files.iterdir()):
            archive.add(path, path.name, filter=_anonymous)
    content = b"".join(_compressed(plain.getbuffer()))
    pieces = [content[start : start + part] for start in range(0, len(content), part)]
    parts = {}
    for number, piece in enumerate(pieces, 1):
        file = f"{name}.{number}-of-{len(pieces)}"
        (folder / file).write_bytes(piece)
        parts[file] = hashlib.sha256(piece).hexdigest()
    known[name] = Bundle(name, purpose, parts)
    listed = {
        one.name: {"purpose": one.purpose, "parts": one.parts} for one in sorted_by_name(known)
    }
    (folder / PACK_FILE).write_text(json.dumps({"python": python, "bundles": listed}, indent=1))
    return known[name]


def sorted_by_name(bundles: dict[str, Bundle]) -> list[Bundle]:
    """Bundles in an order that does not depend on when each was packed."""
    return [bundles[name] for name in sorted(bundles)]


def read(folder: Path, python: str) -> dict[str, Bundle]:
    """The bundles of a pack by name, whether their parts are there or not.

    Raises
    ------
    PackError
        If there is no pack, or it is for another Python.
    """
    try:
        listed: dict[str, Any] = json.loads((folder / PACK_FILE).read_text())
    except OSError as error:
        raise PackError(f"{folder} holds no {PACK_FILE}: run `make gpu-pack` first") from error
    if listed["python"] != python:
        raise PackError(
            f"{folder} is for Python {listed['python']}, this is {python}: pack for it with"
            f" `make gpu-pack PYTHON_VERSION={python}`, or give another folder as PACK"
        )
    return {
        name: Bundle(name, one["purpose"], one["parts"]) for name, one in listed["bundles"].items()
    }


def missing(folder: Path, bundle: Bundle) -> list[str]:
    """The parts of a bundle that are not there."""
    return [name for name in bundle.parts if not (folder / name).exists()]


def unpack(folder: Path, bundle: Bundle, target: Path) -> None:
    """Put a bundle's files into a folder.

    Raises
    ------
    PackError
        If a part is missing or damaged.
    """
    if absent := missing(folder, bundle):
        raise PackError(f"{', '.join(absent)} of the bundle {bundle.name} is not in {folder}")
    target.mkdir(parents=True, exist_ok=True)
    joined = io.BytesIO()
    for name, digest in bundle.parts.items():
        content = (folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise PackError(f"{folder / name} is damaged, or of another packing: carry it again")
        joined.write(content)
    joined.seek(0)
    with tarfile.open(fileobj=joined, mode="r:xz") as archive:
        archive.extractall(target, filter="tar")


def _compressed(content: memoryview) -> Iterable[bytes]:
    """The content as several xz streams one after the other, which is an xz file again."""

    def blocks() -> Iterator[memoryview]:
        for start in range(0, len(content), _BLOCK):
            yield content[start : start + _BLOCK]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda block: lzma.compress(block, preset=_PRESET), blocks())


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """An entry without its owner and times, so that equal files make equal packs."""
    if Path(entry.name).name == "__pycache__":
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = 0
    return entry
