"""What every step needs: its arguments, the tiles, a clock, and a way to tell."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[3]
#: The backend's own modules, which the bare engines are measured with too.
BACKEND = ROOT / "triton-config" / "backends" / "onnxruntime"


@dataclass(frozen=True, slots=True)
class Job:
    """What a step is to measure.

    Attributes
    ----------
    device
        ``cpu`` or ``gpu``.
    network
        Its key.
    engine, precision
        ``pytorch`` or ``onnxruntime``; ``fp32``, ``tf32``, ``fp16``, ``bf16``.
    work
        Where the pack was unpacked.
    seconds
        How long one figure is measured for.
    largest
        Batch, and requests at a time.
    compiled
        Whether PyTorch's compiler is to be used.
    instances
        Of the model, on a GPU.
    """

    device: str
    network: str
    engine: str
    precision: str
    work: Path
    seconds: float
    largest: int
    compiled: bool
    instances: int

    @property
    def folder(self) -> Path:
        """The network's files."""
        return self.work / "networks" / self.network

    @property
    def model(self) -> Path:
        """The ONNX file that the device and the engine take."""
        if self.device == "cpu":
            return self.folder / "cpu.onnx"
        half = self.precision == "fp16" and self.engine == "onnxruntime"
        return self.folder / ("fp16.onnx" if half else "fp32.onnx")

    @property
    def batches(self) -> list[int]:
        """1, 2, 4 ... up to the largest."""
        return [1 << power for power in range(self.largest.bit_length())]

    def tiles(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The golden tiles and what Keras answered, float32 (N, 1, H, W)."""
        with np.load(self.folder / "tiles.npz") as arrays:
            return arrays["image"], arrays["probability"]

    def tell(self, **figures: Any) -> None:
        """Print a line of figures."""
        line = {"network": self.network, "engine": self.engine, "precision": self.precision}
        print(json.dumps(line | figures), flush=True)


def job() -> Job:
    """From the command line; and the backend's modules can be imported from now on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "gpu"), required=True)
    parser.add_argument("--network", default="reference")
    parser.add_argument("--engine", default="pytorch")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--largest", type=int, default=64)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--instances", type=int, default=1)
    sys.path.insert(0, str(BACKEND))
    return Job(**vars(parser.parse_args()))


def repeated(tiles: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """So many tiles, the given ones again and again."""
    return np.ascontiguousarray(tiles[np.arange(count) % len(tiles)])


def difference(answer: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest absolute difference of a batch from Keras's repeated answers; inf for NaN."""
    largest = float(np.abs(answer - repeated(expected, len(answer))).max())
    return largest if np.isfinite(largest) else float("inf")


def rate(
    call: Callable[[], object], tiles: int, seconds: float, settle: Callable[[], object]
) -> float:
    """Tiles a second of a call that does so many, counted and drained.

    Parameters
    ----------
    call
        May return before its work is done.
    seconds
        About how long is measured.
    settle
        Returns when all work is done.
    """
    call()
    settle()
    started = time.perf_counter()
    call()
    settle()
    once = time.perf_counter() - started
    if once >= seconds:
        return tiles / once
    count = max(2, int(seconds / max(once, 1e-6)))
    started = time.perf_counter()
    for _ in range(count):
        call()
    settle()
    return count * tiles / (time.perf_counter() - started)
