"""How requests to Triton end: gRPC's statuses as its client names them, and what they mean."""

from tritonclient.utils import InferenceServerException

UNAVAILABLE = "StatusCode.UNAVAILABLE"
CANCELLED = "StatusCode.CANCELLED"
DEADLINE_EXCEEDED = "StatusCode.DEADLINE_EXCEEDED"

#: Of UNAVAILABLE answers, this is one that another replica would not give in time either.
EXPIRED = "timeout expired"
_FULL = ("Exceeds maximum queue size", EXPIRED)


def is_full(error: InferenceServerException) -> bool:
    """Whether Triton says that its queue is full: it has much to do, and nothing is wrong."""
    return any(sign in str(error.message()) for sign in _FULL)
