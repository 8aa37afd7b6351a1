"""What Triton says of the versions of a model."""

from typing import Any


def ready_versions(index: Any, name: str) -> list[int]:
    """The versions of a model that Triton can infer with, ascending.

    Parameters
    ----------
    index
        Its ``RepositoryIndexResponse``.
    name
        The model's.
    """
    return sorted(
        int(model.version)
        for model in index.models
        if model.name == name and model.state == "READY" and model.version.isdecimal()
    )


def instances_of(config: Any) -> int:
    """How many instances answer for a model, by its ``ModelConfig``; 1 at least.

    A group has its count on each of its GPUs. A loaded model's configuration names them, also where
    its file left them out.
    """
    count: int = sum(group.count * max(len(group.gpus), 1) for group in config.instance_group)
    return max(count, 1)
