"""What a call can end with instead of an answer."""

from typing import Any

import httpx
import msgspec

_PREFIX = "urn:astrotriton:problem:"


class ClientError(Exception):
    """A call without the answer that was asked for."""


class UnreachableError(ClientError):
    """The gateway gave no answer in time, however often it was asked."""


class UnreadableError(ClientError, ValueError):
    """What was given to be sent, or came back, cannot be made a file or a picture."""


class UnfinishedError(ClientError):
    """A run in the background has not ended in time; it goes on."""


class ProblemError(ClientError):
    """The gateway answered with a problem (RFC 9457), or a run failed with one.

    Attributes
    ----------
    status
        The HTTP status.
    code
        Stable name of the problem, for programs: the last part of its ``type``.
    title, detail
        What is wrong, for people.
    field
        The part of the request that is wrong, if the gateway names one.
    members
        All members of the problem, as they came.
    """

    def __init__(self, status: int, members: dict[str, Any]) -> None:
        self.status = status
        self.members = members
        self.code = str(members.get("type", "about:blank")).removeprefix(_PREFIX)
        self.title = str(members.get("title", ""))
        self.detail = str(members.get("detail", ""))
        self.field: str | None = members.get("field")
        where = f"{self.field}: " if self.field else ""
        super().__init__(f"{where}{self.detail or self.title} ({status} {self.code})")

    @classmethod
    def of(cls, response: httpx.Response) -> "ProblemError":
        """The problem in a response; one made of its status if it holds none."""
        try:
            members = msgspec.json.decode(response.content, type=dict[str, Any])
        except msgspec.DecodeError:
            members = {"detail": response.text[:500] or response.reason_phrase}
        return cls(response.status_code, members)
