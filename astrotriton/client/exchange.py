"""One call with its retries, apart from how bytes are sent and time is waited.

`exchange` says what to do next; the synchronous and the asynchronous client do it.
"""

import random
import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from astrotriton.client.errors import ProblemError, UnreachableError

# 408: the network stood still while the exposure was sent.
_RETRIED = frozenset({408, 429, 503})


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How a call is repeated: after connection errors and the answers 408, 429 and 503.

    Attributes
    ----------
    attempts
        Most times that a request is sent.
    first_pause, longest_pause
        Seconds between two attempts, doubled from one to the next, where the gateway does not name
        the time itself (``Retry-After``).
    """

    attempts: int = 10
    first_pause: float = 0.25
    longest_pause: float = 10.0


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request, and give up after so many seconds."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


#: What a client answers to `Send`; to `Pause`, None.
Outcome = httpx.Response | httpx.TransportError | None


def exchange(
    target: str, retries: Retries, deadline: float
) -> Generator[Send | Pause, Outcome, httpx.Response]:
    """Steps of a call, until there is an answer that is not to be retried.

    Parameters
    ----------
    target
        What is called, for messages.
    retries
        The bounds.
    deadline
        Seconds for all of it.

    Raises
    ------
    ProblemError
        If the last answer is an error.
    UnreachableError
        If there is no answer.
    """
    end = time.monotonic() + deadline
    attempt = 0
    while True:
        attempt += 1
        outcome = yield Send(max(end - time.monotonic(), 0.001))
        assert outcome is not None
        if isinstance(outcome, httpx.Response):
            if not outcome.is_error:
                return outcome
            final: Exception = ProblemError.of(outcome)
            again = outcome.status_code in _RETRIED
        else:
            reason = str(outcome) or type(outcome).__name__
            final = UnreachableError(f"{target}: {reason}, after {attempt} attempts")
            again = True
        pause = _pause(outcome, attempt, retries)
        if not again or attempt >= retries.attempts or time.monotonic() + pause >= end:
            raise final
        yield Pause(pause)


def _pause(outcome: Outcome, attempt: int, retries: Retries) -> float:
    if isinstance(outcome, httpx.Response):
        asked = _retry_after(outcome.headers.get("Retry-After", ""))
        if asked is not None:
            return asked
    longest = min(retries.first_pause * 2 ** (attempt - 1), retries.longest_pause)
    # Callers that failed together must not come back together.
    return random.uniform(longest / 2, longest)


def _retry_after(text: str) -> float | None:
    """Seconds, of a number of them or an HTTP date."""
    if text.strip().isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())
