"""Exposures of one simulated camera, before and after it changed, described by the trained network.

``python -m tests.science.drift_rows`` makes ``data/drift_rows.npz`` anew, in some minutes; do so
when the network or a descriptor changes. A test compares some of its rows with fresh ones.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from astrotriton.detection.card import UNetModel
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.quality.drift import DESCRIPTORS, describe
from astrotriton.detection.scoring.score import finish, prepare_exposure
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.recipe import Recipe

FILE = Path(__file__).parent / "data" / "drift_rows.npz"
STEADY, WINDOW, SLOW = 560, 40, 150

CAMERA = Recipe(
    fwhm=(3.0, 4.5),
    transients=(10, 20),
    snr=(5.0, 30.0),
    bright=0.0,
    fading=0.1,
    on_star=0.0,
    fwhm_scatter=0.1,
    resampled=0.0,
    uneven=0.0,
    lines=(0, 0),
    stars=(40, 80),
    galaxies=(5, 15),
    shift=(0.05, 0.2),
    cosmic_rays=(0, 3),
    trails=(0, 0),
    bad_columns=(0, 0),
    gaps=(0, 0),
)
# What changes, and what should be named for it.
CHANGES = {
    "gain": ("noise", {"gain": 1.4}),
    "seeing": ("seeing_fwhm", {"recipe": replace(CAMERA, fwhm=(4.5, 6.0))}),
    "background": ("background", {"level": 20.0}),
    "trails": ("trail_p90", {"recipe": replace(CAMERA, trails=(2, 4))}),
    "cosmic rays": ("elongation_median", {"recipe": replace(CAMERA, cosmic_rays=(15, 30))}),
}


def slow(step: int) -> Recipe:
    """The camera while its registration gets worse, by 0.006 pixels an exposure."""
    return replace(CAMERA, shift=(0.05 + 0.006 * step, 0.2 + 0.006 * step))


def row(
    card: UNetModel,
    predict: Callable,
    seed: int,
    recipe: Recipe = CAMERA,
    gain: float = 1.0,
    level: float = 0.0,
) -> np.ndarray:
    """One exposure; the noise is 10 counts and the background 0, both give or take a little."""
    rng = np.random.default_rng(seed)
    image = simulate(seed, recipe).difference
    middle = np.median(image)
    scatter = 1.4826 * np.median(np.abs(image - middle))
    image = (image - middle) / scatter * 10.0 * np.exp(0.1 * rng.normal()) + 5.0 * rng.normal()
    exposure = Exposure.from_array((gain * (image + level)).astype(np.float32))
    return describe(finish(prepare_exposure(exposure, card).answer(predict, 4)))


def seeds(name: str, count: int) -> range:
    """Those of a set's exposures."""
    start = 8_000_000 + 10_000 * ["steady", "slow", *CHANGES].index(name)
    return range(start, start + count)


def _network() -> Callable:
    """The trained network, as it is served, on one core."""
    import onnxruntime

    from astrotriton.export.convert import convert
    from astrotriton.training.weights import load_card, load_network

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        convert(load_network(), load_card(), "tests"), options, providers=["CPUExecutionProvider"]
    )
    return lambda tiles: np.asarray(session.run(None, {"image": tiles})[0])


def _row(seed: int, how: dict) -> np.ndarray:
    """A row, by the network of this process."""
    global _predict  # each process makes one
    from astrotriton.training.weights import load_card

    if _predict is None:
        _predict = _network()
    return row(load_card(), _predict, seed, **how)


_predict: Callable | None = None


def _main() -> None:
    sets = {
        "steady": [{}] * STEADY,
        **{name: [how] * WINDOW for name, (_, how) in CHANGES.items()},
        "slow": [{"recipe": slow(step)} for step in range(SLOW)],
    }
    found = {}
    # TensorFlow, which reads the weights, does not survive a fork.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, hows in sets.items():
            made = pool.map(_row, seeds(name, len(hows)), hows, chunksize=4)
            found[name] = np.array(list(made))
            print(name, flush=True)
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, names=np.array(DESCRIPTORS), **found)


if __name__ == "__main__":
    _main()
