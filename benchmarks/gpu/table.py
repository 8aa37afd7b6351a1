"""The lines of a run as tables, and whether what was measured was also right."""

from collections.abc import Iterable, Sequence
from typing import Any

Line = dict[str, Any]

#: Largest difference from Keras at full precision, as for any version that is served.
TOLERANCE = 1e-4


def agrees(lines: Iterable[Line]) -> bool:
    """Whether something was measured, and all that was computed in fp32 answers as Keras does."""
    measured = [line for line in lines if "tiles_per_s" in line or "difference" in line]
    exact = [one for one in measured if one.get("precision") == "fp32" and "difference" in one]
    return bool(measured) and all(one["difference"] <= TOLERANCE for one in exact)


def table(lines: Sequence[Line]) -> str:
    """Markdown: the machine, the bare engines, Triton, the gateway, and what did not go."""
    parts = [
        _machine(lines),
        _bare([line for line in lines if line["step"] == "bare" and "tiles_per_s" in line]),
        _served(lines),
        _whole([line for line in lines if line["step"] == "whole" and "failed" not in line]),
        _missing(lines),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _machine(lines: Iterable[Line]) -> str:
    facts = {
        name.removeprefix("fact_"): value
        for line in lines
        for name, value in line.items()
        if name.startswith("fact_")
    }
    rows = [[name, str(value)] for name, value in facts.items()]
    return _titled("The machine", ["", ""], rows)


def _bare(lines: Sequence[Line]) -> str:
    """A row for each way to run an engine, a column for each size of a batch."""
    batches = sorted({line["batch"] for line in lines})
    rows = []
    for key in dict.fromkeys(_what(line) for line in lines):
        these = [line for line in lines if _what(line) == key]
        speeds = {line["batch"]: line["tiles_per_s"] for line in these}
        worst = max(line["difference"] for line in these)
        cells = [_number(speeds[one]) if one in speeds else "" for one in batches]
        rows.append([*key, *cells, f"{worst:.1e}"])
    head = ["network", "engine", "precision", "form", *map(str, batches), "from Keras"]
    return _titled("Bare engines: tiles a second, by batch", head, rows)


def _served(lines: Sequence[Line]) -> str:
    """A row for each level; beside it the best of the same engine by itself."""
    rows = []
    for line in lines:
        if line["step"] != "served" or "tiles_per_s" not in line:
            continue
        limit = _limit(lines, line)
        share = f"{line['tiles_per_s'] / limit:.2f}" if limit else ""
        batches = ", ".join(f"{count}x{size}" for size, count in line["batches"].items())
        rows.append(
            [
                *_what(line),
                str(line.get("instances", "")),
                str(line["concurrency"]),
                _number(line["tiles_per_s"]),
                share,
                f"{line['difference']:.1e}",
                batches,
            ]
        )
    head = ["network", "engine", "precision", "wire", "instances", "at a time"]
    head += ["tiles/s", "of bare", "from Keras", "batches run (times x size)"]
    return _titled("Triton with this project's backend", head, rows)


def _whole(lines: Sequence[Line]) -> str:
    rows = [
        [
            *_what(line),
            str(line["concurrency"]),
            _number(line["exposures_per_s"]),
            _number(line["tiles_per_s"]),
            _number(line["detections_per_s"]),
        ]
        for line in lines
        if "exposures_per_s" in line
    ]
    head = ["network", "engine", "precision", "exposures", "at a time", "exposures/s", "tiles/s"]
    return _titled("The gateway, detections stored", [*head, "detections/s"], rows)


def _missing(lines: Iterable[Line]) -> str:
    rows = []
    for line in lines:
        for kind in ("failed", "left_out"):
            if kind in line:
                what = " ".join(filter(None, [line["step"], *_what(line)]))
                rows.append([what, kind.replace("_", " "), str(line[kind]).replace("|", "/")[:300]])
    return _titled("What did not go", ["", "", "why"], rows)


def _limit(lines: Iterable[Line], served: Line) -> float:
    """The best that the same engine did by itself on the same network."""
    names = ("network", "engine", "precision")
    return max(
        (
            line["tiles_per_s"]
            for line in lines
            if line["step"] == "bare"
            and "tiles_per_s" in line
            and all(line[name] == served[name] for name in names)
        ),
        default=0.0,
    )


def _what(line: Line) -> tuple[str, str, str, str]:
    network, engine, precision, form = (
        str(line.get(name, "")) for name in ("network", "engine", "precision", "form")
    )
    return network, engine, precision, form


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _titled(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
