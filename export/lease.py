"""A lock in an object store, which has none: an object that its holder keeps renewing."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from obstore.exceptions import AlreadyExistsError, PreconditionError

from astrotriton.export.errors import RepositoryError

if TYPE_CHECKING:
    from obstore import PutMode

#: Seconds after which a holder renews its lock, and after which one that did not has died.
RENEWED, GIVEN_UP = 5.0, 20.0

_LOOKED_AT = 0.5
_TAKEN = (AlreadyExistsError, PreconditionError, FileExistsError)
_log = logging.getLogger(__name__)


class Slot(Protocol):
    """An object that may be there or not, and is changed only by who has seen it as it is."""

    def tag(self) -> str | None:
        """What tells its content from others; None if it is not there."""
        ...

    def put(self, content: bytes, mode: "PutMode") -> str | None:
        """Write it; its tag then.

        Raises
        ------
        obstore.exceptions.AlreadyExistsError, PreconditionError, FileExistsError
            If it is another than ``mode`` says.
        """
        ...

    def remove(self) -> None:
        """Take it away, if it is there."""
        ...


@contextlib.contextmanager
def holding(slot: Slot, *, renewed: float = RENEWED, given_up: float = GIVEN_UP) -> Iterator[None]:
    """Hold a lock; wait for as long as another holds it.

    A holder that has died does not renew it, so its lock is taken over. No clocks are compared: who
    waits measures how long the lock has not changed. A holder that was stopped for so long that it
    has lost its lock is not told; what it then writes is refused by `Store.replace`.

    Parameters
    ----------
    slot
        Where the lock lies.
    renewed, given_up
        Seconds, as `RENEWED` and `GIVEN_UP`.
    """
    tag = _taken(slot, given_up)
    over = threading.Event()

    def renew() -> None:
        nonlocal tag
        while not over.wait(renewed):
            try:
                tag = _put(slot, {"e_tag": tag})
            except (*_TAKEN, RepositoryError) as error:  # The next turn may succeed.
                _log.debug("the lock was not renewed: %r", error)

    keeper = threading.Thread(target=renew, name="renews a lock", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        # What cannot be taken away is given up by the next one.
        with contextlib.suppress(RepositoryError):
            if slot.tag() == tag:
                slot.remove()


def _taken(slot: Slot, given_up: float) -> str | None:
    """Take a lock, once it is free or its holder has died; its tag."""
    seen: str | None = None
    since = time.monotonic()
    while True:
        now = slot.tag()
        if now != seen:
            seen, since = now, time.monotonic()
        mode: PutMode | None = None
        if now is None:
            mode = "create"
        elif time.monotonic() - since > given_up:
            mode = {"e_tag": now}
        if mode is not None:
            with contextlib.suppress(*_TAKEN):
                return _put(slot, mode)
        time.sleep(_LOOKED_AT)


def _put(slot: Slot, mode: "PutMode") -> str | None:
    # No two writes are the same, so each changes the tag.
    return slot.put(uuid4().hex.encode(), mode)
