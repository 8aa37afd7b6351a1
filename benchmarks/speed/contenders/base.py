"""What every contender can do."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.speed.exposures import Exposure
from benchmarks.speed.processes import Processes

#: Most exposures that are asked for at a time.
MOST_CLIENTS = 64


class Contender(ABC):
    """Scores the same exposures as every other.

    Parameters
    ----------
    exposures
        Taken in turn.

    Attributes
    ----------
    key, title
        Its name in ``bench.json``, and in words.
    portion
        How many times fewer exposures it gets in a turn, if it would take minutes.
    """

    key: str
    title: str
    portion: int = 1

    def __init__(self, exposures: Sequence[Exposure]) -> None:
        self.exposures = exposures
        # Kept from turn to turn, so that each client keeps its connection.
        self._clients = ThreadPoolExecutor(MOST_CLIENTS, thread_name_prefix=self.key)

    def start(self) -> None:  # noqa: B027  (not all have something to start)
        """Start what it needs.

        Raises
        ------
        RuntimeError
            If it cannot be had here; says why.
        """

    @abstractmethod
    def score(self, exposure: Exposure) -> None:
        """Score one exposure, and wait for that; called from several threads at once.

        Raises
        ------
        RuntimeError
            If the answer is none.
        """

    def stop(self) -> None:
        """Stop what was started."""
        self._clients.shutdown()

    def processes(self) -> Processes:
        """Its servers; what it does in this process is counted anyway."""
        return {}

    def drain(self, count: int, clients: int) -> float:
        """Score so many exposures, by so many clients who each want the next one.

        Returns
        -------
        Seconds from the first request to the last answer.
        """
        numbers = iter(range(count))
        lock = threading.Lock()

        def client() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                self.score(self.exposures[number % len(self.exposures)])

        began = time.perf_counter()
        for one in [self._clients.submit(client) for _ in range(min(clients, count))]:
            one.result()
        return time.perf_counter() - began
