"""What tests of running stacks share."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from astrotriton.stack.site import MARK, region_prefix

ROOT = Path(__file__).parents[2]


def left_of(data: Path) -> list[str]:
    """Everything of a stack that still runs, or lies outside its data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            if f"{MARK}={data}".encode() in environment or str(data) in process.cmdline():
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    regions = Path("/dev/shm").glob(f"{region_prefix(data)}*")
    return found + [str(path) for path in regions]


def wait_for(condition: Callable[[], object], what: str, patience: float = 90.0) -> None:
    """Wait until something is true, and fail with its name if it never is."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
