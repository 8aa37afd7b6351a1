"""Where the parts of astrotriton lie, and where it keeps its data, in a checkout and installed."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent

IMPORTS = _PACKAGE.parent
"""What ``PYTHONPATH`` holds for a process that runs ``python -m astrotriton...``."""

TRITON_CONFIG = (_PACKAGE / "triton-config").resolve()
"""Triton's flags, the profiles of ``config.pbtxt``, and the Python-based backend."""


def data_folder() -> Path:
    """Where the servers of this machine keep their state; it may not be there yet.

    ``ASTROTRITON_DATA``, else ``var/`` of the checkout, else the user's own data folder.
    """
    if chosen := os.environ.get("ASTROTRITON_DATA"):
        data = Path(chosen)
    elif (IMPORTS / "pyproject.toml").exists():
        data = IMPORTS / "var"
    else:
        from platformdirs import user_data_path  # of the extra `stack`

        data = user_data_path("astrotriton")
    return data
