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
``cudnn_conv_algo_search``   0 exhaustive, 1 heuristic, 2 default; 0 if not given. On a GPU.
===========================  =======================================================================

Without ONNX Runtime, or without its CUDA provider in a group of ``KIND_GPU``, PyTorch runs the
file; `engines` says which runs where, and has parameters of its own.

Tensors cross into the stub process by DLPack alone: under numpy 2, ``as_numpy()`` and
``Tensor(name, array)`` of this Triton's stub corrupt data without an error.
"""

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# What lies beside this file is no package; Triton loads this one by its path.
sys.path.insert(0, str(Path(__file__).parent))
from engines import Engine, Options, describe, open_engine

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
    """One instance of a model: an engine and what Triton asks of it."""

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
        inputs, outputs = describe(path)

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
        """Load the model; a file that the engine refuses fails the load with its message."""
        config = json.loads(args["model_config"])
        path = _model_file(Path(args["model_repository"], args["model_version"]), config)
        self._batched = config["max_batch_size"] > 0
        self._outputs = [output["name"] for output in config["output"]]
        kind = "GPU" if args["model_instance_kind"] == "GPU" else "CPU"
        self._engine: Engine = open_engine(
            path,
            Options(
                kind=kind,
                device=int(args["model_instance_device_id"]) if kind == "GPU" else 0,
                most=config["max_batch_size"],
                parameters={
                    name: value["string_value"] for name, value in config["parameters"].items()
                },
            ),
        )
        pb_utils.Logger.log_info(f"{args['model_instance_name']}: {self._engine.title}")
        # On a GPU a batch is kept whole.
        self._one_by_one = self._batched and kind == "CPU"

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton batched together."""
        if self._one_by_one or not self._batched:
            return [response for request in requests for response in self._run([request])]
        return self._run(requests)

    def finalize(self) -> None:
        """Free the engine before the process ends."""
        del self._engine

    def _run(self, requests: list[Any]) -> list[Any]:
        """Concatenate along the batch, run, and split the answers."""
        try:
            feeds = {
                name: [
                    self._engine.take(pb_utils.get_input_tensor_by_name(request, name))
                    for request in requests
                ]
                for name in self._engine.inputs
            }
            first = feeds[self._engine.inputs[0]]
            sizes = [len(array) if array.ndim else 1 for array in first]
            wanted = [
                name
                for name in self._outputs
                if any(name in request.requested_output_names() for request in requests)
            ]
            answers = dict(zip(wanted, self._engine.run(wanted, feeds), strict=True))
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


def _to_tensor(name: str, array: Any) -> Any:
    if isinstance(array, np.ndarray):
        # DLPack takes only arrays that are contiguous and writable.
        array = np.require(array, requirements=["C", "W"])
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    _name_capsule(capsule, _USED)
    return tensor
