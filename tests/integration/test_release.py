"""What is given away of a version: the same bytes each time, and what others check it with."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from release.artefacts import ROOT, build, digest
from release.provenance import PROVENANCE, statement
from release.sbom import IMAGES, environment_bom, image_bom, licence_of, licence_table

pytestmark = pytest.mark.package

_EPOCH = 1_700_000_000
_UV = Path(sys.executable).with_name("uv")
_CYCLONEDX = "cyclonedx-python-lib[json-validation]==11.12.0"
_IN_TOTO = "in-toto-attestation==0.9.3"
_CHECK_JSONSCHEMA = "check-jsonschema==0.39.0"


def checked_with(package: str, code: str, path: Path) -> str:
    """Run a line of code with a package that is fetched for it; the file is its argument."""
    done = subprocess.run(
        [_UV, "run", "-q", "--no-project", "--with", package, "python", "-c", code, path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build(ROOT, tmp_path_factory.mktemp("dist"), _EPOCH)


@pytest.fixture
def other_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("other_umask")
def test_the_same_sources_make_the_same_bytes(made: list[Path], tmp_path: Path) -> None:
    """In another place, at another time, with other modes of files and by another user's umask."""
    away = tmp_path / "elsewhere"
    needed = ("astrotriton", "gateway", "export", "triton-config", "helm", "monitoring")
    for name in needed:
        leave = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
        shutil.copytree(ROOT / name, away / name, symlinks=True, ignore=leave)
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / name, away / name)
    for path in away.rglob("*"):
        if path.is_file() and not path.is_symlink():
            # Git keeps who may run a file, and nothing else.
            path.chmod(0o700 if path.stat().st_mode & 0o100 else 0o600)
            os.utime(path, (1, 1))
    (tmp_path / "dist").mkdir()
    again = build(away, tmp_path / "dist", _EPOCH)
    assert sorted(path.suffix for path in made) == [".gz", ".tgz", ".whl"]
    for first, second in zip(made, again, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes(), first.name


def test_another_time_makes_other_bytes(made: list[Path], tmp_path: Path) -> None:
    """Or the comparison above would compare nothing."""
    again = build(ROOT, tmp_path, _EPOCH + 86_400)
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(made, again, strict=True))


def test_the_provenance_is_an_in_toto_statement(made: list[Path], tmp_path: Path) -> None:
    told = statement(
        made,
        source=ROOT,
        repository="git+https://example.org/astrotriton.git",
        commit="0" * 40,
        epoch=_EPOCH,
        builder="https://example.org/builder",
    )
    path = tmp_path / "provenance.json"
    path.write_text(json.dumps(told))
    # The reference implementation of the format validates it, and knows every field.
    read = checked_with(
        _IN_TOTO,
        "import json, sys; from google.protobuf import json_format as j;"
        "from in_toto_attestation.v1 import statement_pb2 as s, statement;"
        "from in_toto_attestation.predicates.provenance.v1 import provenance_pb2 as p;"
        "t = json.load(open(sys.argv[1]));"
        "m = j.ParseDict(t, s.Statement()); statement.Statement.copy_from_pb(m).validate();"
        "j.ParseDict(t['predicate'], p.Provenance()); print(m.predicate_type)",
        path,
    )
    assert read.strip() == PROVENANCE
    assert {one["name"]: one["digest"]["sha256"] for one in told["subject"]} == {
        path.name: digest(path) for path in made
    }
    locks = told["predicate"]["buildDefinition"]["resolvedDependencies"][1:]
    assert {one["name"]: one["digest"]["sha256"] for one in locks} == {
        one["name"]: digest(ROOT / one["name"]) for one in locks
    }
    assert "requirements/build.lock" in {one["name"] for one in locks}


@pytest.fixture(scope="module")
def boms() -> dict[str, dict[str, Any]]:
    whole = environment_bom()
    return {image: image_bom(whole, image) for image in IMAGES}


@pytest.mark.parametrize("image", IMAGES)
def test_each_package_of_an_image_is_listed_with_its_licence(
    boms: dict[str, dict[str, Any]], image: str, tmp_path: Path
) -> None:
    bom = boms[image]
    names = {canonicalize_name(one["name"]) for one in bom["components"]}
    assert {"numpy", "protobuf"} <= names
    assert ("astropy" in names) == (image != "triton-cpu")
    assert ("evidently" in names) == (image in ("worker", "export"))
    assert ("tensorflow-cpu" in names) == (image == "export")
    assert not names & {"pytest", "mypy", "ruff"}
    assert all(licence_of(one) for one in bom["components"])
    refs = [one["bom-ref"] for one in bom["components"]]
    edges = [ref for one in bom["dependencies"] for ref in one.get("dependsOn", [])]
    assert set(edges) <= set(refs)
    path = tmp_path / "bom.json"
    path.write_text(json.dumps(bom))
    faults = checked_with(
        _CYCLONEDX,
        "import sys; from cyclonedx.schema import SchemaVersion as v;"
        "from cyclonedx.validation.json import JsonStrictValidator as j;"
        "print(j(v.V1_6).validate_str(open(sys.argv[1]).read()))",
        path,
    )
    assert faults.strip() == "None"


def test_the_licences_are_a_table_for_people(boms: dict[str, dict[str, Any]]) -> None:
    table = licence_table(boms)
    assert "| msgspec |" in table
    assert "gateway, worker, export |" in table


def test_dependabot_reads_its_settings() -> None:
    done = subprocess.run(
        [
            *(_UV.with_name("uvx"), "-q", "--from", _CHECK_JSONSCHEMA, "check-jsonschema"),
            *("--builtin-schema", "vendor.dependabot", ROOT / ".github" / "dependabot.yml"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
