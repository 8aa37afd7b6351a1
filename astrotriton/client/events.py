"""Server-Sent Events as they arrive (WHATWG HTML, 9.2), and where to go on after them."""

from collections.abc import Iterator
from typing import NamedTuple

#: Seconds without a byte after which a stream is taken for broken; a gateway is silent for 30 at
#: most.
SILENCE = 60.0


class Event(NamedTuple):
    """What a gateway has told.

    Attributes
    ----------
    kind, data
        Its name, and what it says.
    """

    kind: str
    data: bytes


class Events:
    """Reads the bytes of a stream, and of those that follow it once it has ended.

    Attributes
    ----------
    last
        The id that the next stream goes on behind; empty before there is one.
    pause
        Seconds to wait before the next stream is asked for.
    """

    def __init__(self) -> None:
        self.last = ""
        self.pause = 1.0
        self.begin()

    def begin(self) -> dict[str, str]:
        """Read a new stream, asked for with these headers.

        What was incomplete in the one before comes again.
        """
        self._id, self._kind = self.last, ""
        self._data: list[bytes] = []
        self._rest = b""
        return {
            "Accept": "text/event-stream",
            **({"Last-Event-ID": self.last} if self.last else {}),
        }

    def read(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete with what has come.

        Lines are split here, because others, httpx for one, also split at characters that JSON has
        within a string.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.removesuffix(b"\r").partition(b":")
            if name or value:
                self._take(name, value.removeprefix(b" "))
                continue
            self.last = self._id
            if self._data:
                yield Event(self._kind or "message", b"\n".join(self._data))
            self._kind, self._data = "", []

    def _take(self, name: bytes, value: bytes) -> None:
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._kind = value.decode()
            case b"id":
                self._id = value.decode()
            case b"retry" if value.isdigit():
                self.pause = int(value) / 1000.0
