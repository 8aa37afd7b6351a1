"""Loops over pixels and sources, compiled.

NumPy walks through an image once for each operation, and holds Python's lock between them; a
compiled loop does all of them at once, and without the lock.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
T = TypeVar("T")


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compile a function of arrays and numbers with Numba, when it is first called.

    What was compiled is kept beside the source, or where it cannot be written there, in the user's
    cache; ``NUMBA_CACHE_DIR`` names another place. Division by zero gives what NumPy gives. Sums
    may be formed in any order, so that a processor can form several at once.
    """
    fast = {"reassoc", "contract", "nsz"}
    made: Callable[P, T] = njit(cache=True, nogil=True, error_model="numpy", fastmath=fast)(
        function
    )
    return made
