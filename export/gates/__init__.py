"""The gates: what a version is asked before it is let through, one after another.

A further gate is a class as `astrotriton.export.gates.protocol.VersionGate` says, in the module
that it belongs to, and a line in `GATES`.
"""

import time
from collections.abc import Callable, Sequence

from astrotriton.export.gates.conversion import Detections, Graph, Parity
from astrotriton.export.gates.network import Answers, Batch
from astrotriton.export.gates.protocol import VersionGate
from astrotriton.export.gates.quality import (
    Accuracy,
    AccuracyChange,
    Calibration,
    OptionalPlanes,
)
from astrotriton.export.gates.serving import Latency, Memory, Sandbox
from astrotriton.export.gates.version import VersionUnderTest
from astrotriton.wire.validation import Gate

#: Every gate, in the order in which they are asked and in which a manifest lists them.
GATES: tuple[VersionGate, ...] = (
    Graph(),
    Parity(),
    Batch(),
    Answers(),
    Detections(),
    Accuracy(),
    AccuracyChange(),
    Calibration(),
    OptionalPlanes(),
    Sandbox(),
    Latency(),
    Memory(),
)


def ask(
    version: VersionUnderTest,
    gates: Sequence[VersionGate] = GATES,
    *,
    on_answer: Callable[[str, float], None] = lambda name, seconds: None,
) -> list[Gate]:
    """Ask a version every gate that applies to it.

    A gate whose needs were not met is not asked: what fails one would make nonsense of the next.

    Parameters
    ----------
    version
        Keeps what a gate has measured for those that come after it.
    gates
        In their order.
    on_answer
        Told of each gate that has answered, and of the seconds that it took.

    Returns
    -------
    list of Gate
        The answers, in that order.
    """
    answers: list[Gate] = []
    closed: set[str] = set()
    for gate in gates:
        if not gate.applies(version):
            continue
        if closed.intersection(gate.needs):
            closed.add(gate.name)
            continue
        began = time.monotonic()
        answer = gate.ask(version)
        on_answer(gate.name, time.monotonic() - began)
        answers.append(answer)
        if not answer.passed:
            closed.add(gate.name)
    return answers
