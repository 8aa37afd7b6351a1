"""HTTP as a client of a few lines speaks it: what a library does costs the same cores."""

import http.client
import math
import threading
import time

_DEADLINE = 120.0
_IDLE = 2.0
_BOUNDARY = "exposure-boundary-7f3b1c"
#: Content type of what `multipart` makes.
MULTIPART = f"multipart/form-data; boundary={_BOUNDARY}"


def multipart(file: bytes, **fields: str) -> bytes:
    """A form with a file named ``exposure`` and further fields."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="exposure"; filename="e.fits"\r\n'
        "Content-Type: application/fits\r\n\r\n"
    )
    return b"".join(["".join(parts).encode(), head.encode(), file, f"\r\n--{_BOUNDARY}--".encode()])


def post(own: threading.local, address: str, path: str, body: bytes, kind: str) -> bytes:
    """POST over the connection that this thread keeps.

    Raises
    ------
    RuntimeError
        If the answer is not 200.
    """
    # Servers close connections that nothing is asked over for a while, some after 5 s.
    if time.monotonic() - getattr(own, "used", -math.inf) >= _IDLE:
        own.connection = http.client.HTTPConnection(address, timeout=_DEADLINE)
    try:
        own.connection.request("POST", path, body, {"Content-Type": kind})
        answer = own.connection.getresponse()
        content: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:
        own.used = -math.inf
        raise RuntimeError(f"no answer to POST {path}: {error!r}") from error
    own.used = time.monotonic()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {content[:300]!r}")
    return content


def wait_for(address: str, path: str, seconds: float = 2.0) -> None:
    """Look once whether a server answers GET.

    Raises
    ------
    OSError
        If it does not.
    """
    connection = http.client.HTTPConnection(address, timeout=seconds)
    try:
        connection.request("GET", path)
        if (status := connection.getresponse().status) != 200:
            raise ConnectionError(f"{status} to GET {path}")
    except http.client.HTTPException as error:
        raise ConnectionError(repr(error)) from error
    finally:
        connection.close()
