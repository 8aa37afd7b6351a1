"""What the gateway and a reader tell each other: MessagePack, each message after its length."""

import socket
import struct
from typing import TypeVar

import msgspec

from astrotriton.detection.image.exposure import Limits
from astrotriton.detection.image.reading import Description, Place
from astrotriton.wire.detections import CandidateIn
from astrotriton.wire.exposures import Companion, Observation

_LENGTH = struct.Struct("<Q")
#: Bytes of a message, at most: the positions of every candidate, or a table of them.
LARGEST = 256 * 1024 * 1024

T = TypeVar("T")


class Span(msgspec.Struct, frozen=True, array_like=True):
    """A file in the memory that both have mapped: its first byte, and how many."""

    start: int
    length: int


class _Request(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something to be done.

    Attributes
    ----------
    seconds
        Of processor time that it may take.
    """

    seconds: float


class ReadImage(_Request, frozen=True, kw_only=True, tag=True):
    """Read an exposure and its planes; answered by `ImageRead`. `files` has ``exposure``."""

    files: dict[str, Span]
    hdu: int | str | None = None
    mask_hdu: int | str | None = None
    weight_hdu: int | str | None = None
    psf_hdu: int | str | None = None
    science_hdu: int | str | None = None
    template_hdu: int | str | None = None
    observation: Observation | None = None
    limits: Limits
    cube: bool = False


class ReadTable(_Request, frozen=True, kw_only=True, tag=True):
    """Read a table of candidates; answered by `TableRead`."""

    file: Span
    max_candidates: int
    max_bytes: int


class ReadLabelled(_Request, frozen=True, kw_only=True, tag=True):
    """Read a `ValidationSet`; answered by `LabelledRead`."""

    file: Span


class ToIcrs(_Request, frozen=True, kw_only=True, tag=True):
    """Positions on the exposure that was read, float64 (2, N), in the sky; by `Positions`."""

    positions: bytes


class FromIcrs(_Request, frozen=True, kw_only=True, tag=True):
    """Positions in the sky, degrees, float64 (2, N), on the exposure; by `Positions`."""

    positions: bytes


Request = ReadImage | ReadTable | ReadLabelled | ToIcrs | FromIcrs


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The reader has begun, and how it is confined."""

    confined_by: str


class Reading(msgspec.Struct, frozen=True, tag=True):
    """No answer yet: what is being read now, so that it is known what ended a reader."""

    field: str


class ImageRead(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An exposure and its planes; pixels that lie in no file are in memory that comes along."""

    images: dict[str, Description]
    kept: int


class TableRead(msgspec.Struct, frozen=True, tag=True):
    """The candidates of a table."""

    candidates: list[CandidateIn]


class LabelledField(msgspec.Struct, frozen=True, kw_only=True):
    """A field with its transients, whose columns are as `Transients` has them."""

    image: Place
    companions: dict[Companion, Place]
    positions: list[tuple[float, float]]
    snr: list[float]
    polarity: list[int]
    fwhm: list[float]
    hosted: list[bool]
    saturated: list[bool]


class LabelledRead(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A validation set; its images are in memory that comes along."""

    description: str
    fields: list[LabelledField]
    kept: int


class Positions(msgspec.Struct, frozen=True, tag=True):
    """Positions asked for, float64 (2, N)."""

    positions: bytes


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An `InputError`, or a `TooLargeError`."""

    code: str
    field: str
    detail: str
    too_large: bool


class Unforeseen(msgspec.Struct, frozen=True, tag=True):
    """An error that the code did not foresee: its traceback."""

    traceback: str


Answer = Ready | Reading | ImageRead | TableRead | LabelledRead | Positions | Refused | Unforeseen


class Fork(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Make a reader for the connection that comes along; answered by `Begun`.

    Attributes
    ----------
    room
        Bytes of memory that files are put into.
    memory
        Bytes that a reader may take beyond what it begins with.
    files
        Most requests that it answers with pixels of its own.
    filtered
        Whether its system calls are filtered where that is possible.
    """

    room: int
    memory: int
    files: int
    filtered: bool = True


class Bury(msgspec.Struct, frozen=True, tag=True):
    """End a reader, if it has not ended by itself; answered by `Ended`."""

    pid: int


class Begun(msgspec.Struct, frozen=True, tag=True):
    """A process is there."""

    pid: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """It has ended: its exit status, or the negative of the signal that ended it."""

    status: int


COMMANDS: msgspec.msgpack.Decoder[Fork | Bury] = msgspec.msgpack.Decoder(Fork | Bury)
REPORTS: msgspec.msgpack.Decoder[Begun | Ended] = msgspec.msgpack.Decoder(Begun | Ended)
REQUESTS: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def send(connection: socket.socket, message: msgspec.Struct, file: int | None = None) -> None:
    """Send a message, and an open file with it."""
    content = msgspec.msgpack.encode(message)
    head = _LENGTH.pack(len(content))
    if file is None:
        connection.sendall(head + content)
        return
    socket.send_fds(connection, [head], [file])
    connection.sendall(content)


def receive(connection: socket.socket, decoder: msgspec.msgpack.Decoder[T]) -> tuple[T, int | None]:
    """The next message, and the open file that came with it, if one did.

    Raises
    ------
    EOFError
        If the other side has ended.
    ValueError
        If it says something that it should not.
    """
    head, files, _, _ = socket.recv_fds(connection, _LENGTH.size, 1)
    file = files[0] if files else None
    try:
        head += _exactly(connection, _LENGTH.size - len(head)) if head else b""
        if not head:
            raise EOFError
        (length,) = _LENGTH.unpack(head)
        if length > LARGEST:
            raise ValueError(f"a message of {length} bytes")
        return decoder.decode(_exactly(connection, length)), file
    except BaseException:
        if file is not None:
            socket.close(file)
        raise


def _exactly(connection: socket.socket, count: int) -> bytearray:
    content = bytearray(count)
    view, have = memoryview(content), 0
    while have < count:
        got = connection.recv_into(view[have:])
        if got == 0:
            raise EOFError
        have += got
    return content
