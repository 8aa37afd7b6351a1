"""How much of each room the tests run through, their processes included.

``python -m tests.coverage_by_room ARGUMENTS`` runs pytest with these arguments, and prints one line
a room. It exits as pytest does.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_DEPTH = 2


def room_of(path: str) -> str:
    """The room of a file: its folder as it is imported, two floors deep at most."""
    parts = Path(path.removeprefix("astrotriton/")).parts[:-1]
    return "/".join(parts[:_DEPTH]) or "astrotriton"


def rooms(files: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Statements run and statements, by room.

    Parameters
    ----------
    files
        As ``coverage json`` has them.
    """
    found: dict[str, tuple[int, int]] = {}
    for path, file in sorted(files.items()):
        run, of = found.get(room := room_of(path), (0, 0))
        summary = file["summary"]
        found[room] = (run + summary["covered_lines"], of + summary["num_statements"])
    return dict(sorted(found.items()))


def main(arguments: list[str]) -> int:
    """Run the tests and print the lines; the exit status of pytest."""
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "erase"], cwd=ROOT, check=True)
    status = subprocess.run([*coverage, "run", "-m", "pytest", *arguments], cwd=ROOT).returncode
    # A process that was killed leaves a file that cannot be read.
    subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, check=False)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "coverage.json")
        subprocess.run([*coverage, "json", "--quiet", "-o", report], cwd=ROOT, check=True)
        files = json.loads(report.read_text())["files"]
    print(f"\n{'room':<28}{'statements':>11}{'run through':>13}")
    total = (0, 0)
    for room, (run, of) in rooms(files).items():
        total = (total[0] + run, total[1] + of)
        print(f"{room:<28}{of:>11}{run / max(of, 1):>13.1%}")
    print(f"{'all':<28}{total[1]:>11}{total[0] / max(total[1], 1):>13.1%}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
