"""Files that are compressed as a whole: gzip and bzip2, of one member or several."""

import bz2
import zlib
from collections.abc import Callable
from typing import Any

from astrotriton.detection.arrays import Buffer
from astrotriton.detection.errors import InputError, TooLargeError

_FIELD = "exposure"


def _gzip_member() -> Any:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


#: What begins each member, and what decompresses one.
_KINDS: dict[bytes, tuple[str, Callable[[], Any]]] = {
    b"\x1f\x8b": ("gzip", _gzip_member),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
}


def decompressed(content: Buffer, max_bytes: int) -> Buffer:
    """What a file holds once decompressed; as it is if it is not compressed.

    All members of a file belong to it (RFC 1952, 2.2). What follows the last one is padding, and is
    ignored as gzip and bzip2 do.

    Parameters
    ----------
    max_bytes
        The most that it may hold: it is given up as soon as there is more.

    Raises
    ------
    InputError
        ``unreadable-fits`` if it is broken or ends too early, ``too-large`` (a `TooLargeError`).
    """
    for magic, (name, new) in _KINDS.items():
        if content[: len(magic)] == magic:
            return b"".join(_members(content, magic, name, new, max_bytes))
    return content


def _members(
    content: Buffer, magic: bytes, name: str, new: Callable[[], Any], max_bytes: int
) -> list[bytes]:
    found: list[bytes] = []
    left = max_bytes
    while content[: len(magic)] == magic:
        member = new()
        try:
            piece: bytes = member.decompress(content, left + 1)
        except (zlib.error, OSError) as error:
            raise InputError("unreadable-fits", _FIELD, f"broken {name} file: {error}") from error
        left -= len(piece)
        if left < 0:
            raise TooLargeError(_FIELD, f"more than {max_bytes} bytes once decompressed")
        if not member.eof:
            raise InputError("unreadable-fits", _FIELD, f"the {name} file ends too early")
        found.append(piece)
        content = member.unused_data
    return found
