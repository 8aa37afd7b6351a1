"""``python -m stack DATA REPOSITORY``: own a stack that serves, until SIGTERM."""

import asyncio
import sys
from pathlib import Path

from stack.errors import StackError
from stack.supervise import serve


def main() -> int:
    """Serve; 1 if the stack failed, with the reason on stderr."""
    data, repository = (Path(argument) for argument in sys.argv[1:3])
    try:
        asyncio.run(
            serve(data, repository, on_progress=lambda part, what: print(part, what, flush=True))
        )
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
