"""fp32, fp16 and int8 of the reference network side by side: speed and accuracy.

Run it from the project's root: ``python benchmarks/precision.py [FIELDS]``.
"""

import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import msgspec
import numpy as np
import onnxruntime

from astrotriton.commands.models import validation_set
from export import convert, validation
from export.engine import OnnxEngine
from export.precision import reduced
from reference.exposures import golden_tiles
from reference.weights import load_card, load_network

ROUNDS = 15


def main(fields: int) -> None:
    """Print one row a figure, one column a precision."""
    card = msgspec.structs.replace(load_card(), version=1)
    content = convert.convert(load_network(), card, "")
    files = {name: reduced(content, card, name, golden_tiles) for name in ("fp32", "fp16", "int8")}
    rows: dict[str, dict[str, float]] = {"time relative to fp32": _speed(files, card.input.name)}
    rows["bytes"] = {name: len(file) for name, file in files.items()}
    chosen = validation_set(fields)
    for name, file in files.items():
        figures = validation.evaluate(chosen.fields, card, OnnxEngine(file, card))
        for figure, value in figures.items():
            rows.setdefault(figure, {})[name] = value
    print(f"{chosen.description}; one thread; median of {ROUNDS} interleaved rounds\n")
    print(f"| {'figure':<26} | {'fp32':>9} | {'fp16':>9} | {'int8':>9} |")
    print(f"|{'-' * 28}|{'-' * 11}|{'-' * 11}|{'-' * 11}|")
    for figure, values in rows.items():
        print(f"| {figure:<26} | " + " | ".join(f"{values[one]:>9.4g}" for one in files) + " |")


def _speed(files: dict[str, bytes], name: str) -> dict[str, float]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        one: onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for one, file in files.items()
    }
    shape = [1, *(int(size) for size in sessions["fp32"].get_inputs()[0].shape[1:])]
    tile = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    took: dict[str, list[float]] = {one: [] for one in files}
    for _ in range(ROUNDS):
        for one, session in sessions.items():
            start = time.process_time()
            session.run(None, {name: tile})
            took[one].append(time.process_time() - start)
    median = {one: statistics.median(times[2:]) for one, times in took.items()}
    return {one: value / median["fp32"] for one, value in median.items()}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 120)
