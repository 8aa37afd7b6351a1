"""The client is light: importing it brings httpx, msgspec and nothing heavier."""

import json
import subprocess
import sys

CODE = """
import json, sys
import httpx, msgspec
before = set(sys.modules)
import astrotriton.client
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_the_client_imports_no_other_library():
    printed = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    ).stdout
    packages = {name.split(".")[0] for name in json.loads(printed)} - set(sys.stdlib_module_names)
    assert packages == {"astrotriton"}
    own = {name.split(".")[1] for name in json.loads(printed) if name.startswith("astrotriton.")}
    assert own == {"client", "wire"}
