"""Run by a Python that has PyTorch: what the backend's engine answers to files, or refuses.

For each ``<case>.onnx`` of a folder and its inputs in ``<case>.npz`` this writes ``<case>.out.npz``
with every output by name, or ``<case>.txt`` with the refusal.
"""

import sys
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[2] / "triton-config/backends/onnxruntime"))
import torch
from engines import Options, TorchEngine
from torch_graph import TorchGraph


def main() -> None:
    folder = Path(sys.argv[1])
    # Two passes in one are cuDNN's; its place is taken by what it stands for.
    torch.cudnn_convolution_relu = lambda image, weight, bias, stride, padding, dilation, groups: (
        torch.relu(
            torch.nn.functional.conv2d(image, weight, bias, stride, padding, dilation, groups)
        )
    )
    for path in sorted(folder.glob("*.onnx")):
        with np.load(path.with_suffix(".npz")) as arrays:
            feeds = {name: [arrays[name]] for name in arrays.files}
        most = 4 if path.stem.startswith("batched") else 0
        options = Options(kind="CPU", device=0, most=most, parameters={})
        try:
            engine = TorchEngine(str(path), options)
        except ValueError as error:
            path.with_suffix(".txt").write_text(str(error))
            continue
        taken = {name: [engine.take(one) for one in parts] for name, parts in feeds.items()}
        answers = engine.run(engine.outputs, taken)
        found = dict(zip(engine.outputs, answers, strict=True))
        fused = TorchGraph(onnx.load(path), fuse_relu=True)
        for name, answer in zip(
            fused.outputs, fused(*(taken[n][0] for n in fused.inputs)), strict=True
        ):
            found[f"fused_{name}"] = answer.detach().numpy()
        if most:
            found |= _as_on_a_gpu(str(path), taken)
        np.savez(path.with_suffix(".out.npz"), **found)


def _as_on_a_gpu(path: str, taken: dict[str, list[torch.Tensor]]) -> dict[str, np.ndarray]:
    """What is answered when requests are put into one batch in the device's memory.

    There is no GPU here: the way is the same, in the host's memory and without CUDA graphs.
    """
    torch.cuda.synchronize = lambda *_: None
    engine = TorchEngine(path, Options(kind="CPU", device=0, most=8, parameters={}))
    engine._gpu = True
    rows = {name: [row[None] for row in parts[0]] for name, parts in taken.items()}
    found = {}
    for turn, keep in (("first", False), ("second", False), ("kept", True)):
        engine._on_gpu = keep
        answers = engine.run(engine.outputs, rows)
        for name, answer in zip(engine.outputs, answers, strict=True):
            # What is fetched lies where the next answer will be.
            found[f"{turn}_{name}"] = np.copy(answer.numpy() if keep else answer)
    return found


if __name__ == "__main__":
    main()
