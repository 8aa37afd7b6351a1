"""The stream on NATS JetStream that events are published to, and what is on it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.api import Header, RetentionPolicy, StreamInfo
from nats.js.errors import NotFoundError

from astrotriton.gateway.errors import DependencyError

STREAM = "ASTROTRITON"
SUBJECTS = ["detection.>", "model.>"]

#: Seconds that a new stream keeps events, unless the settings say otherwise.
MAX_AGE = 7 * 86400.0

_UNBOUNDED = -1


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long the stream keeps events; None leaves a stream that there is as it is.

    Attributes
    ----------
    max_age
        Seconds after which an event goes.
    max_bytes
        Bytes of all events, beyond which the oldest go.
    """

    max_age: float | None = None
    max_bytes: int | None = None


async def open_stream(stream: JetStreamContext, retention: Retention) -> StreamInfo:
    """The stream, made if it is missing; an operator's own gets what it lacks, and keeps the rest.

    Raises
    ------
    nats.errors.Error, OSError, TimeoutError
        If NATS does not answer, or refuses.
    """
    try:
        info = await stream.stream_info(STREAM)
    except NotFoundError:
        return await stream.add_stream(
            name=STREAM,
            subjects=SUBJECTS,
            max_age=retention.max_age or MAX_AGE,
            max_bytes=retention.max_bytes or _UNBOUNDED,
        )
    old = info.config
    wanted = old.evolve(
        subjects=[*(old.subjects or ()), *(s for s in SUBJECTS if s not in (old.subjects or ()))],
        max_age=old.max_age if retention.max_age is None else retention.max_age,
        max_bytes=old.max_bytes if retention.max_bytes is None else retention.max_bytes,
    )
    return info if wanted == old else await stream.update_stream(wanted)


def made_at(info: StreamInfo) -> datetime:
    """When a stream was made, which tells it from another of its name.

    Raises
    ------
    DependencyError
        If the server does not say.
    """
    if info.created is None:
        raise DependencyError("nats", f"the server does not say when {STREAM} was made")
    return info.created


async def is_there(
    stream: JetStreamContext, info: StreamInfo, sequence: int, event_id: UUID
) -> bool:
    """Whether an event is where the stream once acknowledged it, or has gone as it should.

    Raises
    ------
    DependencyError
        If the stream cannot be read.
    nats.errors.Error, OSError
        If NATS is away.
    """
    if sequence < info.state.first_seq:
        return True  # The stream has kept it for as long as it keeps any.
    try:
        message = await stream.get_msg(STREAM, sequence)
    except NotFoundError:
        # Such streams forget what a consumer has taken, or what a newer one of a subject replaces.
        return (
            info.config.retention != RetentionPolicy.LIMITS or info.config.max_msgs_per_subject > 0
        )
    except TimeoutError as error:
        remedy = f"allow the gateway's user the subject $JS.API.STREAM.MSG.GET.{STREAM}"
        raise DependencyError("nats", f"{STREAM} cannot be read: {remedy}") from error
    return (message.headers or {}).get(Header.MSG_ID) == str(event_id)
