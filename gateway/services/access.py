"""Who asks, what they may do, and how much of it."""

import hmac
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from astrotriton.gateway import keys
from astrotriton.gateway.backends.oidc import TokenVerifier
from astrotriton.gateway.errors import ForbiddenError, LimitError, UnauthenticatedError
from astrotriton.gateway.keys import SCOPES, Scope
from astrotriton.gateway.storage.api_keys import find_key
from astrotriton.gateway.storage.database import Database

_REMEMBERED = 10_000


class Identity(NamedTuple):
    """Who asks.

    Attributes
    ----------
    subject
        ``key:ID``, ``oidc:SUB`` or, where nobody is asked, ``anonymous``.
    scopes
        What they may do.
    rate_per_minute, concurrency
        Their limits; None: none.
    """

    subject: str
    scopes: frozenset[str]
    rate_per_minute: int | None = None
    concurrency: int | None = None


ANONYMOUS = Identity("anonymous", frozenset(SCOPES))


class AccessService:
    """Tells callers apart by API key or bearer token, and keeps each to its limits.

    Limits are counted in this process: several gateways allow as many times as much.

    Parameters
    ----------
    database
        Where API keys are.
    required
        Whether a caller must say who it is.
    verifier
        Checks bearer tokens that are not API keys; None: there are none.
    rate_per_minute, concurrency
        A caller's requests a minute, and its exposures at a time, unless its key says otherwise.
    """

    def __init__(
        self,
        database: Database,
        *,
        required: bool,
        verifier: TokenVerifier | None,
        rate_per_minute: int,
        concurrency: int,
    ) -> None:
        self._database = database
        self._required = required
        self._verifier = verifier
        self._rate = rate_per_minute
        self._concurrency = concurrency
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._working: dict[str, int] = {}

    async def admit(self, authorization: str | None, *scopes: Scope) -> Identity:
        """Who asks, if they may do what they ask for, now.

        Parameters
        ----------
        authorization
            ``Bearer`` and an API key or token.
        scopes
            What they must be allowed to do; of several, one is enough.

        Raises
        ------
        UnauthenticatedError
            If it is missing or not valid.
        ForbiddenError
            If it has none of the scopes.
        LimitError
            If they have asked too often.
        """
        if not self._required:
            return ANONYMOUS
        identity = await self._identify(authorization)
        if identity.scopes.isdisjoint(scopes):
            raise ForbiddenError(f"this needs the scope {' or '.join(map(repr, scopes))}")
        self._count(identity)
        return identity

    @asynccontextmanager
    async def working(self, identity: Identity) -> AsyncIterator[None]:
        """Count one of a caller's exposures while the block runs.

        Raises
        ------
        LimitError
            If it has as many as it may.
        """
        most, now = identity.concurrency, self._working.get(identity.subject, 0)
        if most is not None and now >= most:
            raise LimitError(f"{now} exposures of yours are being scored, at most {most} may be", 1)
        self._working[identity.subject] = now + 1
        try:
            yield
        finally:
            left = self._working[identity.subject] - 1
            if left:
                self._working[identity.subject] = left
            else:
                del self._working[identity.subject]

    async def _identify(self, authorization: str | None) -> Identity:
        kind, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise UnauthenticatedError("send `Authorization: Bearer` with an API key or token")
        if token.startswith(keys.PREFIX):
            return await self._of_key(token)
        if self._verifier is None:
            raise UnauthenticatedError("the bearer token is not an API key")
        claims = await self._verifier.verify(token)
        granted = claims.get("scope", "")
        names = granted if isinstance(granted, list) else str(granted).split()
        return Identity(
            f"oidc:{claims['sub']}",
            frozenset(SCOPES) & {str(name) for name in names},
            self._rate,
            self._concurrency,
        )

    async def _of_key(self, token: str) -> Identity:
        # One answer for every reason: it must not tell which keys there are.
        refused = UnauthenticatedError("the API key is not valid, or not any more")
        parsed = keys.parse(token)
        if parsed is None:
            raise refused
        key_id, digest = parsed
        async with self._database.transaction() as connection:
            row = await find_key(connection, key_id)
        if row is None or not hmac.compare_digest(row["hash"], digest):
            raise refused
        if row["revoked"] or row["expired"]:
            raise refused
        return Identity(
            f"key:{key_id}",
            frozenset(row["scopes"]),
            row["rate_per_minute"] or self._rate,
            row["concurrency"] or self._concurrency,
        )

    def _count(self, identity: Identity) -> None:
        """Take one from the caller's bucket, which holds a minute's requests and fills steadily."""
        most = identity.rate_per_minute
        if most is None:
            return
        now = time.monotonic()
        level, since = self._buckets.pop(identity.subject, (float(most), now))
        level = min(float(most), level + (now - since) * most / 60.0)
        allowed = level >= 1.0
        self._buckets[identity.subject] = (level - 1.0 if allowed else level, now)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = math.ceil((1.0 - level) * 60.0 / most)
            raise LimitError(f"more than {most} requests a minute", wait)
