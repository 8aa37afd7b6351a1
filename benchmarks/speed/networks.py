"""The networks that are served, and a stack that serves one of them as the project would."""

import asyncio
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx

from astrotriton.detection.card import UNetModel
from astrotriton.one_machine.bringup import repository_of
from astrotriton.settings import ModelConfig
from astrotriton.stack import Stack, down, up
from benchmarks.faults import Victim

if TYPE_CHECKING:
    import keras

    from astrotriton.export.precision import Precision

#: What proves the models every minute takes seconds of all cores: it falls into nobody's turn.
UNDISTURBED = {
    "ASTROTRITON_PROBE_INTERVAL": "86400",
    "ASTROTRITON_STACK_PROBE_PROOF_INTERVAL": "86400",
}
#: What a stack is set to for measuring, beside the defaults: nothing is refused for its number or
#: put off for its size either.
SETTINGS = UNDISTURBED | {
    "ASTROTRITON_RATE_PER_MINUTE": "1000000",
    "ASTROTRITON_CONCURRENCY": "128",
    "ASTROTRITON_MAX_WAITING": "128",
    "ASTROTRITON_ASYNC_BYTES": str(1 << 30),
    "ASTROTRITON_ENABLE_GPU": "false",
    "ASTROTRITON_LOG_LEVEL": "WARNING",
}


# Of the reference network.
_FILTERS, _LEVELS = 8, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A U-Net that is served.

    Attributes
    ----------
    key, title
        Its name in ``bench.json``, and in words.
    filters, levels
        Of the U-Net. Larger than the reference network, it is that one grown.
    precision
        Of the file that is served.
    count
        Exposures a turn: what takes some ten seconds.
    contenders
        What is measured with it, by key; everything, if none is named.
    """

    key: str
    title: str
    filters: int
    levels: int
    precision: "Precision" = "fp32"
    count: int
    contenders: frozenset[str] = frozenset()

    def build(self) -> tuple["keras.Model", UNetModel]:
        """The Keras model and its card; imports TensorFlow."""
        from astrotriton.training.network import build_unet
        from astrotriton.training.weights import load_card, load_network
        from benchmarks.speed.net2net import grow

        card, network = load_card(), load_network()
        if (self.filters, self.levels) == (_FILTERS, _LEVELS):
            return network, card
        large = build_unet(
            card.tile_size,
            filters=self.filters,
            levels=self.levels,
            answers=card.output.shape[1],
        )
        grow(network, large, levels=_LEVELS, deeper=self.levels - _LEVELS)
        parameters = card.training_parameters | {"filters": self.filters}
        return large, msgspec.structs.replace(card, training_parameters=parameters)


_FP32 = (
    Network(key="wide", title="U-Net of 16 filters, 5 levels", filters=16, levels=5, count=64),
    Network(
        key="reference",
        title="reference U-Net, 8 filters, 4 levels",
        filters=_FILTERS,
        levels=_LEVELS,
        count=96,
    ),
)
# Servers that predict with Keras have no int8 to predict with.
_INT8 = tuple(
    replace(
        network,
        key=f"{network.key}_int8",
        title=f"{network.title}, int8",
        precision="int8",
        count=96,
        contenders=frozenset({"raw_2x1", "triton_client", "gateway"}),
    )
    for network in _FP32
)

NETWORKS = {network.key: network for network in (*_FP32, *_INT8)}


def gflop(content: bytes) -> float:
    """Billions of operations that the convolutions of an ONNX file need for one tile."""
    model = onnx.load_model_from_string(content)
    for values in (model.graph.input, model.graph.output):
        for value in values:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    # A multiplication and an addition for each weight, wherever its filter is laid.
    operations = sum(
        2.0 * np.prod(shapes[node.input[1]]) * np.prod(shapes[node.output[0]][2:])
        for node in graph.node
        if node.op_type == "Conv"
    )
    return float(operations) / 1e9


@dataclass(frozen=True, slots=True)
class Served:
    """A stack that serves a network.

    Attributes
    ----------
    victim
        Its processes and addresses.
    grpc_port
        Of the gateway.
    card
        As published.
    content
        The ONNX file that Triton serves.
    """

    victim: Victim
    grpc_port: int
    card: UNetModel
    content: bytes


@contextmanager
def serving(network: Network, grpc_port: int) -> Iterator[Served]:
    """A stack of its own that serves a network, until the block ends."""
    settings = SETTINGS | {"ASTROTRITON_GRPC_PORT": str(grpc_port)}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with TemporaryDirectory(prefix="astrotriton-bench-") as folder:
            data = Path(folder)
            command = [sys.executable, "-m", "benchmarks.speed.owner", str(data), network.key]
            try:
                addresses = up(data, command, on_progress=lambda part, what: None)
                version = repository_of(data) / ModelConfig().model_name / "1"
                yield Served(
                    Victim(data, addresses),
                    grpc_port,
                    UNetModel.from_json((version / "card.json").read_bytes()),
                    (version / "model.onnx").read_bytes(),
                )
            finally:
                down(data)
    finally:
        for name, text in before.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text


async def bring_up(stack: Stack, network: Network) -> None:
    """Start every part, with a network registered, exported and loaded as the project does it."""
    # TensorFlow takes ten seconds to import: that goes on beside the servers' start.
    imported = asyncio.create_task(
        asyncio.to_thread(importlib.import_module, "astrotriton.export.pipeline")
    )
    await stack.start_base()
    await imported
    os.environ["MLFLOW_TRACKING_URI"] = stack.addresses.mlflow_url

    def publish() -> str:
        from astrotriton.export import pipeline, registry
        from astrotriton.training.exposures import golden_tiles

        config = ModelConfig()
        version = registry.register(*network.build())
        uri = f"models:/{config.model_name}/{version}"
        exported = pipeline.export(
            uri, stack.repository, config, golden_tiles, precision=network.precision
        )
        return exported.card.name

    await stack.load_model(await asyncio.to_thread(publish))
    await stack.start_gateway()
