"""The lock that an object store is given, in a store that is in memory."""

import threading
from dataclasses import dataclass, field
from typing import Any

import obstore
import pytest
from obstore.exceptions import PreconditionError
from obstore.store import MemoryStore

from astrotriton.export import lease
from tests.unit.export.samples import most_inside

KEY = "model/lock"


@dataclass
class Slot:
    """An object of a store, and what was done to it."""

    store: MemoryStore = field(default_factory=MemoryStore)
    written: list[Any] = field(default_factory=list)

    def tag(self) -> str | None:
        try:
            return obstore.head(self.store, KEY)["e_tag"]
        except FileNotFoundError:
            return None

    def put(self, content: bytes, mode: Any) -> str | None:
        tag = obstore.put(self.store, KEY, content, mode=mode)["e_tag"]
        self.written.append(mode)
        return tag

    def remove(self) -> None:
        obstore.delete(self.store, KEY)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch):
    monkeypatch.setattr(lease, "_LOOKED_AT", 0.005)


def test_a_lock_lies_in_the_store_for_as_long_as_it_is_held():
    slot = Slot()
    with lease.holding(slot):
        assert slot.tag() is not None
    assert slot.tag() is None


def test_only_one_holds_a_lock():
    slot = Slot()
    assert most_inside(lambda: lease.holding(slot), workers=4, turns=5) == 1
    assert slot.written.count("create") == 20


def test_a_lock_whose_holder_has_died_is_taken_over():
    slot = Slot()
    dead = slot.put(b"somebody who was killed", "create")
    with lease.holding(slot, given_up=0.05):
        assert slot.written == ["create", {"e_tag": dead}]
    assert slot.tag() is None


def test_a_lock_that_is_renewed_is_not_taken_over():
    slot, taken = Slot(), threading.Event()

    def wait() -> None:
        with lease.holding(slot, given_up=0.2):
            taken.set()

    with lease.holding(slot, renewed=0.01, given_up=0.2):
        waiting = threading.Thread(target=wait)
        waiting.start()
        # Several times as long as after which it would be given up.
        assert not taken.wait(1.0)
        assert len(slot.written) > 10
    waiting.join()
    assert taken.is_set()


def test_who_has_lost_a_lock_leaves_the_next_ones_alone():
    slot = Slot()
    with lease.holding(slot):
        theirs = slot.put(b"the next", {"e_tag": slot.tag()})
    assert slot.tag() == theirs
    with pytest.raises(PreconditionError):
        slot.put(b"late", {"e_tag": "another"})
