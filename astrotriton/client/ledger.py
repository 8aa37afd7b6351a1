"""What became of the exposures of a night: a line for each attempt, and a file for each answer."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

from astrotriton.client.errors import ClientError
from astrotriton.wire.runs import InferResponse

LEDGER = "night.jsonl"


class NightError(ClientError):
    """A night that cannot be begun as it was asked for."""


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the ledger: what became of an exposure.

    Attributes
    ----------
    exposure
        The path or URI, as it was given.
    digest
        SHA-256 of its content and of how it was to be scored.
    status
        ``done``, or ``failed`` with its ``reason``.
    answer
        Name of the file with the answer.
    run_id
        Of the run.
    detections, real
        How many there are, and how many of them are called real.
    seconds
        From its being sent to its answer.
    reason
        Why it failed.
    """

    exposure: str
    digest: str
    status: Literal["done", "failed"]
    answer: str = ""
    run_id: UUID | None = None
    detections: int = 0
    real: int = 0
    seconds: float = 0.0
    reason: str = ""


class Ledger:
    """The folder of answers."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / LEDGER
        # What is done, with the file of its answer, and the other way round: a file holds the last.
        self._done: dict[tuple[str, str], str] = {}
        self._held: dict[str, tuple[str, str]] = {}
        self._names: dict[str, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = self._path.read_bytes().split(b"\n") if self._path.exists() else [b""]
        except OSError as error:
            raise NightError(f"{folder}: {error.strerror or error}") from None
        if lines.pop():
            # It was written when power or disk ended: what it told of is asked for again.
            self._path.write_bytes(b"".join(line + b"\n" for line in lines))
        for number, line in enumerate(lines, 1):
            try:
                entry = msgspec.json.decode(line, type=LedgerEntry)
            except msgspec.DecodeError as error:
                raise NightError(f"{self._path}, line {number}: {error}") from None
            if entry.status == "done" and (folder / entry.answer).is_file():
                self._note(entry)
                self._names[entry.answer] = entry.exposure

    def answer_to(self, exposure: str, digest: str) -> str | None:
        """The file of the exposure's answer, if it is done as it is."""
        return self._done.get((exposure, digest))

    def keep(self, exposure: str, digest: str, answer: InferResponse) -> str:
        """Write an answer, whole or not at all; the name of its file."""
        name = f"{exposure.rpartition('/')[2]}.json"
        if self._names.setdefault(name, exposure) != exposure:
            # Another exposure of that name, of another folder.
            name = f"{exposure.rpartition('/')[2]}.{digest[:8]}.json"
            self._names[name] = exposure
        path = self._folder / name
        part = path.with_name(f".{name}.part")
        part.write_bytes(msgspec.json.encode(answer))
        part.replace(path)
        return name

    def add(self, entry: LedgerEntry) -> None:
        """Write down what became of an exposure."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
        if entry.status == "done":
            self._note(entry)

    def _note(self, entry: LedgerEntry) -> None:
        done = (entry.exposure, entry.digest)
        if (before := self._held.get(entry.answer)) is not None:
            self._done.pop(before, None)
        self._held[entry.answer] = done
        self._done[done] = entry.answer


def reasons(failed: Iterable[LedgerEntry]) -> list[tuple[str, int]]:
    """Why exposures failed, the most frequent reason first."""
    return Counter(entry.reason for entry in failed).most_common()
