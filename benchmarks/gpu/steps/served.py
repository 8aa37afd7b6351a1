"""Triton with this project's backend: instances proved, tiles a second, batches."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.load import Clients, Level
from benchmarks.gpu.server import NAME, serving, write_repository
from benchmarks.gpu.steps.common import Job, job


def main() -> None:
    """Measure every level."""
    doing = job()
    image, expected = doing.tiles()
    with tempfile.TemporaryDirectory(prefix="astrotriton-gpu-") as folder:
        repository = Path(folder, "repository")
        instances = doing.instances if doing.device == "gpu" else None
        write_repository(doing, repository, instances=instances)
        processes = 1 if doing.device == "cpu" else max(1, min(8, (os.cpu_count() or 2) // 2))
        with (
            serving(repository, Path(folder)) as address,
            Clients(address, processes, image, expected) as clients,
        ):
            statistics = _Statistics(address)
            # Requests of more than half the largest batch are not joined: as many as there are
            # instances keep each busy with its own.
            thorough = Level("grpc", statistics.instances, statistics.most // 2 + 1)
            _, largest = clients.run(thorough, 0.0)
            doing.tell(form="golden tiles to every instance", difference=largest)
            for level in _levels(doing):
                _measure(doing, clients, level, statistics)


def _measure(doing: Job, clients: Clients, level: Level, statistics: "_Statistics") -> None:
    """Tell what a level does; one that fails leaves the others."""
    told: dict[str, Any] = {"form": level.title, "concurrency": level.concurrency}
    if doing.device == "gpu":
        told["instances"] = doing.instances
    try:
        before = statistics.batches()
        speed, largest = clients.run(level, doing.seconds)
        batches = statistics.batches() - before
    except Exception as error:
        doing.tell(**told, failed=f"{type(error).__name__}: {error}")
        return
    doing.tell(
        **told,
        tiles_per_s=speed,
        difference=largest,
        batches={str(size): count for size, count in sorted(batches.items())},
    )


def _levels(doing: Job) -> Iterator[Level]:
    concurrencies = [1 << power for power in range(doing.largest.bit_length())]
    for concurrency in concurrencies:
        yield Level("shared", concurrency)
    for concurrency in (1, 8, 64):
        if concurrency <= doing.largest:
            yield Level("grpc", concurrency)
    if doing.device == "gpu":
        yield Level("shared", 8, 8)
        yield Level("cuda", 8)
        yield Level("cuda", 64)
        yield Level("cuda", 8, 8)


class _Statistics:
    """What Triton says of the model."""

    def __init__(self, address: str) -> None:
        from tritonclient.grpc import InferenceServerClient

        self._client = InferenceServerClient(address)
        config = self._client.get_model_config(NAME).config
        # As `astrotriton.triton.versions` counts them, which needs more than is here.
        self.instances = sum(
            group.count * max(1, len(group.gpus)) for group in config.instance_group
        )
        self.most = int(config.max_batch_size)

    def batches(self) -> "Counter[int]":
        """How many batches of each size were run since the start."""
        (statistics,) = self._client.get_inference_statistics(NAME).model_stats
        return Counter({one.batch_size: one.compute_infer.count for one in statistics.batch_stats})


if __name__ == "__main__":
    main()
