"""Evidently's report of a look for drift, made by a process of its own.

Evidently takes seconds to import and holds the interpreter while it works, so that it would stop
every request if it did so here. ``python -m`` with this module and a FILE is that process.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from astrotriton.detection.arrays import Values
from astrotriton.detection.quality.drift import DESCRIPTORS, limit_of_p

_PATIENCE = 300.0
_NICENESS = 10


class _Task(msgspec.Struct, frozen=True):
    names: list[str]
    baseline: list[list[float | None]]
    live: list[list[float | None]]
    limit: float


async def make_report(baseline: Values, live: Values) -> bytes:
    """The report as one HTML page that needs nothing else.

    Parameters
    ----------
    baseline, live
        float64 (exposures, descriptors), as `detection.quality.drift.describe` makes them.

    Raises
    ------
    RuntimeError
        If the process fails; it says why.
    """
    task = _Task(list(DESCRIPTORS), _known(baseline), _known(live), limit_of_p())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        # Not by asyncio: uvloop forks, and OpenBLAS and gRPC stop their threads for that, so that
        # work which they have under way never ends. This does not fork but spawn.
        process = subprocess.Popen(
            (sys.executable, "-m", "astrotriton.gateway.services.drift.report", str(file)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Evidently counts its users otherwise.
            env=os.environ | {"DO_NOT_TRACK": "1", "HOME": folder},
        )
        try:
            content = msgspec.json.encode(task)
            _, said = await asyncio.to_thread(process.communicate, content, _PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"Evidently took more than {_PATIENCE:g} s") from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"Evidently ended with {process.returncode}: {last}")
        return await asyncio.to_thread(file.read_bytes)


def _known(rows: Values) -> list[list[float | None]]:
    return [[float(value) if np.isfinite(value) else None for value in row] for row in rows]


def _main(file: Path) -> None:
    """Read a task from stdin, and write its report."""
    os.nice(_NICENESS)
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    task = msgspec.json.decode(sys.stdin.buffer.read(), type=_Task)
    baseline, live = (
        pd.DataFrame(rows, columns=task.names, dtype="float64")
        for rows in (task.baseline, task.live)
    )
    known = [
        name for name in task.names if baseline[name].notna().any() and live[name].notna().any()
    ]
    definition = DataDefinition(numerical_columns=known)
    # The same test and the same limit as the gateway's own verdict.
    preset = DataDriftPreset(
        columns=known, num_method="ks", num_threshold=task.limit, drift_share=1.0 / len(known)
    )
    snapshot = Report([preset]).run(
        Dataset.from_pandas(live[known], data_definition=definition),
        Dataset.from_pandas(baseline[known], data_definition=definition),
    )
    snapshot.save_html(str(file))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
