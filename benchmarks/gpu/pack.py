"""Pack what the machine lacks: ``make gpu-pack``.

Packages come from the project's own index, as wheels for that machine's Python, unpacked as they
would be installed. PyTorch, ONNX and NumPy are not packed: the machine has them.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.gpu import bundles

_ROOT = Path(__file__).parents[2]
#: What the machine brings; a second one would hide it.
_BROUGHT = ("numpy", "ml_dtypes")
# pytriton is one wheel for every Python, and has a stub for each.
_PLATFORM = "x86_64-manylinux_2_35"
_TRITON = (
    "nvidia-pytriton",
    "tritonclient",
    "grpcio",
    "protobuf",
    "packaging",
    "python-rapidjson",
    "typing-extensions",
)
_EXTRAS = ("--extra", "server", "--extra", "servers")
_ONNXRUNTIME = "onnxruntime-gpu==1.31.0"

_PURPOSES = {
    "triton": "Triton with this project's backend, its client, the networks: the run works with it"
    " alone",
    "onnxruntime": "ONNX Runtime with its CUDA provider, for CUDA 13 and cuDNN 9: the bare engine,"
    " and Triton with it",
    "gateway": "the gateway's packages, PostgreSQL and NATS: the whole way, detections stored",
}


def main() -> None:
    """Pack every bundle, or those that are named."""
    parser = argparse.ArgumentParser(prog="make gpu-pack", description=__doc__)
    parser.add_argument("--python", default="3.12", help="version of the machine's Python")
    parser.add_argument("--out", type=Path, default=_ROOT / "var" / "gpu" / "pack")
    parser.add_argument("--only", action="append", choices=[*_PURPOSES], help="may be repeated")
    options = parser.parse_args()
    for name in options.only or _PURPOSES:
        print(f"packing {name}", flush=True)
        with TemporaryDirectory(prefix="astrotriton-gpu-") as folder:
            files = Path(folder)
            _MAKERS[name](files, options.python)
            bundle = bundles.write(options.out, name, _PURPOSES[name], files, options.python)
        for part in bundle.parts:
            size = (options.out / part).stat().st_size / (1 << 20)
            print(f"  {options.out / part}  {size:.1f} MiB", flush=True)
    print(f"  {options.out / bundles.PACK_FILE}")


def _triton(files: Path, python: str) -> None:
    site = files / "site"
    _install(site, python, "--no-deps", *_TRITON)
    stubs = site / "pytriton" / "tritonserver" / "python_backend_stubs"
    if not (stubs / python).is_dir():
        known = ", ".join(sorted(path.name for path in stubs.iterdir()))
        raise SystemExit(f"pytriton has no stub for Python {python}: it has some for {known}")
    for other in stubs.iterdir():
        if other.name != python:
            shutil.rmtree(other)
    if python != "3.13":
        # The one Python whose library the wheel brings.
        for library in (site / "nvidia_pytriton.libs").glob("libpython3-*.13.so*"):
            library.unlink()
    from benchmarks.gpu.networks import KEYS, write_network

    for key in KEYS:
        write_network(key, files / "networks" / key)


def _onnxruntime(files: Path, python: str) -> None:
    _install(files / "site", python, "--no-deps", _ONNXRUNTIME, constrained=False)
    # It needs a TensorRT that the machine does not have.
    (files / "site/onnxruntime/capi/libonnxruntime_providers_tensorrt.so").unlink()


def _gateway(files: Path, python: str) -> None:
    site = files / "site"
    _install(site, python, "-r", str(_ROOT / "pyproject.toml"), *_EXTRAS)
    for name in _BROUGHT:
        for path in (*site.glob(name), *site.glob(f"{name}.libs"), *site.glob(f"{name}-*")):
            shutil.rmtree(path)
    # The project's sources are there, but not its version, which the gateway tells.
    project = metadata.distribution("astrotriton")
    noted = site / f"astrotriton-{project.version}.dist-info"
    noted.mkdir()
    (noted / "METADATA").write_text(project.read_text("METADATA") or "")


def _install(site: Path, python: str, *what: str, constrained: bool = True) -> None:
    """Put packages, as they would be installed there, into a folder."""
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet"]
    command += ["--target", str(site), "--python-version", python]
    command += ["--python-platform", _PLATFORM, "--only-binary", ":all:"]
    if constrained:
        command += ["--constraint", str(_ROOT / "requirements.lock")]
    subprocess.run([*command, *what], check=True, cwd=_ROOT)


_MAKERS: dict[str, Callable[[Path, str], None]] = {
    "triton": _triton,
    "onnxruntime": _onnxruntime,
    "gateway": _gateway,
}


if __name__ == "__main__":
    main()
