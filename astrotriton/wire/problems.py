"""Problem details (RFC 9457): what went wrong, and the remedy."""

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457). Programs go by ``type``; the texts may change."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    dependency: str | None = None
