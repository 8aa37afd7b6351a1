"""NVIDIA Triton: the binary in the `nvidia-pytriton` package, with our `onnxruntime` backend."""

import ctypes
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import tritonclient.grpc.aio as client

from astrotriton.folders import TRITON_CONFIG
from astrotriton.stack.errors import PartError
from astrotriton.stack.parts.pytriton import fetch_pytriton
from astrotriton.stack.process import Part
from astrotriton.stack.site import Site, region_prefix


def triton(site: Site, repository: Path) -> Part:
    """A server that serves nothing yet; models are loaded into it by name.

    Parameters
    ----------
    repository
        The model repository that it serves from.

    Raises
    ------
    PartError
        If its binary cannot be had, or its Python backend could not run here.
    """
    install = fetch_pytriton() / "tritonserver"
    ports = site.ports
    # Names the regions, so that what a killed server leaves can be told from another's.
    prefix = region_prefix(site.data)

    async def check() -> None:
        async with client.InferenceServerClient(site.addresses.triton_grpc) as server:
            if not await server.is_server_live(client_timeout=2.0):
                raise ConnectionError("the server is not live")

    return Part(
        name="triton",
        command=[
            str(install / "bin" / "tritonserver"),
            *_server_flags(),
            f"--model-repository={repository.resolve()}",
            f"--backend-directory={_backends(site, install)}",
            f"--backend-config=python,shm-region-prefix-name={prefix}",
            *("--http-address=127.0.0.1", f"--http-port={ports['triton_http']}"),
            *("--grpc-address=127.0.0.1", f"--grpc-port={ports['triton_grpc']}"),
            f"--metrics-port={ports['triton_metrics']}",
        ],
        environment=site.environment(
            # The first Python on PATH is the one whose packages the model's process sees.
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            LD_LIBRARY_PATH=sysconfig.get_config_var("LIBDIR"),
            # It reports its use to its maker unless told otherwise.
            ORT_DISABLE_TELEMETRY="1",
        ),
        ports=frozenset({ports["triton_http"], ports["triton_grpc"], ports["triton_metrics"]}),
        check=check,
        grace=15.0,
        leftovers=[f"/dev/shm/{prefix}*"],
    )


def _server_flags() -> list[str]:
    lines = (TRITON_CONFIG / "server.flags").read_text().splitlines()
    return [line for line in lines if line.startswith("--")]


def _backends(site: Site, install: Path) -> Path:
    """Lay out the backend folder: the Python backend, with the stub of this Python, and ours.

    Triton refuses a library that is a link, and the stub finds its libraries by its own place: the
    one is copied, and the other linked.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = install / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        known = ", ".join(sorted(path.name for path in stub.parents[1].iterdir()))
        raise PartError("triton", f"has no Python backend for Python {version}: use one of {known}")
    _require_libpython()

    folder = site.folder("triton") / "backends"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(install / "backends" / "python", folder / "python")
    (folder / "python" / stub.name).symlink_to(stub)
    shutil.copytree(
        TRITON_CONFIG / "backends", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__*")
    )
    return folder


def _require_libpython() -> None:
    """A stub that lacks this library hangs the load of a model instead of failing it."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    if Path(sysconfig.get_config_var("LIBDIR"), name).exists():
        return
    try:
        ctypes.CDLL(name)
    except OSError:
        raise PartError(
            "triton",
            f"needs {name}, which this Python came without: install it (Debian: "
            f"apt install {name.removesuffix('.so.1.0')}), or use a Python built with it",
        ) from None
