"""Triton's ``onnxruntime`` backend, written in Python, for a Triton that lacks the C++ one.

The Triton that pip installs brings the Python backend alone. This file makes a *Python-based
backend* of the same name as NVIDIA's, so that one model repository serves in both. It reads the
same ``config.pbtxt``: the fields of the model configuration, and these of NVIDIA's parameters.

===========================  =======================================================================
``intra_op_thread_count``    Threads within an operator; 1 if not given, 0 for one a core.
``inter_op_thread_count``    Threads across operators, with ``execution_mode`` 1; 1 if not given.
``execution_mode``           0 sequential, 1 parallel; 0 if not given.
``enable_mem_arena``         0 or 1; 1 if not given.
``enable_mem_pattern``       0 or 1; 1 if not given.
===========================  =======================================================================

Tensors cross into the stub process by DLPack alone: under numpy 2, ``as_numpy()`` and
``Tensor(name, array)`` of this Triton's stub corrupt data without an error.
"""

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

#: What NVIDIA's backend takes for a model that batches and whose configuration gives no size.
_DEFAULT_MAX_BATCH_SIZE = 4

# A consumer of a DLPack capsule gives it this name, by which its maker knows not to free the data.
# The stub writes "used_dlpack" instead, and numpy then reports an error for every tensor.
_USED = ctypes.c_char_p(b"used_dltensor")
_name_capsule = ctypes.pythonapi.PyCapsule_SetName
_name_capsule.argtypes = [ctypes.py_object, ctypes.c_char_p]

_TRITON_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
}


class TritonPythonModel:
    """One instance of a model: an ONNX Runtime session and what Triton asks of it."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what ``config.pbtxt`` leaves out, from the ONNX file.

        Raises
        ------
        ValueError
            If the configuration contradicts the file; Triton refuses to load the model with it.
        """
        given = config.as_dict()
        path = _model_file(pb_utils.get_model_dir(), given)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs, outputs = session.get_inputs(), session.get_outputs()

        batches = all(_is_batched(tensor) for tensor in (*inputs, *outputs))
        max_batch_size = given["max_batch_size"]
        if max_batch_size > 0 and not batches:
            raise ValueError(
                f"max_batch_size is {max_batch_size}, but not every tensor of {path} has a first "
                "dimension of any size: export it with a dynamic batch, or set max_batch_size to 0"
            )
        if max_batch_size == 0 and batches:
            max_batch_size = _DEFAULT_MAX_BATCH_SIZE
            config.set_max_batch_size(max_batch_size)
            if "sequence_batching" not in given:
                config.set_dynamic_batching()

        for kind, tensors, add in (
            ("input", inputs, config.add_input),
            ("output", outputs, config.add_output),
        ):
            present = {tensor.name for tensor in tensors}
            for entry in given[kind]:
                if entry["name"] not in present:
                    raise ValueError(
                        f"{kind} {entry['name']!r} is not in {path}, which has {sorted(present)}"
                    )
            stated = {entry["name"]: entry["dims"] for entry in given[kind]}
            for tensor in tensors:
                if kind == "output" and stated and tensor.name not in stated:
                    continue  # A configuration may serve fewer outputs than the file has.
                dims = _dims(tensor, batched=max_batch_size > 0)
                add(
                    {
                        "name": tensor.name,
                        "data_type": _triton_type(tensor, path),
                        # A configuration may fix a size that the file leaves open.
                        "dims": _narrowed(dims, stated.get(tensor.name)),
                    }
                )
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; a file that ONNX Runtime refuses fails the load with its message."""
        config = json.loads(args["model_config"])
        path = _model_file(Path(args["model_repository"], args["model_version"]), config)
        self._batched = config["max_batch_size"] > 0
        self._outputs = [output["name"] for output in config["output"]]
        self._session = ort.InferenceSession(
            path,
            _session_options(config["parameters"]),
            providers=_providers(args["model_instance_kind"], args["model_instance_device_id"]),
        )
        self._inputs = [tensor.name for tensor in self._session.get_inputs()]
        # On a CPU the images of a batch only take the cache from each other, and ONNX Runtime keeps
        # the memory of the largest batch that it ever saw: gigabytes for one of 32.
        self._one_by_one = self._batched and args["model_instance_kind"] != "GPU"

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton batched together."""
        if self._one_by_one or not self._batched:
            return [response for request in requests for response in self._run([request])]
        return self._run(requests)

    def finalize(self) -> None:
        """Free the session before the process ends."""
        self._session = None

    def _run(self, requests: list[Any]) -> list[Any]:
        """Concatenate along the batch, run, and split the answers."""
        try:
            feeds = {name: [_input(request, name) for request in requests] for name in self._inputs}
            sizes = [len(array) if array.ndim else 1 for array in feeds[self._inputs[0]]]
            joined = {
                name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
                for name, arrays in feeds.items()
            }
            wanted = [
                name
                for name in self._outputs
                if any(name in request.requested_output_names() for request in requests)
            ]
            answers = dict(zip(wanted, self._answer(wanted, joined, sum(sizes)), strict=True))
            for name, answer in answers.items():
                if self._batched and len(answer) != sum(sizes):
                    raise RuntimeError(
                        f"output {name!r} has {len(answer)} rows for a batch of {sum(sizes)}: "
                        "the model mixes the images of a batch, set max_batch_size to 0"
                    )
        except Exception as error:
            # Whatever went wrong is the answer to these requests; the instance serves on.
            failure = pb_utils.TritonError(f"{type(error).__name__}: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]

        responses = []
        stop = 0
        for request, size in zip(requests, sizes, strict=True):
            start, stop = stop, stop + size
            rows = slice(start, stop) if self._batched else ...
            tensors = [
                _to_tensor(name, answers[name][rows])
                for name in wanted
                if name in request.requested_output_names()
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses

    def _answer(self, wanted: list[str], feeds: dict[str, Any], rows: int) -> list[np.ndarray]:
        """What the session answers to a batch."""
        if rows == 1 or not self._one_by_one:
            return self._session.run(wanted, feeds)
        parts = [
            self._session.run(wanted, {name: array[row : row + 1] for name, array in feeds.items()})
            for row in range(rows)
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _model_file(folder: str | Path, config: dict[str, Any]) -> str:
    path = Path(folder, config.get("default_model_filename") or "model.onnx")
    if not path.is_file():
        raise ValueError(f"{path} is missing: a version folder holds the ONNX file under that name")
    return str(path)


def _is_batched(tensor: Any) -> bool:
    return bool(tensor.shape) and not isinstance(tensor.shape[0], int)


def _dims(tensor: Any, *, batched: bool) -> list[int]:
    """The shape as Triton states it: without the batch, and -1 for a size the caller chooses."""
    dims = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return dims[1:] if batched else dims


def _narrowed(dims: list[int], stated: list[Any] | None) -> list[int]:
    if stated is None or len(stated) != len(dims):
        return dims
    fixed = zip(dims, map(int, stated), strict=True)
    return [configured if size == -1 else size for size, configured in fixed]


def _triton_type(tensor: Any, path: str) -> str:
    if tensor.type not in _TRITON_TYPES:
        raise ValueError(
            f"{tensor.name!r} in {path} is a {tensor.type}, which this backend does not serve: "
            f"it serves {', '.join(sorted(_TRITON_TYPES))}"
        )
    return _TRITON_TYPES[tensor.type]


def _session_options(parameters: dict[str, Any]) -> ort.SessionOptions:
    def number(name: str, default: int) -> int:
        text = parameters.get(name, {}).get("string_value", str(default))
        if not text.isdecimal():
            raise pb_utils.TritonModelException(f"parameter {name} is {text!r}, not a whole number")
        return int(text)

    options = ort.SessionOptions()
    options.intra_op_num_threads = number("intra_op_thread_count", 1)
    options.inter_op_num_threads = number("inter_op_thread_count", 1)
    if number("execution_mode", 0) == 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = number("enable_mem_arena", 1) == 1
    options.enable_mem_pattern = number("enable_mem_pattern", 1) == 1
    # Instances share the cores: a thread that spins while it waits takes one from another instance.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _providers(kind: str, device: str) -> list[Any]:
    if kind != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise pb_utils.TritonModelException(
            "the instance group is KIND_GPU, but this ONNX Runtime has no CUDA: "
            "install onnxruntime-gpu, or configure KIND_CPU"
        )
    return [("CUDAExecutionProvider", {"device_id": int(device)}), "CPUExecutionProvider"]


def _input(request: Any, name: str) -> np.ndarray:
    return np.ascontiguousarray(np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)))


def _to_tensor(name: str, array: np.ndarray) -> Any:
    # DLPack takes only arrays that are contiguous and writable.
    capsule = np.require(array, requirements=["C", "W"]).__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    _name_capsule(capsule, _USED)
    return tensor
