"""What the machine is, and how fast its memory is."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time

from benchmarks.gpu.steps.common import job

_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "tritonclient", "grpcio")
_QUERY = "name,driver_version,memory.total,clocks.max.sm,power.limit,pcie.link.gen.max"
_BYTES = 1 << 30


def main() -> None:
    """Tell them."""
    doing = job()
    facts = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "processor": _processor(),
    }
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
        facts["gpu"] = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    print_line = {f"fact_{name}": value for name, value in facts.items()}
    doing.tell(engine="", precision="", network="", **print_line)
    if doing.device == "gpu":
        doing.tell(engine="", precision="", network="", **_speeds())


def _processor() -> str:
    with open("/proc/cpuinfo") as file:  # noqa: PTH123
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _speeds() -> dict[str, float | str]:
    """GB/s within the GPU's memory (bytes read and written), to it and from it."""
    import torch

    one = torch.empty(_BYTES, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(one)
    pinned = torch.empty(_BYTES // 4, dtype=torch.uint8, pin_memory=True)
    plain = torch.empty(_BYTES // 4, dtype=torch.uint8)
    part = one[: len(pinned)]
    moves = {
        "gb_s_in_gpu": (other, one, 2),
        "gb_s_to_gpu_pinned": (part, pinned, 1),
        "gb_s_to_gpu_plain": (part, plain, 1),
        "gb_s_from_gpu_pinned": (pinned, part, 1),
        "gb_s_from_gpu_plain": (plain, part, 1),
    }
    found: dict[str, float | str] = {
        "fact_cudnn": str(torch.backends.cudnn.version()),
        "fact_cuda": str(torch.version.cuda),
    }
    for name, (to, what, times) in moves.items():
        to.copy_(what)
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(5):
            to.copy_(what, non_blocking=True)
        torch.cuda.synchronize()
        gigabytes = 5 * times * what.numel() / 1e9
        found[f"fact_{name}"] = round(gigabytes / (time.perf_counter() - started), 1)
    return found


if __name__ == "__main__":
    main()
