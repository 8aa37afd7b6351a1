"""Whether the service can do its work."""

from typing import Literal

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that the service needs."""

    ready: bool
    detail: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the service can do its work, and if not, which part keeps it."""

    status: Literal["live", "ready", "not ready"]
    parts: dict[str, Part] = {}
