"""The Triton servers that share the work: found by name, taken in turn, left out when they fail."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self, TypeVar

from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from astrotriton.gateway.backends.shared_memory import SharedMemory
from astrotriton.gateway.observability.metrics import EJECTIONS, RETRIES, TRITON_REQUESTS
from astrotriton.gateway.periodic import Shared
from astrotriton.triton.addresses import look_up_servers_at
from astrotriton.triton.statuses import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    EXPIRED,
    UNAVAILABLE,
    is_full,
)

_T = TypeVar("_T")

# Ends of requests that say nothing about the server: they were wrong, or nobody waited for them.
# One that hangs is noticed by its connection, whose pings it does not answer.
_OURS = frozenset(
    {
        "StatusCode.INVALID_ARGUMENT",
        "StatusCode.NOT_FOUND",
        DEADLINE_EXCEEDED,
        CANCELLED,
    }
)

_LARGEST_MESSAGE = 2**31 - 1
_CHANNEL = [
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    # A server that comes back must be found in seconds; gRPC's own pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # One that is cut off, or stopped, must be noticed without waiting for a request's deadline.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # More of them, Triton would take for an attack.
    ("grpc.http2.max_pings_without_data", 2),
    # Triton is near; a proxy that the environment names for the world outside is not for it.
    ("grpc.enable_http_proxy", 0),
    # Replicas must not share a connection that a proxy holds.
    ("grpc.use_local_subchannel_pool", 1),
]

_REFRESH = 10.0
_FAILURES = 3
_EJECTED = 10.0
# Seconds for the last requests to a server that its name does not stand for any more.
_LAST_REQUESTS = 60.0
_RETRY_SHARE = 0.1
_RETRY_RESERVE = 10.0

_log = logging.getLogger(__name__)


class Replica:
    """One Triton server.

    Attributes
    ----------
    address
        ``host:port``.
    client
        Its client.
    memory
        What it shares with this process.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = InferenceServerClient(address, channel_args=_CHANNEL)
        self.memory = SharedMemory(self.client, address)
        self._failures = 0
        self._ejected_until = 0.0

    async def aclose(self) -> None:
        """Let go of it at once."""
        try:
            await self.memory.aclose()
        finally:
            await self.client.close()

    @property
    def ejected(self) -> bool:
        """Whether it is left out for now."""
        return time.monotonic() < self._ejected_until

    def eject(self, seconds: float, why: str) -> None:
        """Leave it out for a while, unless there is no other."""
        _log.warning("leaving out Triton at %s for %g s: %s", self.address, seconds, why)
        EJECTIONS.inc()
        self._failures = 0
        self._ejected_until = time.monotonic() + seconds

    def admit(self) -> None:
        """Take it back."""
        self._failures = 0
        self._ejected_until = 0.0

    def failed(self, why: str) -> None:
        """Count a failure; too many in a row eject it."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self.eject(_EJECTED, why)

    def succeeded(self) -> None:
        """Note that it works."""
        self._failures = 0


class Replicas:
    """Takes the servers in turn.

    Each address that a name has is a server of its own, and names are looked up again every 10 s.
    One that fails three times in a row is left out for 10 s. A request that a server was not
    available for is sent once more, to another one where there is one; such retries may be a tenth
    of all requests, so that they don't add to an overload.

    Parameters
    ----------
    addresses
        ``host:port``, several separated by commas.
    """

    def __init__(self, addresses: str) -> None:
        self.addresses = addresses
        self._names = [name.strip() for name in addresses.split(",") if name.strip()]
        self._replicas: dict[str, Replica] = {}
        self._found_at: float | None = None
        self._finding = Shared(self._find, "names of the Tritons")
        self._turn = 0
        self._retries = _RETRY_RESERVE
        self._retiring: dict[Replica, asyncio.Task[None]] = {}
        self.faults = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._finding.aclose()
        for task in self._retiring.values():
            task.cancel()
        for replica in (*self._replicas.values(), *self._retiring):
            await replica.aclose()

    async def all(self, patience: float | None = None) -> list[Replica]:
        """Every server, in the order of their addresses.

        Parameters
        ----------
        patience
            Seconds to wait for their names to be looked up; then it is those known so far. None: as
            long as it takes.
        """
        if self._found_at is None or time.monotonic() - self._found_at > _REFRESH:
            with suppress(TimeoutError):
                await self._finding.get(patience)
        return list(self._replicas.values())

    async def call(self, ask: Callable[[Replica], Awaitable[_T]]) -> _T:
        """Ask the server whose turn it is.

        Raises
        ------
        InferenceServerException
            What it answered, or the second one if the first was not available.
        """
        self._retries = min(_RETRY_RESERVE, self._retries + _RETRY_SHARE)
        first = await self._next(None)
        try:
            return await self._ask(first, ask)
        except InferenceServerException as error:
            again = error.status() == UNAVAILABLE and EXPIRED not in str(error.message())
            if not again or self._retries < 1.0:
                raise
        self._retries -= 1.0
        RETRIES.inc()
        return await self._ask(await self._next(first), ask)

    async def _ask(self, replica: Replica, ask: Callable[[Replica], Awaitable[_T]]) -> _T:
        started = time.perf_counter()
        status = "StatusCode.OK"
        try:
            answer = await ask(replica)
        except InferenceServerException as error:
            status = str(error.status())
            if error.status() not in _OURS and not is_full(error):
                self.faults += 1
                replica.failed(str(error.message()))
            raise
        except asyncio.CancelledError:
            status = CANCELLED
            raise
        finally:
            name = status.rpartition(".")[2].lower()
            TRITON_REQUESTS.labels(name).observe(time.perf_counter() - started)
        replica.succeeded()
        return answer

    async def _next(self, tried: Replica | None) -> Replica:
        every = await self.all()
        others = [replica for replica in every if replica is not tried] or every
        good = [replica for replica in others if not replica.ejected] or others
        self._turn += 1
        return good[self._turn % len(good)]

    async def _find(self) -> None:
        found: list[str] = []
        for name in self._names:
            found += await _look_up(name)
        if not found:
            # Names that cannot be looked up now: what was found before still counts, and without
            # that, the names themselves, which gRPC then reports as unreachable.
            found = list(self._replicas) or self._names
        known = self._replicas
        self._replicas = {
            address: known[address] if address in known else Replica(address) for address in found
        }
        self._found_at = time.monotonic()
        gone = known.keys() - self._replicas.keys()
        for replica in (known[address] for address in gone):
            self._retiring[replica] = asyncio.create_task(self._retire(replica))

    async def _retire(self, replica: Replica) -> None:
        """Let go of a server, once what it is working on has had the time to end."""
        await asyncio.sleep(_LAST_REQUESTS)
        del self._retiring[replica]
        await replica.aclose()


async def _look_up(name: str) -> list[str]:
    try:
        return await look_up_servers_at(name)
    except (OSError, ValueError) as error:
        _log.warning("cannot look up Triton at %s: %s", name, error)
        return []
