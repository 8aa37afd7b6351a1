"""The whole of astrotriton on one machine: starts, watches and stops the servers that pip brings.

`Stack` owns them; `up`, `running` and `down` keep one serving in a process of its own. All state is
in one data folder, and nothing outlives the process that owns it, however that process dies.
"""

from stack.errors import GoldenMismatchError, PartError, StackError, StackInUseError
from stack.golden import check_golden
from stack.site import Addresses
from stack.stack import Stack
from stack.supervise import down, running, serve_command, up

__all__ = [
    "Addresses",
    "GoldenMismatchError",
    "PartError",
    "Stack",
    "StackError",
    "StackInUseError",
    "check_golden",
    "down",
    "running",
    "serve_command",
    "up",
]
