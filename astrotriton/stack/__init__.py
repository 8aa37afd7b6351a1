"""The whole of astrotriton on one machine: starts, heals and stops the servers that pip brings.

`Stack` owns them; `up`, `running` and `down` keep one serving in a process of its own. All state is
in one data folder, and nothing outlives the process that owns it, however that process dies.
"""

from astrotriton.stack.errors import GoldenMismatchError, PartError, StackError, StackInUseError
from astrotriton.stack.golden import check_golden
from astrotriton.stack.healing import Healing
from astrotriton.stack.site import Addresses
from astrotriton.stack.stack import Stack
from astrotriton.stack.supervise import (
    cancel_on_signals,
    down,
    end_with_parent,
    own,
    running,
    serve_command,
    up,
)

__all__ = [
    "Addresses",
    "GoldenMismatchError",
    "Healing",
    "PartError",
    "Stack",
    "StackError",
    "StackInUseError",
    "cancel_on_signals",
    "check_golden",
    "down",
    "end_with_parent",
    "own",
    "running",
    "serve_command",
    "up",
]
