"""An engine by itself, with nothing around it: the limit that Triton is read against.

``device``: tiles and answers stay where the engine runs. ``host``: tiles come from the host's
memory and answers go back, as the backend does it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.steps.common import Job, difference, job, rate, repeated

Answer = Callable[[], NDArray[np.float32]]


def main() -> None:
    """Measure every size of a batch."""
    doing = job()
    from engines import Options, TorchEngine, open_engine

    for variant, parameters in _variants(doing).items():
        options = Options(
            kind="GPU" if doing.device == "gpu" else "CPU",
            device=0,
            most=doing.largest if doing.device == "gpu" else 0,
            # On a CPU one thread, as an instance of Triton's has there.
            parameters={"engine": doing.engine} | parameters,
        )
        try:
            engine = open_engine(str(doing.model), options)
        except Exception as error:  # The other variant may go.
            doing.tell(form=variant, failed=f"{type(error).__name__}: {error}")
            continue
        doing.tell(told=engine.title)
        forms = _torch_forms if isinstance(engine, TorchEngine) else _onnxruntime_forms
        for batch in doing.batches:
            _measure(doing, engine, variant, batch, forms)


def _measure(doing: Job, engine: Any, variant: str, batch: int, forms: Any) -> None:
    """Tell what each form does with a batch; one that fails leaves the others."""
    tiles, expected = doing.tiles()
    settle = _settle(doing)
    for form, (call, answer) in forms(doing, engine, repeated(tiles, batch)).items():
        try:
            doing.tell(
                form=f"{form}{variant}",
                batch=batch,
                tiles_per_s=rate(call, batch, doing.seconds, settle),
                difference=difference(answer(), expected),
            )
        except Exception as error:
            doing.tell(form=form, batch=batch, failed=f"{type(error).__name__}: {error}")


def _variants(doing: Job) -> dict[str, dict[str, str]]:
    """Parameters of the engine, by what they are called in a form's name."""
    if doing.engine == "pytorch":
        return {"": {"precision": doing.precision}}
    if doing.precision == "fp16":
        return {", NHWC": {"prefer_nhwc": "1"}, "": {}}
    return {"": {"precision": doing.precision}}


def _settle(doing: Job) -> Callable[[], object]:
    if doing.device == "cpu":
        return lambda: None
    import torch

    return torch.cuda.synchronize


def _torch_forms(
    doing: Job, engine: Any, image: NDArray[np.float32]
) -> dict[str, tuple[Callable[[], object], Answer]]:
    """Ways to run PyTorch on a batch, by name."""
    import torch
    from engines import record

    name = engine.inputs[0]
    host = torch.from_numpy(image)
    wanted = engine.outputs[:1]
    fetched: Answer = lambda: engine.run(wanted, {name: [host]})[0]  # noqa: E731
    if doing.device == "cpu":
        return {"host": (fetched, fetched)}
    there = host.cuda()
    forward = engine.forward
    if doing.compiled:
        compiled = torch.compile(engine.network)
        forward = lambda images: engine.forward(images, compiled)  # noqa: E731

    def shown() -> Any:
        with torch.inference_mode():
            return forward([there])[0]

    prefix = "compiled, " if doing.compiled else ""
    forms: dict[str, tuple[Callable[[], object], Answer]] = {
        f"{prefix}device": (shown, lambda: shown().cpu().numpy())
    }
    with torch.inference_mode():
        recorded = record(torch, forward, [there])
    forms[f"{prefix}device, CUDA graph"] = (
        recorded.graph.replay,
        lambda: recorded.answers[0].cpu().numpy(),
    )
    if not doing.compiled:
        forms["host"] = (fetched, fetched)
    return forms


def _onnxruntime_forms(
    doing: Job, engine: Any, image: NDArray[np.float32]
) -> dict[str, tuple[Callable[[], object], Answer]]:
    """Ways to run ONNX Runtime on a batch, by name."""
    session, name = engine.session, engine.inputs[0]
    wanted = [session.get_outputs()[0].name]
    fetched: Answer = lambda: engine.run(wanted, {name: [image]})[0]  # noqa: E731
    if doing.device == "cpu":
        return {"host": (fetched, fetched)}
    import onnxruntime as ort

    binding = session.io_binding()
    there = ort.OrtValue.ortvalue_from_numpy(image, "cuda", 0)
    binding.bind_ortvalue_input(name, there)
    binding.bind_output(wanted[0], "cuda", 0)
    return {
        "device": (
            lambda: session.run_with_iobinding(binding),
            lambda: binding.copy_outputs_to_cpu()[0],
        ),
        "host": (fetched, fetched),
    }


if __name__ == "__main__":
    main()
