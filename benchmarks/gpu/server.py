"""A Triton of the run's own, from the pack alone.

`astrotriton.stack.parts.triton` starts the same server, but needs all that the gateway needs; this
one works with the pack's first bundle.
"""

import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.gpu.steps.common import BACKEND, Job

_PATIENCE = 90.0
#: How the networks' model is called.
NAME = "unet_astronomical"


def write_repository(doing: Job, folder: Path, *, instances: int | None = None) -> None:
    """Lay out a repository with the network, as it is to be served here.

    Parameters
    ----------
    instances
        How many; None: as the profile says.
    """
    version = folder / NAME / "1"
    version.mkdir(parents=True)
    shutil.copy(doing.model, version / "model.onnx")
    for name in ("golden.npz", "card.json"):
        shutil.copy(doing.folder / doing.device / name, version)
    config = (doing.folder / doing.device / "config.pbtxt").read_text()
    if instances is not None:
        config = re.sub(r"(instance_group \{\s*count: )\d+", rf"\g<1>{instances}", config)
    parameters = {"engine": doing.engine}
    if doing.engine == "pytorch" or doing.precision == "tf32":
        parameters["precision"] = doing.precision
    config += "".join(
        f'parameters {{ key: "{name}" value {{ string_value: "{text}" }} }}\n'
        for name, text in parameters.items()
    )
    (folder / NAME / "config.pbtxt").write_text(config)


@contextmanager
def serving(repository: Path, folder: Path) -> Iterator[str]:
    """Triton's gRPC address, for as long as the block runs, with the model loaded.

    Parameters
    ----------
    folder
        A folder of its own, for its log too.

    Raises
    ------
    RuntimeError
        If the model is not ready in a minute and a half, with the end of the log.
    """
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    home = _home()
    port = _free_port()
    log = folder / "triton.log"
    libraries = _folder_of_libpython()
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                str(home / "bin" / "tritonserver"),
                f"--model-repository={repository}",
                f"--backend-directory={_backends(home, folder)}",
                *("--model-control-mode=explicit", f"--load-model={NAME}"),
                *("--allow-http=false", "--allow-metrics=false", "--exit-timeout-secs=5"),
                *("--grpc-address=127.0.0.1", f"--grpc-port={port}"),
            ],
            env=os.environ
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "LD_LIBRARY_PATH": f"{libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}",
                "ORT_DISABLE_TELEMETRY": "1",
            },
            stdout=output,
            stderr=output,
            # In the step's process group: whoever ends a step that hangs ends this with it.
        )
    try:
        address = f"127.0.0.1:{port}"
        deadline = time.monotonic() + _PATIENCE
        with InferenceServerClient(address) as client:
            while True:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Triton does not serve: {_why(log)}")
                try:
                    if client.is_model_ready(NAME):
                        break
                except InferenceServerException:
                    pass
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait()


def _home() -> Path:
    # Found by its place: to import it would load pytriton's own layer.
    for folder in map(Path, sys.path):
        if (folder / "pytriton" / "tritonserver").is_dir():
            return folder / "pytriton" / "tritonserver"
    raise RuntimeError("Triton is not here: carry the bundle `triton`")


def _backends(home: Path, folder: Path) -> Path:
    """The backend folder, as `astrotriton.stack.parts.triton` lays it out too."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    backends = folder / "backends"
    shutil.copytree(home / "backends" / "python", backends / "python")
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise RuntimeError(f"the pack has no stub for Python {version}: pack for it")
    (backends / "python" / stub.name).symlink_to(stub)
    shutil.copytree(BACKEND, backends / BACKEND.name, ignore=shutil.ignore_patterns("__*"))
    return backends


def _folder_of_libpython() -> Path:
    """Where the library is that the stub is linked with; a stub without it hangs the load."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    folders = [
        Path(str(sysconfig.get_config_var("LIBDIR"))),
        Path(sys.base_prefix, "lib"),
        Path("/usr/lib", str(sysconfig.get_config_var("MULTIARCH"))),
        Path("/usr/local/lib"),
    ]
    for folder in folders:
        if (folder / name).exists():
            return folder
    try:
        ctypes.CDLL(name)
    except OSError:
        raise RuntimeError(
            f"{name} is not on this machine, and Triton's Python backend is linked with it: install"
            f" the package that has it (Debian, Ubuntu: {name.removesuffix('.so.1.0')})"
        ) from None
    return folders[0]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _why(log: Path) -> str:
    """The last errors of a log, or its last lines."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("E") or "error" in line.lower()]
    return " | ".join((errors or lines)[-4:])
