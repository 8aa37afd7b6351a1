"""int8 against fp32 on the reference network: speed, and every figure of `make evaluate`.

Run it from the project's root: ``python -m benchmarks.precision [FIELDS]``.
"""

import os
import statistics
import sys
import time
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import msgspec
import numpy as np
import onnxruntime

from astrotriton.export import convert
from astrotriton.export.engine import OnnxEngine
from astrotriton.export.precision import reduced
from astrotriton.export.subpixel import fold_upsampling
from astrotriton.training.evaluate import DEFAULT_SEED, evaluate
from astrotriton.training.exposures import golden_tiles
from astrotriton.training.weights import load_card, load_network

ROUNDS = 15


def main(fields: int) -> None:
    """Print one row a figure, one column a precision."""
    card = msgspec.structs.replace(load_card(), version=1)
    content = fold_upsampling(convert.convert(load_network(), card, ""))
    files = {"fp32": content, "int8": reduced(content, card, "int8", golden_tiles)}
    rows: dict[str, dict[str, object]] = {
        "CPU time of a tile, relative to fp32": _speed(files, card.input.name),
        "bytes of the ONNX file": {name: len(file) for name, file in files.items()},
    }
    for name, file in files.items():
        engine = OnnxEngine(file, card)
        progress = partial(print, f"{name}:", file=sys.stderr, flush=True)
        result = evaluate(card, engine, fields=fields, on_progress=progress)
        for figure, value in _flat(result.figures):
            rows.setdefault(figure, {})[name] = value
    print(f"seed {DEFAULT_SEED}, {fields} mixed fields; time of one thread, median of", end=" ")
    print(f"{ROUNDS - 2} interleaved rounds\n")
    print("| figure | fp32 | int8 |\n|---|---|---|")
    for figure, values in rows.items():
        print(f"| {figure} | " + " | ".join(f"{values[one]:.4g}" for one in files) + " |")


def _flat(figures: dict[str, object]) -> list[tuple[str, object]]:
    """The figures, those of the classes of artefacts among them."""
    flat = [(name, value) for name, value in figures.items() if not isinstance(value, dict)]
    for kind, own in figures["classes"].items():
        flat += [(f"{kind}: {name}", value) for name, value in own.items()]
    return flat


def _speed(files: dict[str, bytes], name: str) -> dict[str, object]:
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
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
