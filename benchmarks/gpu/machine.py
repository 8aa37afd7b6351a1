"""Unpack the pack on the machine, make an environment of it, and start the run there.

Only the standard library is used. What is unpacked stays, so that a further part that is carried
later costs only its own unpacking.
"""

import argparse
import json
import os
import sys
import time
import venv
from pathlib import Path

from benchmarks.gpu import bundles

_ROOT = Path(__file__).parents[2]
#: What a run is told of the unpacking, by bundle: when it is usable, or why it is not.
UNPACKED_FILE = "unpacked.json"


def main() -> None:
    """Prepare, and become the run."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--pack", type=Path, default=_ROOT / "var" / "gpu" / "pack")
    parser.add_argument("--work", type=Path, default=_ROOT / "var" / "gpu" / "machine")
    options, rest = parser.parse_known_args()
    if {"-h", "--help"} & set(rest):
        parser.print_help()
        print("\nand of the run itself:\n")
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.gpu.run", *rest])
    started = time.monotonic()
    try:
        python = prepare(options.pack.resolve(), options.work.resolve())
    except bundles.PackError as error:
        sys.exit(f"benchmarks/gpu: {error}")
    spent = time.monotonic() - started
    command = [str(python), "-m", "benchmarks.gpu.run", f"--work={options.work.resolve()}"]
    os.execv(python, [*command, f"--spent={spent:.1f}", *rest])


def prepare(pack: Path, work: Path) -> Path:
    """Unpack what is there and was not before; the Python that sees it.

    That one sees the pack's packages first, and then those of the Python that runs this.

    Raises
    ------
    PackError
        If there is no pack for this Python. A bundle that is incomplete or damaged is only noted in
        `UNPACKED_FILE`: the run goes on without.
    """
    known = bundles.read(pack, f"{sys.version_info.major}.{sys.version_info.minor}")
    work.mkdir(parents=True, exist_ok=True)
    noted = work / UNPACKED_FILE
    before = json.loads(noted.read_text()) if noted.exists() else {}
    after = {}
    for bundle in bundles.sorted_by_name(known):
        usable = before.get(bundle.name, {}).get("parts") == bundle.parts
        problem = ""
        if not usable:
            try:
                bundles.unpack(pack, bundle, work)
            except bundles.PackError as error:
                problem = str(error)
        after[bundle.name] = {"parts": {} if problem else bundle.parts, "problem": problem}
    noted.write_text(json.dumps(after))
    return _environment(work)


def _environment(work: Path) -> Path:
    """A virtual environment of the pack's packages and this Python's."""
    folder = work / "env"
    python = folder / "bin" / "python"
    if not python.exists():
        # Without pip, which some Pythons come without too.
        venv.EnvBuilder(symlinks=True).create(folder)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ours = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    lines = [str(work / "site"), *(f"import site; site.addsitedir({path!r})" for path in ours)]
    packages = folder / "lib" / version / "site-packages"
    (packages / "machine.pth").write_text("\n".join(lines) + "\n")
    server = work / "site" / "bin" / "nats-server"
    link = folder / "bin" / server.name
    if server.exists() and not link.exists():
        link.symlink_to(server)
    return python


if __name__ == "__main__":
    main()
