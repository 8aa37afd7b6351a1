"""Problems that are answered before the application sees a request."""

import msgspec

from astrotriton.gateway.errors import GatewayError, problem_of


def problem_answer(error: GatewayError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body that say what is wrong (RFC 9457)."""
    body = msgspec.json.encode(problem_of(error))
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
    ]
    return headers, body
