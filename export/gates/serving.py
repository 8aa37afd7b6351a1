"""Whether a Triton serves it, and at what cost."""

import math

from astrotriton.export.errors import ServingError
from astrotriton.export.gates.version import VersionUnderTest
from astrotriton.wire.validation import Gate


class Sandbox:
    """Whether every instance of a Triton of its own answers the golden tile as it should."""

    name = "sandbox"
    needs = (
        "onnx",
        "parity",
        "batch",
        "answers",
        "detections",
        "accuracy",
        "accuracy_change",
        "calibration",
        "optional_planes",
    )

    def applies(self, version: VersionUnderTest) -> bool:
        """Of a version that is tried."""
        return version.trial is not None

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        try:
            difference = version.tried_out.difference
        except ServingError as error:
            return Gate.of(self.name, [str(error)], "")
        return Gate.of(
            self.name,
            [],
            f"every instance answers the golden tile within {difference:.1e}",
            sandbox_max_abs=difference,
        )


class Latency:
    """Whether a tile takes no longer than is allowed."""

    name = "latency"
    needs = ("sandbox",)

    def applies(self, version: VersionUnderTest) -> bool:
        """Of a version that is tried."""
        return version.trial is not None

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        own, champion, limits = version.tried_out.own, version.tried_out.champion, version.limits
        return cost(
            self.name,
            "ms",
            own.latency,
            None if champion is None else champion.latency,
            most=limits.max_latency_ms,
            most_ratio=limits.max_latency_ratio,
        )


class Memory:
    """Whether it takes no more memory than is allowed."""

    name = "memory"
    needs = ("sandbox",)

    def applies(self, version: VersionUnderTest) -> bool:
        """Of a version that is tried."""
        return version.trial is not None

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        own, champion = version.tried_out.own, version.tried_out.champion
        return cost(
            self.name,
            "MiB",
            own.memory,
            None if champion is None else champion.memory,
            most_ratio=version.limits.max_memory_ratio,
        )


def cost(
    name: str,
    unit: str,
    own: float,
    champions: float | None,
    *,
    most: float = math.inf,
    most_ratio: float,
) -> Gate:
    """Whether a cost (``latency``, ``memory``) is not too much, nor too much more than before.

    Parameters
    ----------
    own, champions
        In ``unit``; the champion's is None if there is none.
    most, most_ratio
        Largest cost, and in units of the champion's.
    """
    said, figures = f"{own:.4g} {unit}", {f"{name}_{unit}": own}
    problems = [] if own <= most else [f"{said}; at most {most:g} {unit} is allowed"]
    if champions is None:
        return Gate.of(name, problems, f"{said}; there is no champion to compare with", **figures)
    found = own / champions
    figures |= {f"champion_{name}_{unit}": champions, f"{name}_ratio": found}
    said += f", {found:.2f} times the champion's {champions:.4g} {unit}"
    if not found <= most_ratio:
        problems.append(f"{said}; at most {most_ratio:g} times is allowed")
    return Gate.of(name, problems, said, **figures)
