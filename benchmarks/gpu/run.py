"""The run: each step in a process of its own, bounded, its figures written as they come."""

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu.machine import UNPACKED_FILE
from benchmarks.gpu.table import agrees, table

_ROOT = Path(__file__).parents[2]
#: Seconds of a whole run.
TOTALS = {"gpu": 460.0, "cpu": 420.0}
# Below that many seconds nothing is begun any more.
_LEAST = 12.0
# Processes that a step started are given so long to end with it.
_GRACE = 12.0
_ERROR = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A process that measures.

    Attributes
    ----------
    module
        Of `benchmarks.gpu.steps`.
    options
        For its command line, by name.
    timeout
        Seconds until it is ended.
    needs
        Bundles without which it is left out.
    """

    module: str
    options: dict[str, str | int | float | bool]
    timeout: float
    needs: Sequence[str] = ()

    @property
    def title(self) -> str:
        """In a few words."""
        said = [str(value) for name, value in self.options.items() if name in _TOLD]
        more = ["compiled"] if self.options.get("compiled") else []
        return " ".join([self.module, *said, *more])


_TOLD = ("network", "engine", "precision")


def steps(device: str) -> Iterator[Step]:
    """All steps, those that matter most first: time may run out."""

    def one(module: str, timeout: float, *needs: str, **options: Any) -> Step:
        return Step(module=module, options=options, timeout=timeout, needs=needs)

    def engine(network: str, engine: str, precision: str) -> dict[str, str]:
        return {"network": network, "engine": engine, "precision": precision}

    yield one("facts", 60)
    if device == "cpu":
        small = {"seconds": 0.5, "largest": 2}
        reference = engine("reference", "pytorch", "fp32")
        wide = engine("wide", "pytorch", "fp32")
        yield one("bare", 60, **reference, **small)
        yield one("served", 90, **reference, **small)
        yield one("whole", 240, "gateway", **reference, seconds=1)
        yield one("bare", 60, **wide, **small)
        yield one("served", 90, **wide, **small)
        if importlib.util.find_spec("onnxruntime") is not None:
            onnxruntime = engine("reference", "onnxruntime", "fp32")
            yield one("bare", 60, **onnxruntime, **small)
            yield one("served", 90, **onnxruntime, **small)
        return
    torch16 = engine("reference", "pytorch", "fp16")
    torch32 = engine("reference", "pytorch", "fp32")
    onnx16 = engine("reference", "onnxruntime", "fp16")
    yield one("bare", 60, **torch16, seconds=0.4)
    yield one("served", 75, **torch16, seconds=1, instances=2)
    yield one("bare", 60, **torch32, seconds=0.4)
    yield one("bare", 75, "onnxruntime", **onnx16, seconds=0.4)
    yield one("whole", 110, "gateway", **torch32, seconds=1)
    yield one("served", 60, **torch32, seconds=1, instances=2)
    yield one("served", 75, "onnxruntime", **onnx16, seconds=1, instances=2)
    yield one("bare", 45, **engine("wide", "pytorch", "fp16"), seconds=0.4)
    yield one("served", 60, **engine("wide", "pytorch", "fp16"), seconds=1, instances=2)
    yield one("bare", 60, "onnxruntime", **engine("reference", "onnxruntime", "fp32"), seconds=0.4)
    yield one("bare", 60, "onnxruntime", **engine("reference", "onnxruntime", "tf32"), seconds=0.4)
    yield one("served", 60, **torch16, seconds=1, instances=1)
    for precision in ("tf32", "bf16"):
        yield one("bare", 45, **engine("reference", "pytorch", precision), seconds=0.4)
    yield one("bare", 60, "onnxruntime", **engine("wide", "onnxruntime", "fp16"), seconds=0.4)
    for precision in ("fp32", "tf32", "bf16"):
        yield one("bare", 45, **engine("wide", "pytorch", precision), seconds=0.4)
    yield one("bare", 90, **torch16, seconds=0.4, largest=32, compiled=True)


def main() -> None:
    """Run every step that there is time for, and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu/run.sh", description=__doc__)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--total", type=float, help="seconds; by default 460, on a CPU 420")
    parser.add_argument("--only", action="append", help="a word of the steps to run; repeatable")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(os.environ.get("OUT") or _ROOT / "out" / "gpu"),
        help="for results.jsonl, table.md and log.txt; by default $OUT, else out/gpu",
    )
    parser.add_argument("--work", type=Path, default=_ROOT / "var" / "gpu" / "machine")
    parser.add_argument("--spent", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    total = (options.total or TOTALS[options.device]) - options.spent
    with (
        (options.out / "results.jsonl").open("w") as results,
        (options.out / "log.txt").open("w") as log,
    ):
        run = _Run(options.device, options.work, time.monotonic() + total, results, log)
        run.tell({"step": "unpack", "seconds": options.spent})
        for step in steps(options.device):
            if not options.only or any(word in step.title for word in options.only):
                run.do(step)
    text = table(run.lines)
    (options.out / "table.md").write_text(text)
    print(f"\n{text}")
    sys.exit(0 if agrees(run.lines) else 1)


class _Run:
    """What a run has by now."""

    def __init__(
        self, device: str, work: Path, deadline: float, results: TextIO, log: TextIO
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        self._device, self._work, self._deadline = device, work, deadline
        self._results, self._log = results, log
        self._bundles = json.loads((work / UNPACKED_FILE).read_text())

    def tell(self, line: dict[str, Any]) -> None:
        """Write a line of results, whatever comes after it."""
        self.lines.append(line)
        self._results.write(json.dumps(line) + "\n")
        self._results.flush()
        said = {name: f"{one:.4g}" if isinstance(one, float) else one for name, one in line.items()}
        print("  ".join(f"{name}={one}" for name, one in said.items()), flush=True)

    def do(self, step: Step) -> None:
        """Run a step; whatever happens costs no more than its own line."""
        about = {"step": step.module, **{n: v for n, v in step.options.items() if n in _TOLD}}
        for name in step.needs:
            problem = self._bundles.get(name, {"problem": f"the bundle {name} was not packed"})
            if problem["problem"]:
                self.tell({**about, "left_out": problem["problem"]})
                return
        left = self._deadline - time.monotonic()
        if left < _LEAST:
            self.tell({**about, "left_out": "no time was left"})
            return
        started = time.monotonic()
        failed = self._attend(step, min(step.timeout, left))
        took = round(time.monotonic() - started, 1)
        self.tell({**about, "seconds": took, **({"failed": failed} if failed else {})})

    def _attend(self, step: Step, timeout: float) -> str:
        """Read a step's lines as they come; what went wrong, if something did."""
        command = [sys.executable, "-m", f"benchmarks.gpu.steps.{step.module}"]
        command += [f"--device={self._device}", f"--work={self._work}"]
        for name, value in step.options.items():
            command.append(f"--{name}" if value is True else f"--{name}={value}")
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        errors: list[str] = []
        readers = [
            threading.Thread(target=self._read, args=(step, process.stdout), daemon=True),
            threading.Thread(target=self._keep, args=(process.stderr, errors), daemon=True),
        ]
        for reader in readers:
            reader.start()
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
            # Asked first: what it started ends with it then.
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for reader in readers:
            reader.join(5.0)
        if status is None:
            return f"ended after {timeout:.0f} s"
        if status == 0:
            return ""
        said = [line.strip() for line in errors if line.strip()]
        # An error may quote a log after its own line.
        named = [line for line in said if _ERROR.match(line)]
        return (named or said or [f"ended with status {status}"])[-1]

    def _read(self, step: Step, stream: TextIO) -> None:
        for text in stream:
            try:
                line = json.loads(text)
            except ValueError:
                self._log.write(text)
                continue
            self.tell({"step": step.module, **line})

    def _keep(self, stream: TextIO, errors: list[str]) -> None:
        for text in stream:
            errors.append(text)
            self._log.write(text)
            self._log.flush()


if __name__ == "__main__":
    main()
