"""Lay out Triton's backends as `astrotriton.stack.parts.triton` does, and leave the rest out."""

import shutil
import sys
import sysconfig
from pathlib import Path

config, backends = (Path(name) for name in sys.argv[1:])
site = Path(sysconfig.get_path("purelib"))
triton = site / "pytriton" / "tritonserver"
version = f"{sys.version_info.major}.{sys.version_info.minor}"
stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"

# A library that is a link is refused, and a stub that is a copy loses its libraries.
shutil.copytree(triton / "backends" / "python", backends / "python")
(backends / "python" / stub.name).symlink_to(stub)
shutil.copytree(config / "backends", backends, dirs_exist_ok=True)

for other in stub.parents[1].iterdir():
    if other != stub.parent:
        shutil.rmtree(other)
for part in (site / "pytriton").iterdir():
    if part != triton:
        shutil.rmtree(part) if part.is_dir() else part.unlink()
