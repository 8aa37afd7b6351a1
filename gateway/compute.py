"""Where exposures are worked on: a few threads of their own, beside those that wait for files."""

import asyncio
import contextvars
import ctypes
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# More threads than cores, or than a few, get no more done: they wait for Python's lock, and handing
# that on takes a quarter of the time of all.
_MOST_THREADS = 4
_THREADS = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS), thread_name_prefix="compute")

# Of malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 32 * 1024**2


async def compute(function: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> T:
    """What `asyncio.to_thread` does, for what keeps a core busy."""
    context = contextvars.copy_context()
    call = partial(context.run, function, *args, **named)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, call)


def keep_memory() -> None:
    """Let freed arrays of up to 32 MiB be used again, instead of given back and asked for anew.

    Every exposure needs the same ones, and fresh pages cost more than most of what is done with
    them. Nothing is changed where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
    library.mallopt(_TRIM_THRESHOLD, 4 * _KEPT_BYTES)
