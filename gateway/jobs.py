"""Work in the background that belongs to this gateway: started, told of, drained, given up."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from astrotriton.gateway.errors import RunGivenUpError

_log = logging.getLogger(__name__)


class Jobs:
    """The jobs of one kind. What becomes of one is stored, whatever happens to it.

    A gateway says again and again which jobs it is at, with `progress`; one that nobody has spoken
    for in a while is given up by whichever gateway notices.

    Parameters
    ----------
    kind
        What a job is called, such as ``run``.
    store_failure
        Stores why a job failed. If even that fails, the job falls silent, and is given up for it.

    Attributes
    ----------
    progress
        Of each job under way: how many of its parts are done, and of how many.
    """

    def __init__(
        self, kind: str, store_failure: Callable[[UUID, BaseException], Awaitable[None]]
    ) -> None:
        self._kind = kind
        self._store_failure = store_failure
        self._tasks: dict[asyncio.Task[None], UUID] = {}
        self.progress: dict[UUID, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, job_id: UUID, work: Callable[[], Awaitable[None]]) -> None:
        """Begin a job."""
        self.progress[job_id] = (0, 0)
        task = asyncio.create_task(self._run(job_id, work), name=f"{self._kind} {job_id}")
        self._tasks[task] = job_id
        task.add_done_callback(self._tasks.pop)

    def tell(self, job_id: UUID, done: int, of: int) -> None:
        """Note how far a job is."""
        self.progress[job_id] = (done, of)

    def end(self, job_id: UUID) -> None:
        """End a job that has been given up elsewhere, if it is under way here."""
        for task, own in self._tasks.items():
            if own == job_id:
                task.cancel()

    async def drain(self, seconds: float) -> None:
        """Wait until no job is under way any more, at most so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def give_up(self) -> None:
        """End what is under way; that it was given up is stored."""
        # One that is ended before it has begun could not store that.
        await asyncio.sleep(0)
        tasks = list(self._tasks)
        if tasks:
            _log.info("%d jobs in the background are given up: %s", len(tasks), self._kind)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job_id: UUID, work: Callable[[], Awaitable[None]]) -> None:
        error: BaseException | None = None
        try:
            await work()
        except asyncio.CancelledError:
            error = RunGivenUpError(f"the gateway that worked on the {self._kind} was stopped")
        except Exception as fault:  # whatever it is, the job's state tells it
            error = fault
        finally:
            self.progress.pop(job_id, None)
        if error is None:
            return
        try:
            await self._store_failure(job_id, error)
        except Exception as fault:
            _log.warning("%s %s failed, which could not be stored: %s", self._kind, job_id, fault)
