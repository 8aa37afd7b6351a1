"""Loops over pixels and sources, compiled.

NumPy walks through an image once for each operation, and holds Python's lock between them; a
compiled loop does all of them at once, and without the lock.
"""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
T = TypeVar("T")


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compile a function of arrays and numbers with Numba, when it is first called.

    What was compiled is kept beside the source or, where that cannot be written, in the user's
    cache; ``NUMBA_CACHE_DIR`` names another place. Division by zero gives what NumPy gives. Sums
    may be formed in any order, so that a processor can form several at once. Constants are compiled
    in, and only a change of the function's own file is noticed: take none from other modules. Ask
    for ``abs(x) < inf``, not ``isfinite``: Numba forms x - x for that, which in some order is 0.
    """
    fast = {"reassoc", "contract", "nsz"}
    compiler = partial(njit, nogil=True, error_model="numpy", fastmath=fast)
    try:
        made: Callable[P, T] = compiler(cache=True)(function)
    except RuntimeError:  # nothing can be written anywhere
        made = compiler()(function)
    return made
