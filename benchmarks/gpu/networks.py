"""The networks as the run needs them: exported, with what Keras answers. Imports TensorFlow."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np

from astrotriton.detection.quality.golden import Golden
from astrotriton.export import convert, digests, parity
from astrotriton.export.engine import KerasEngine, OnnxEngine
from astrotriton.export.precision import reduced
from astrotriton.export.subpixel import fold_upsampling
from astrotriton.export.triton_config import build_config, to_text
from astrotriton.settings import ModelConfig
from astrotriton.training.exposures import golden_tiles
from benchmarks.speed.networks import NETWORKS

KEYS = ("reference", "wide")


def write_network(key: str, folder: Path) -> None:
    """Export one of the benchmark's networks, and prove it here.

    Writes ``fp32.onnx`` and ``fp16.onnx`` as a GPU gets them, ``cpu.onnx`` with folded
    up-sampling; ``tiles.npz`` with the golden tiles, float32 (N, 1, H, W), and Keras's answers; and
    for each device what a version in a model repository has beside its ONNX file.

    Parameters
    ----------
    key
        Of `benchmarks.speed.networks.NETWORKS`.

    Raises
    ------
    ExportError
        If a file does not answer as Keras does.
    """
    model, card = NETWORKS[key].build()
    card = msgspec.structs.replace(card, version=1)
    tiles = golden_tiles(card)
    plain = convert.convert(model, card, digests.of_source(model, card))
    keras = KerasEngine(model, [card.output.name], card)
    folder.mkdir(parents=True)
    image = np.concatenate(list(tiles.values()))
    np.savez(folder / "tiles.npz", image=image, probability=keras(image))
    (folder / "fp32.onnx").write_bytes(plain)
    (folder / "fp16.onnx").write_bytes(reduced(plain, card, "fp16", golden_tiles))
    (folder / "cpu.onnx").write_bytes(fold_upsampling(plain))
    for device, file in (("gpu", "fp32.onnx"), ("cpu", "cpu.onnx")):
        content = (folder / file).read_bytes()
        golden: Golden = parity.compare(keras, OnnxEngine(content, card), card, tiles).golden
        version = folder / device
        version.mkdir()
        files = {"model.onnx": content, "golden.npz": golden.to_npz()}
        known = {name: hashlib.sha256(one).hexdigest() for name, one in files.items()}
        (version / "golden.npz").write_bytes(files["golden.npz"])
        (version / "card.json").write_bytes(msgspec.structs.replace(card, digests=known).to_json())
        # On a CPU the run is a rehearsal: what proves an instance is a batch of half of this.
        settings = ModelConfig(batch_size=4 if device == "cpu" else 32)
        config = to_text(build_config(card, settings, device, [1]))
        (version / "config.pbtxt").write_bytes(config)
