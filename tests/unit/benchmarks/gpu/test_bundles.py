"""What is carried: packing, cutting into parts, unpacking, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import bundles, machine

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def content(folder: Path) -> Path:
    """Files of several kinds, which do not fit in one part."""
    deep = folder / "site" / "package"
    deep.mkdir(parents=True)
    (deep / "module.py").write_text("VALUE = 7\n")
    (deep / "noise.bin").write_bytes(bytes(i * i % 251 for i in range(100_000)))
    program = folder / "site" / "bin" / "nats-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (folder / "site" / "link").symlink_to("package/module.py")
    (deep / "__pycache__").mkdir()
    (deep / "__pycache__" / "module.pyc").write_bytes(b"stale")
    return folder


def packed(tmp_path: Path, python: str = VERSION) -> tuple[Path, bundles.Bundle]:
    files = content(tmp_path / "files")
    pack = tmp_path / "pack"
    return pack, bundles.write(pack, "triton", "to try", files, python, part=500)


def test_a_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    pack, bundle = packed(tmp_path)
    assert len(bundle.parts) > 1
    assert all((pack / name).stat().st_size <= 500 for name in bundle.parts)
    bundles.unpack(pack, bundles.read(pack, VERSION)["triton"], tmp_path / "there")
    site = tmp_path / "there" / "site"
    for name in ("package/module.py", "package/noise.bin"):
        assert (site / name).read_bytes() == (tmp_path / "files" / "site" / name).read_bytes()
    assert (site / "bin" / "nats-server").stat().st_mode & 0o111
    assert (site / "link").readlink() == Path("package/module.py")
    assert not (site / "package" / "__pycache__").exists()


def test_equal_files_make_equal_packs(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    _, first = packed(tmp_path)
    _, second = packed(tmp_path / "again")
    assert first == second


def test_a_smaller_packing_leaves_no_parts_of_the_larger_one(tmp_path: Path) -> None:
    pack, before = packed(tmp_path)
    after = bundles.write(pack, "triton", "to try", tmp_path / "files", VERSION)
    assert len(after.parts) < len(before.parts)
    assert {path.name for path in pack.iterdir()} == {*after.parts, bundles.PACK_FILE}


def test_a_damaged_part_is_refused(tmp_path: Path) -> None:
    pack, bundle = packed(tmp_path)
    (pack / next(iter(bundle.parts))).write_bytes(b"not it")
    with pytest.raises(bundles.PackError, match="damaged"):
        bundles.unpack(pack, bundle, tmp_path / "there")


def test_a_pack_for_another_python_is_refused(tmp_path: Path) -> None:
    pack, _ = packed(tmp_path, python="3.99")
    with pytest.raises(bundles.PackError, match=r"for Python 3\.99"):
        bundles.read(pack, VERSION)
    with pytest.raises(bundles.PackError, match=r"for Python 3\.99"):
        bundles.write(pack, "other", "to try", tmp_path / "files", VERSION)
    with pytest.raises(bundles.PackError, match="make gpu-pack"):
        bundles.read(tmp_path, VERSION)


def test_the_machine_runs_on_without_a_bundle_whose_parts_are_missing(tmp_path: Path) -> None:
    pack, bundle = packed(tmp_path)
    whole = tmp_path / "whole" / "site" / "small"
    whole.mkdir(parents=True)
    (whole / "__init__.py").write_text("VALUE = 5\n")
    bundles.write(pack, "whole", "to try", tmp_path / "whole", VERSION)
    last = list(bundle.parts)[-1]
    held = (pack / last).read_bytes()
    (pack / last).unlink()

    work = tmp_path / "work"
    python = machine.prepare(pack, work)
    noted = json.loads((work / machine.UNPACKED_FILE).read_text())
    assert noted["whole"]["problem"] == ""
    assert last in noted["triton"]["problem"]

    # The part comes later, as it does when a call carries one at a time.
    (pack / last).write_bytes(held)
    python = machine.prepare(pack, work)
    assert json.loads((work / machine.UNPACKED_FILE).read_text())["triton"]["problem"] == ""
    assert (python.parent / "nats-server").exists()
    script = "import package.module, small, numpy; print(package.module.VALUE + small.VALUE)"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "12\n"


def test_what_is_unpacked_is_not_unpacked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, _ = packed(tmp_path)
    machine.prepare(pack, tmp_path / "work")

    def refused(*_: object) -> None:
        raise AssertionError("it was unpacked before")

    monkeypatch.setattr(bundles, "unpack", refused)
    machine.prepare(pack, tmp_path / "work")
