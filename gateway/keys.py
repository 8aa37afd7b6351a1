"""API keys: what they look like, and how they are made."""

import hashlib
import re
import secrets
from datetime import datetime
from typing import Literal, NamedTuple

Scope = Literal["infer", "read", "label", "admin"]
SCOPES: tuple[Scope, ...] = ("infer", "read", "label", "admin")

PREFIX = "at_"
_TOKEN = re.compile(rf"{PREFIX}(?P<id>[0-9a-f]{{12}})_(?P<secret>[A-Za-z0-9_-]{{43}})")


class NewKey(NamedTuple):
    """A key; its token is shown once and not kept."""

    token: str
    id: str
    hash: bytes
    name: str
    scopes: list[Scope]
    rate_per_minute: int | None
    concurrency: int | None
    expires_at: datetime | None


def new_key(
    name: str,
    scopes: list[Scope],
    *,
    expires_at: datetime | None = None,
    rate_per_minute: int | None = None,
    concurrency: int | None = None,
) -> NewKey:
    """Make a key."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return NewKey(
        token=f"{PREFIX}{key_id}_{secret}",
        id=key_id,
        hash=digest(secret),
        name=name,
        scopes=scopes,
        rate_per_minute=rate_per_minute,
        concurrency=concurrency,
        expires_at=expires_at,
    )


def parse(token: str) -> tuple[str, bytes] | None:
    """The id in a token, and the hash of its secret; None if it is not an API key."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else (match["id"], digest(match["secret"]))


def digest(secret: str) -> bytes:
    """SHA-256: the secret is 256 random bits, so that a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).digest()
