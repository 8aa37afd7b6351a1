"""What runs the ONNX file for the backend: ONNX Runtime, or PyTorch where that is all there is.

=========  ========================================================================================
KIND_CPU   ONNX Runtime; without it PyTorch. Both show a batch image by image.
KIND_GPU   ONNX Runtime with its CUDA provider; without that PyTorch with CUDA. A batch stays whole.
=========  ========================================================================================

The parameter ``engine`` of the model configuration asks for one of them, ``onnxruntime`` or
``pytorch``. Nothing here knows Triton: tensors come in as whatever speaks DLPack.

Half-precision tensor cores (TF32, fp16, bf16) are used only where the parameter ``precision`` says
so: with what both libraries do by default, no golden tile would be met within 1e-4.
"""

import ctypes
import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

Kind = Literal["CPU", "GPU"]

_log = logging.getLogger(__name__)

# What ONNX Runtime's CUDA provider looks up by name; PyTorch's wheels bring them, in this order.
_CUDA_LIBRARIES = ("cudart", "nvrtc", "cublasLt", "cublas", "curand", "cufft", "cudnn")
#: Of `cudnn_conv_algo_search`, numbered as in NVIDIA's backend.
_SEARCHES = ("EXHAUSTIVE", "HEURISTIC", "DEFAULT")
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


class EngineError(ValueError):
    """No engine can run this model as it is configured; the message says what would."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output: its name, ONNX Runtime's name of its type, its shape.

    A size that the caller chooses is a name or None.
    """

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the model configuration says of the engine.

    Attributes
    ----------
    kind, device
        Where the instance runs, and the number of its GPU.
    most
        Largest batch; 0 for a model without one.
    parameters
        By name, as text.
    """

    kind: Kind
    device: int
    most: int
    parameters: Mapping[str, str]

    def number(self, name: str, default: int) -> int:
        """A parameter that is a whole number.

        Raises
        ------
        EngineError
            If it is another text.
        """
        text = self.parameters.get(name, str(default))
        if not text.isdecimal():
            raise EngineError(f"parameter {name} is {text!r}, not a whole number")
        return int(text)

    def choice(self, name: str, known: Sequence[str], default: str) -> str:
        """A parameter that is one of some words.

        Raises
        ------
        EngineError
            If it is another one.
        """
        text = self.parameters.get(name, default)
        if text not in known:
            raise EngineError(f"parameter {name} is {text!r}, not one of {', '.join(known)}")
        return text


class Engine(Protocol):
    """An ONNX file that is ready to run."""

    title: str
    inputs: list[str]

    def take(self, tensor: Any) -> Any:
        """A tensor that speaks DLPack as an array of the engine's, without a copy."""

    def run(self, wanted: list[str], feeds: Mapping[str, list[Any]]) -> list[Any]:
        """Answer a batch.

        Parameters
        ----------
        wanted
            Outputs to compute.
        feeds
            By input, what `take` made of each request's tensor; they are joined along the first
            axis.

        Returns
        -------
        list of arrays
            One an output, numpy's or, where the answer is to stay on the GPU, PyTorch's.
        """


def describe(path: str) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs of an ONNX file, each with name, type and shape as `TensorInfo` has them.

    Raises
    ------
    EngineError
        If there is neither ONNX Runtime nor ``onnx`` to read it with, or it is no ONNX file.
    """
    if _installed("onnxruntime"):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return session.get_inputs(), session.get_outputs()
    graph = _load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_info(value) for value in graph.input if value.name not in constants]
    return inputs, [_info(value) for value in graph.output]


def open_engine(path: str, options: Options) -> Engine:
    """The engine for an ONNX file.

    Raises
    ------
    EngineError
        If none that is installed can run it there.
    """
    asked = options.choice("engine", ("auto", "onnxruntime", "pytorch"), "auto")
    makers = {"onnxruntime": OnnxRuntimeEngine, "pytorch": TorchEngine}
    refused = []
    for name, make in makers.items():
        if asked not in ("auto", name):
            continue
        try:
            return make(path, options)
        except _UnavailableError as error:
            refused.append(f"{name}: {error}")
            if asked == "auto" and name == "onnxruntime":
                _log.warning("%s: PyTorch is tried instead", error)
    remedy = (
        "install onnxruntime-gpu for this CUDA, or PyTorch with CUDA, or serve on the CPU"
        " (ASTROTRITON_ENABLE_GPU=false, KIND_CPU)"
        if options.kind == "GPU"
        else "install onnxruntime"
    )
    raise EngineError(
        f"the instance group is KIND_{options.kind}, and nothing here can run it"
        f" ({'; '.join(refused)}): {remedy}"
    )


class _UnavailableError(Exception):
    """An engine is not installed, or has no such device."""


class OnnxRuntimeEngine:
    """ONNX Runtime, on the CPU or with its CUDA provider.

    Its parameters on a GPU: ``precision`` (``fp32``, ``tf32``; half precision is the file's),
    ``cudnn_conv_algo_search``, ``prefer_nhwc`` (0 or 1; 0 if not given).
    """

    def __init__(self, path: str, options: Options) -> None:
        if not _installed("onnxruntime"):
            raise _UnavailableError("is not installed")
        self._gpu = options.kind == "GPU"
        self._torch = _torch_with_cuda() if self._gpu else None
        import onnxruntime as ort

        if self._gpu:
            if "CUDAExecutionProvider" not in ort.get_available_providers():
                raise _UnavailableError(f"version {ort.__version__} has no CUDA")
            _load_cuda_libraries()
        self.session = ort.InferenceSession(
            path, _session_options(ort, options), providers=_providers(options)
        )
        # It goes on with the CPU alone, and only warns, where a library of CUDA is missing.
        if self._gpu and "CUDAExecutionProvider" not in self.session.get_providers():
            raise _UnavailableError(
                f"version {ort.__version__} cannot use its CUDA provider here: a GPU, or a library"
                " of CUDA or cuDNN for it, is missing"
            )
        self.title = f"ONNX Runtime {ort.__version__} on the {options.kind}"
        self.inputs = [tensor.name for tensor in self.session.get_inputs()]
        self._most = options.most
        self._device = options.device
        # On a CPU the images of a batch only take the cache from each other, and ONNX Runtime keeps
        # the memory of the largest batch that it ever saw: gigabytes for one of 32.
        self._one_by_one = options.most > 0 and not self._gpu

    def take(self, tensor: Any) -> Any:
        """A tensor that speaks DLPack as an array."""
        if self._torch is not None and not _is_cpu(tensor):
            return self._torch.from_dlpack(tensor.to_dlpack()).contiguous()
        return np.ascontiguousarray(np.from_dlpack(tensor))

    def run(self, wanted: list[str], feeds: Mapping[str, list[Any]]) -> list[Any]:
        """Answer a batch."""
        if any(not isinstance(part, np.ndarray) for parts in feeds.values() for part in parts):
            return self._run_on_device(wanted, feeds)
        rows = _rows(next(iter(feeds.values())))
        # The CUDA provider looks for the best algorithms anew for each size of a batch.
        spare = padded(rows, self._most) - rows if self._gpu and self._most else 0
        joined = {name: _join(parts, spare) for name, parts in feeds.items()}
        if rows == 1 or not self._one_by_one:
            answers = self.session.run(wanted, joined)
            return [answer[:rows] for answer in answers] if spare else answers
        return _by_row(lambda feed: self.session.run(wanted, feed), joined, rows)

    def _run_on_device(self, wanted: list[str], feeds: Mapping[str, list[Any]]) -> list[Any]:
        """The same for tensors that are on the GPU already; only the answer goes to the host."""
        torch = self._torch
        device = torch.device("cuda", self._device)
        rows = _rows(next(iter(feeds.values())))
        binding = self.session.io_binding()
        kept = []
        for name, parts in feeds.items():
            tensors = [
                torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in parts
            ]
            shape = (padded(rows, self._most) if self._most else rows, *tensors[0].shape[1:])
            joined = torch.zeros(shape, dtype=tensors[0].dtype, device=device)
            start = 0
            for tensor in tensors:
                joined[start : start + len(tensor)].copy_(tensor)
                start += len(tensor)
            kept.append(joined)
            kind = np.dtype(str(joined.dtype).removeprefix("torch."))
            binding.bind_input(name, "cuda", self._device, kind, shape, joined.data_ptr())
        for name in wanted:
            binding.bind_output(name, "cuda", self._device)
        # ONNX Runtime has a stream of its own.
        torch.cuda.synchronize(device)
        self.session.run_with_iobinding(binding)
        answers = binding.copy_outputs_to_cpu()
        return [answer[:rows] for answer in answers] if self._most else answers


class TorchEngine:
    """PyTorch, on the CPU or with CUDA.

    Its parameters: ``precision`` (``fp32``, ``tf32``, ``fp16``, ``bf16``; the last three on a GPU),
    ``cuda_graphs`` (0 or 1; 1 if not given: what the GPU is told for one size of a batch is
    recorded once and then sent as a whole), ``answers_on_gpu`` (0 or 1; 0 if not given: answers are
    left on the GPU for Triton to fetch, which saves a copy for callers with CUDA shared memory).
    """

    def __init__(self, path: str, options: Options) -> None:
        for package in ("torch", "onnx"):
            if not _installed(package):
                raise _UnavailableError(f"{package} is not installed")
        import torch
        from torch_graph import TorchGraph

        self._gpu = gpu = options.kind == "GPU"
        if gpu and not torch.cuda.is_available():
            raise _UnavailableError(f"PyTorch {torch.__version__} finds no GPU")
        self._torch = torch
        self._device = torch.device("cuda", options.device) if gpu else torch.device("cpu")
        self._precision = options.choice("precision", _PRECISIONS, "fp32")
        if not gpu and self._precision != "fp32":
            raise EngineError(f"precision {self._precision} is for a GPU: ask for fp32 on a CPU")
        self.title = f"PyTorch {torch.__version__} on the {options.kind}, {self._precision}"
        self._most = options.most
        self._on_gpu = gpu and options.number("answers_on_gpu", 0) == 1
        self._one_by_one = options.most > 0 and not gpu
        if gpu:
            # An instance has its process to itself, so these are its alone.
            torch.cuda.set_device(self._device)
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = self._precision == "tf32"
            torch.backends.cuda.matmul.allow_tf32 = self._precision == "tf32"
        else:
            torch.set_num_threads(options.number("intra_op_thread_count", 1) or os.cpu_count() or 1)
        self._type = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(
            self._precision, torch.float32
        )
        graph = TorchGraph(_load(path)).eval()
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.network = graph.to(self._device, self._type, memory_format=torch.channels_last)
        self._graphs = gpu and options.most > 0 and options.number("cuda_graphs", 1) == 1
        self._recorded: dict[tuple[Any, ...], _Recorded] = {}
        self._fetched: dict[str, Any] = {}
        self._pool = torch.cuda.graph_pool_handle() if self._graphs else None

    def take(self, tensor: Any) -> Any:
        """A tensor that speaks DLPack as PyTorch's, on the CPU or the GPU as it is."""
        # Not `torch.from_dlpack`: numpy is known to read what the stub gives for a host tensor.
        if _is_cpu(tensor):
            return self._torch.from_numpy(np.ascontiguousarray(np.from_dlpack(tensor)))
        return self._torch.from_dlpack(tensor.to_dlpack())

    def run(self, wanted: list[str], feeds: Mapping[str, list[Any]]) -> list[Any]:
        """Answer a batch."""
        torch = self._torch
        with torch.inference_mode():
            rows = _rows(feeds[self.inputs[0]])
            if not self._gpu:
                joined = {name: torch.cat(parts) for name, parts in feeds.items()}
                if rows == 1 or not self._one_by_one:
                    return self._on_host(wanted, joined)
                return _by_row(lambda feed: self._on_host(wanted, feed), joined, rows)
            size = padded(rows, self._most) if self._most else rows
            answers = dict(zip(self.outputs, self._on_device(feeds, size), strict=True))
            chosen = [answers[name] for name in wanted]
            if size != rows:
                chosen = [answer[:rows] for answer in chosen]
            if self._on_gpu:
                chosen = [answer.clone() for answer in chosen]
                torch.cuda.synchronize(self._device)
                return chosen
            fetched = [
                self._pinned(name, answer).copy_(answer, non_blocking=True)
                for name, answer in zip(wanted, chosen, strict=True)
            ]
            torch.cuda.synchronize(self._device)
            return [answer.numpy() for answer in fetched]

    def _pinned(self, name: str, answer: Any) -> Any:
        """Where an answer is fetched to: memory that the GPU writes to by itself, used each time.

        Triton's stub has copied it before it asks for the next batch.
        """
        rows = max(self._most, len(answer))
        kept = self._fetched.get(name)
        if kept is None or kept.shape[1:] != answer.shape[1:] or len(kept) < len(answer):
            kept = self._torch.empty(
                (rows, *answer.shape[1:]),
                dtype=answer.dtype,
                pin_memory=self._torch.cuda.is_available(),
            )
            self._fetched[name] = kept
        return kept[: len(answer)]

    def _on_host(self, wanted: list[str], joined: Mapping[str, Any]) -> list[np.ndarray]:
        answers = dict(zip(self.outputs, self.forward([*joined.values()]), strict=True))
        return [np.ascontiguousarray(answers[name].numpy()) for name in wanted]

    def _on_device(self, feeds: Mapping[str, list[Any]], size: int) -> tuple[Any, ...]:
        """Put the requests into one batch on the GPU, and show it to the network."""
        parts = [feeds[name] for name in self.inputs]
        shapes = tuple((size, *tensors[0].shape[1:]) for tensors in parts)
        recorded = self._recorded.get(shapes)
        if recorded is None:
            places = [
                self._torch.zeros(shape, dtype=tensors[0].dtype, device=self._device)
                for shape, tensors in zip(shapes, parts, strict=True)
            ]
        else:
            places = recorded.inputs
        for place, tensors in zip(places, parts, strict=True):
            start = 0
            for tensor in tensors:
                place[start : start + len(tensor)].copy_(tensor, non_blocking=True)
                start += len(tensor)
        if recorded is not None:
            recorded.graph.replay()
            return recorded.answers
        if self._graphs:
            self._recorded[shapes] = recorded = record(
                self._torch, self.forward, places, self._pool
            )
            recorded.graph.replay()
            return recorded.answers
        return self.forward(places)

    def forward(self, images: Sequence[Any], network: Any = None) -> tuple[Any, ...]:
        """Every output for inputs on the engine's device; float32, whatever it computed in.

        Parameters
        ----------
        network
            A compiled form of `network` to use in its place.
        """
        torch = self._torch
        shown = [
            image.to(self._type, memory_format=torch.channels_last)
            if image.ndim == 4 and image.is_floating_point()
            else image
            for image in images
        ]
        return tuple(
            answer.float().contiguous() if answer.dtype == self._type else answer.contiguous()
            for answer in (network or self.network)(*shown)
        )


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What the GPU is told for one size of a batch: fill `inputs`, replay, read `answers`."""

    graph: Any
    inputs: Sequence[Any]
    answers: tuple[Any, ...]


def record(torch: Any, forward: Any, inputs: Sequence[Any], pool: Any = None) -> _Recorded:
    """Record as a CUDA graph what a function does with these inputs.

    Parameters
    ----------
    torch
        The module; this one does not import it by itself.
    forward
        Takes the inputs, and answers a tuple of tensors.
    inputs
        Tensors on the GPU; each replay reads what is in them then.
    pool
        Memory that several graphs share, of which one is replayed at a time.
    """
    # cuDNN compares its algorithms before anything is recorded, as PyTorch's notes on CUDA graphs
    # ask for: on another stream.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            forward(inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        answers = forward(inputs)
    return _Recorded(graph, inputs, answers)


def padded(rows: int, most: int) -> int:
    """The size that a batch is filled up to on a GPU.

    Both engines find their algorithms anew for each size, which takes seconds, so there are few:
    1, 2, 4, then multiples of 4 up to 16, and of 8 above.
    """
    if rows <= 2:
        size = rows
    else:
        step = 4 if rows <= 16 else 8
        size = -(-rows // step) * step
    return max(rows, min(size, most))


def _providers(options: Options) -> list[Any]:
    if options.kind == "CPU":
        return ["CPUExecutionProvider"]
    number = options.number("cudnn_conv_algo_search", 0)
    if number >= len(_SEARCHES):
        raise EngineError(
            f"parameter cudnn_conv_algo_search is {number}: it is 0 (exhaustive), 1 (heuristic) or"
            " 2 (default)"
        )
    precision = options.choice("precision", ("fp32", "tf32"), "fp32")
    cuda = {
        "device_id": options.device,
        "cudnn_conv_algo_search": _SEARCHES[number],
        "use_tf32": int(precision == "tf32"),
    }
    if options.number("prefer_nhwc", 0) == 1:
        cuda["prefer_nhwc"] = 1
    return [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]


def _session_options(ort: Any, options: Options) -> Any:
    session = ort.SessionOptions()
    session.intra_op_num_threads = options.number("intra_op_thread_count", 1)
    session.inter_op_num_threads = options.number("inter_op_thread_count", 1)
    if options.number("execution_mode", 0) == 1:
        session.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    session.enable_cpu_mem_arena = options.number("enable_mem_arena", 1) == 1
    session.enable_mem_pattern = options.number("enable_mem_pattern", 1) == 1
    # Instances share the cores: a thread that spins while it waits takes one from another instance.
    session.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return session


def _load_cuda_libraries() -> None:
    """Load the libraries of CUDA that pip installed, since the loader looks elsewhere.

    ONNX Runtime finds by name what is loaded already. What is not there, the system may have.
    """
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []
    for name in _CUDA_LIBRARIES:
        for path in (path for root in roots for path in root.glob(f"*/lib/lib{name}.so.*")):
            with suppress(OSError):
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _torch_with_cuda() -> Any:
    """PyTorch, if it can reach a GPU: then tensors that are there already can be read."""
    if not _installed("torch"):
        return None
    import torch

    return torch if torch.cuda.is_available() else None


def _is_cpu(tensor: Any) -> bool:
    """Whether a tensor that speaks DLPack is in the host's memory."""
    kind, _ = tensor.__dlpack_device__()
    return int(kind) == 1  # kDLCPU


def _rows(parts: Sequence[Any]) -> int:
    return sum(len(part) if part.ndim else 1 for part in parts)


def _join(parts: Sequence[np.ndarray], spare: int) -> np.ndarray:
    """One batch of all, with so many rows of zeros after it."""
    if spare:
        parts = [*parts, np.zeros((spare, *parts[0].shape[1:]), parts[0].dtype)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _by_row(ask: Any, joined: Mapping[str, Any], rows: int) -> list[np.ndarray]:
    parts = [
        ask({name: array[row : row + 1] for name, array in joined.items()}) for row in range(rows)
    ]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _load(path: str) -> Any:
    if not _installed("onnx"):
        raise EngineError(f"{path} cannot be read: install onnxruntime, or onnx")
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's DecodeError has no home of its own to import it from.
        raise EngineError(f"{path} is no ONNX model: {error}") from error


def _info(value: Any) -> TensorInfo:
    import onnx

    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    shape: list[int | str | None] = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in tensor.shape.dim
    ]
    return TensorInfo(value.name, f"tensor({kind})", shape)
