"""Software bills of materials (CycloneDX) of the images, from their locks, with licences."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release.artefacts import ROOT, digest

CYCLONEDX = "cyclonedx-bom==7.5.0"
IMAGES = ("gateway", "worker", "export", "triton-cpu")

# Licences that these packages' metadata do not say as SPDX does, as their files LICENSE say.
_BY_HAND = {
    "astropy-healpix": "BSD-3-Clause",
    "future": "MIT",
    "galsim": "BSD-2-Clause",
    "huey": "MIT",
    "keras": "Apache-2.0",
    "lsstdesc-coord": "MIT",
    "namex": "Apache-2.0",
    "nvidia-pytriton": "Apache-2.0",
    "protobuf": "BSD-3-Clause",
    "psycopg2-binary": "LGPL-3.0-or-later",
    "python-rapidjson": "MIT",
    "rich-click": "MIT",
    "skops": "MIT",
    "swagger-ui-py": "Apache-2.0",
}
_CLASSIFIER = "License :: OSI Approved :: "


class LockError(Exception):
    """The environment is not what the lock says, or says no licence of a package."""


def environment_bom() -> dict[str, Any]:
    """What is installed beside this interpreter, as cyclonedx-bom lists it; uvx fetches that.

    Raises
    ------
    subprocess.CalledProcessError
        If it cannot be fetched, or fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "bom.json")
        command = [
            *(str(Path(sys.executable).with_name("uvx")), "-q", "--from", CYCLONEDX),
            *("cyclonedx-py", "environment", "--output-reproducible", "--no-validate"),
            *("--pyproject", str(ROOT / "pyproject.toml"), "-o", str(out), sys.prefix),
        ]
        subprocess.run(command, check=True)
        bom: dict[str, Any] = json.loads(out.read_text())
    return bom


def image_bom(whole: dict[str, Any], image: str) -> dict[str, Any]:
    """The part of an environment that an image is made from.

    Parameters
    ----------
    whole
        What `environment_bom` found; it is left as it is.
    image
        One of `IMAGES`, whose lock says which packages are in it.

    Raises
    ------
    LockError
        If a package of the lock is missing or of another version, or its licence is not known.
    """
    lock = ROOT / "requirements" / f"{image}.lock"
    installed = {canonicalize_name(one["name"]): one for one in whole["components"]}
    components = []
    for pin in _pins(lock):
        name = canonicalize_name(pin.name)
        found = installed.get(name)
        if found is None or f"=={found['version']}" != str(pin.specifier):
            have = "missing" if found is None else found["version"]
            raise LockError(f"{lock.name} has {pin}, which is {have} here: run `make`")
        components.append({**found, "licenses": _licences(name, found)})
    root = whole["metadata"]["component"]
    kept = {one["bom-ref"] for one in components} | {root["bom-ref"]}
    properties = [
        *whole["metadata"].get("properties", []),
        {"name": "astrotriton:image", "value": image},
        {"name": "astrotriton:lock", "value": f"requirements/{lock.name}"},
        {"name": "astrotriton:lock:sha256", "value": digest(lock)},
    ]
    return {
        **whole,
        "metadata": {**whole["metadata"], "properties": properties},
        "components": components,
        "dependencies": [
            {**one, "dependsOn": [ref for ref in one["dependsOn"] if ref in kept]}
            if "dependsOn" in one
            else one
            for one in whole["dependencies"]
            if one["ref"] in kept
        ],
    }


def licence_table(boms: dict[str, dict[str, Any]]) -> str:
    """The packages of the images with their versions and licences, in Markdown."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for image, bom in boms.items():
        for one in bom["components"]:
            row = (one["name"], one["version"], licence_of(one))
            rows.setdefault(row, []).append(image)
    lines = ["| package | version | licence | images |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {version} | {licence} | {', '.join(images)} |"
        for (name, version, licence), images in sorted(
            rows.items(), key=lambda row: canonicalize_name(row[0][0])
        )
    ]
    return "\n".join(lines) + "\n"


def licence_of(component: dict[str, Any]) -> str:
    """A component's licence, as people read it."""
    said = [
        one.get("expression") or one["license"].get("id") or one["license"]["name"]
        for one in component["licenses"]
    ]
    return "; ".join(dict.fromkeys(text.removeprefix(_CLASSIFIER) for text in said))


def _licences(name: str, component: dict[str, Any]) -> list[dict[str, Any]]:
    if name in _BY_HAND:
        return [{"license": {"id": _BY_HAND[name], "acknowledgement": "concluded"}}]
    licences: list[dict[str, Any]] = component.get("licenses", [])
    if not licences:
        raise LockError(
            f"the metadata of {name} {component['version']} say no licence: read its LICENSE, and"
            " add it to _BY_HAND of release/sbom.py"
        )
    return licences


def _pins(lock: Path) -> list[Requirement]:
    """The packages of a lock that an image, which is Linux, gets."""
    lines = lock.read_text().splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if line and not line.startswith(" ")]
    return [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
