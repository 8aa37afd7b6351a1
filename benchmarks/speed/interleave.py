"""Contenders take turns, round by round."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import psutil

from benchmarks.speed.contenders.base import Contender
from benchmarks.speed.figures import Turn
from benchmarks.speed.processes import (
    Processes,
    cpu_seconds,
    forget_peaks,
    peak_memory,
)

Progress = Callable[[str], None]

# What a server does after its last answer is counted too; and the next one starts on idle cores.
_PAUSE = 0.5
# All servers together are idle below so many cores; looked at for so many seconds, at most so long.
_IDLE, _LOOK, _LONGEST = 0.2, 2.0, 120.0


class Field:
    """The contenders that have started, and those that could not.

    Attributes
    ----------
    running
        In the order of the table.
    not_run
        Why the others do not: by key the title and the reason.
    """

    def __init__(self, on_progress: Progress) -> None:
        self.running: list[Contender] = []
        self.not_run: dict[str, tuple[str, str]] = {}
        self._on_progress = on_progress

    def add(self, contender: Contender, warm_up: int) -> None:
        """Start a contender and let it score a few exposures; or note why it cannot."""
        self._on_progress(f"starting {contender.title}")
        try:
            contender.start()
            contender.drain(warm_up, warm_up)
        except Exception as error:  # whatever it is, the others are measured
            self.drop(contender, error)
        else:
            self.running.append(contender)

    def drop(self, contender: Contender, error: Exception) -> None:
        """Stop a contender, and note why."""
        reason = str(error) or repr(error)
        self._on_progress(f"{contender.title} is not run: {reason}")
        self.not_run[contender.key] = (contender.title, reason)
        self.running = [one for one in self.running if one is not contender]
        contender.stop()

    def stop(self) -> None:
        """Stop all of them."""
        for contender in self.running:
            contender.stop()
        self.running = []


def settle(field: Field, least: float) -> None:
    """Wait at least so many seconds, and until no server does anything, though not for ever."""
    processes = {
        contender.key: [one for ones in contender.processes().values() for one in ones]
        for contender in field.running
    }
    began = time.monotonic()
    busy = True
    while time.monotonic() - began < least or (busy and time.monotonic() - began < _LONGEST):
        before = sum(cpu_seconds(processes).values())
        time.sleep(_LOOK)
        busy = sum(cpu_seconds(processes).values()) - before > _IDLE * _LOOK


def interleave(
    field: Field, rounds: int, count: int, clients: int, on_progress: Progress
) -> Iterator[dict[str, list[Turn]]]:
    """Let every contender score the same exposures in every round; who begins changes.

    Parameters
    ----------
    count
        Exposures a turn.
    clients
        Exposures asked for at a time.

    Yields
    ------
    After each round the turns so far, by key. A contender that fails leaves, with all of its turns.
    """
    turns: dict[str, list[Turn]] = {contender.key: [] for contender in field.running}
    for number in range(rounds):
        for contender in rotated(field.running, number):
            others = [one for one in field.running if one is not contender]
            try:
                turn = take(contender, others, count // contender.portion, clients)
            except Exception as error:  # whatever it is, the others go on
                field.drop(contender, error)
                del turns[contender.key]
                continue
            turns[contender.key].append(turn)
            on_progress(f"round {number + 1}: {contender.key} {turn.rate:.2f} exposures/s")
        yield turns


def rotated(contenders: Sequence[Contender], by: int) -> list[Contender]:
    """The contenders, beginning with another one."""
    by %= max(len(contenders), 1)
    return [*contenders[by:], *contenders[:by]]


def take(contender: Contender, others: Iterable[Contender], count: int, clients: int) -> Turn:
    """One turn, and what it cost."""
    processes = contender.processes()
    known = {process.pid for ones in processes.values() for process in ones}
    idle: Processes = {
        "others": list(
            {
                process.pid: process
                for other in others
                for ones in other.processes().values()
                for process in ones
                if process.pid not in known
            }.values()
        )
    }
    # This process may be shown another's memory; what else it holds is the same for all.
    own = {"client": [psutil.Process()]}
    measured = {**processes, **own}
    forget_peaks(measured)
    before, idle_before, machine_before = cpu_seconds(measured), cpu_seconds(idle), _busy()
    began = time.perf_counter()
    seconds = contender.drain(count, clients)
    time.sleep(_PAUSE)
    passed = time.perf_counter() - began
    spent = {name: after - before[name] for name, after in cpu_seconds(measured).items()}
    others_spent = cpu_seconds(idle)["others"] - idle_before["others"]
    foreign = _busy() - machine_before - sum(spent.values()) - others_spent
    return Turn(
        exposures=count,
        seconds=seconds,
        cpu=spent,
        memory=peak_memory(processes or own),
        others=others_spent,
        foreign=max(foreign, 0.0) / (passed * (psutil.cpu_count() or 1)),
    )


def _busy() -> float:
    """CPU seconds that the machine has worked so far."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.irq + times.softirq)
