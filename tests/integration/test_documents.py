"""Every code block of the documents that needs servers, as it stands there."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import pytest

from astrotriton.export import registry
from astrotriton.simulation.fields import simulate
from astrotriton.stack import Addresses, down, running
from astrotriton.training.exposures import demo_field, to_fits
from tests.documents import ROOT, Block, blocks_that_need
from tests.integration.promotion_parts import (
    NAME,
    Site,
    set_up_registry,
    whole_stack,
)

pytestmark = pytest.mark.documents

# What the documents call things, where it is something else here.
_GATEWAY, _TRITON = "127.0.0.1:8000", "127.0.0.1:8001"
_MODEL, _VERSION = "unet_astronomical", 7


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder like the project's root, with the files that the documents name."""
    for entry in ROOT.iterdir():
        if entry.name not in {".git", ".venv", "var", "out", "site"}:
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (tmp_path / ".venv" / name).symlink_to(Path(sys.executable).parent.parent / name)
    # In this order, so that `make` takes both for made.
    for name in (".stamp", ".compiled"):
        (tmp_path / ".venv" / name).touch()
    for name in ("difference", "exposure", "large", "my_difference"):
        (tmp_path / f"{name}.fits").write_bytes(to_fits(demo_field()))
    (tmp_path / "night").mkdir()
    for seed in (1, 2):
        (tmp_path / "night" / f"{seed}.fits").write_bytes(to_fits(simulate(seed)))
    (tmp_path / "candidates.csv").write_text("id,x,y\na,128.9,127.7\nb,60,181\n")
    # A refusal by the gateway must end the block.
    (tmp_path / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    return tmp_path


def run(block: Block, place: Path, names: dict[str, str], **environment: str) -> str:
    """Run a block in a folder; ``names`` are put in the place of those of the documents."""
    text, arguments = block.text, list(block.arguments)
    for name, here in names.items():
        text = text.replace(name, here)
        arguments = [argument.replace(name, here) for argument in arguments]
    runner = {
        "python": [sys.executable, "-c", text, *arguments],
        "bash": ["bash", "-euo", "pipefail", "-c", text, "bash", *arguments],
    }[block.language]
    done = subprocess.run(
        runner,
        cwd=place,
        env={
            **os.environ,
            **environment,
            "CURL_HOME": str(place),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("block", blocks_that_need("stack"), ids=str)
def test_it_runs_on_a_stack(
    block: Block, place: Path, served: Addresses, served_data: Path
) -> None:
    assert block.language != "bash" or shutil.which("curl"), "the documents use curl"
    (place / "var").symlink_to(served_data)
    versions = f"var/model_repository/{_MODEL}"
    (version,) = (path.name for path in (place / versions).glob("[0-9]*"))
    printed = run(
        block,
        place,
        {
            _GATEWAY: served.gateway_url.removeprefix("http://"),
            _TRITON: served.triton_grpc,
            f"{versions}/1": f"{versions}/{version}",
        },
        GATEWAY=served.gateway_url,
        ASTROTRITON_DATA=str(served_data),
        ASTROTRITON_DATABASE_URL=served.database_url,
    )
    if "difference from Keras" in block.text:
        assert float(printed.split()[-1]) < 1e-4


def test_the_tutorial_runs(place: Path, served: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell of the notebook in its order, and what a notebook would show of it."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    code = "\n".join(map(shown, cells(ROOT / "docs" / "tutorial.ipynb")))
    block = Block(ROOT / "docs" / "tutorial.ipynb", 1, "python", code, "stack", (), None)
    printed = run(block, place, {}, GATEWAY=served.gateway_url)
    assert printed.startswith("'ready'")
    assert "<Run " in printed
    assert "labelled real" in printed


def cells(notebook: Path) -> list[str]:
    """The code of a notebook."""
    found = json.loads(notebook.read_text())["cells"]
    return ["".join(one["source"]) for one in found if one["cell_type"] == "code"]


def shown(cell: str) -> str:
    """A cell whose last expression is written, as HTML or a picture too where it can be."""
    *first, last = ast.parse(cell).body
    if not isinstance(last, ast.Expr):
        return cell
    writing = """
print(repr(_))
for _form in ("_repr_html_", "_repr_png_"):
    assert not hasattr(_, _form) or getattr(_, _form)()"""
    return "\n".join([*map(ast.unparse, first), f"_ = {ast.unparse(last)}", writing])


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    data = tmp_path_factory.mktemp("own")
    yield data
    down(data)


@pytest.mark.parametrize("block", blocks_that_need("own stack"), ids=str)
def test_it_starts_and_stops_a_stack(block: Block, place: Path, own_data: Path) -> None:
    printed = run(block, place, {}, ASTROTRITON_DATA=str(own_data))
    assert "http://" in printed
    assert running(own_data) is None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A stack whose champion is version 1 of a small network; version 2 waits."""
    before = mlflow.get_tracking_uri()
    with whole_stack(tmp_path_factory.mktemp("stack")) as made:
        mlflow.set_tracking_uri(made.addresses.mlflow_url)
        set_up_registry()
        made.release(1)
        made.gateway = made.start_gateway()
        yield made
    mlflow.set_tracking_uri(before)


# Every block is a command, or several, that imports TensorFlow anew.
@pytest.mark.timeout(2400)
@pytest.mark.skipif(not blocks_that_need("promotion"), reason="no document has such a block")
def test_they_bring_a_model_into_service(place: Path, site: Site) -> None:
    """All of them in their order: each goes on where the one before ended."""
    environment = {
        **site.environment(),
        "ASTROTRITON_DATA": str(site.data.with_name("no_stack_here")),
        "ASTROTRITON_MODEL_NAME": NAME,
        "ASTROTRITON_INPUT_SIZE": "[64, 64]",
        "ASTROTRITON_BATCH_SIZE": "8",
        "ASTROTRITON_ENABLE_GPU": "false",
        "ASTROTRITON_MODEL_REPOSITORY": str(site.root),
        "ASTROTRITON_TRITON_GRPC": ",".join(site.replicas),
        "ASTROTRITON_GATEWAY_URL": site.addresses.gateway_url,
        # What the small network reaches, and a busy machine takes.
        "ASTROTRITON_GATE_MAX_ECE": "1",
        "ASTROTRITON_GATE_MAX_LOSS": "1",
        "ASTROTRITON_GATE_MAX_TRADE": "1",
        "ASTROTRITON_GATE_MAX_LATENCY_RATIO": "100",
        "ASTROTRITON_GATE_MAX_MEMORY_RATIO": "100",
        "ASTROTRITON_GATE_MIN_AVERAGE_PRECISION": "0",
        "ASTROTRITON_GATE_MIN_COMPLETENESS": "0",
        "ASTROTRITON_GATE_MIN_PURITY": "0",
    }
    names = {f"models:/{_MODEL}/{_VERSION}": f"models:/{NAME}/2", _MODEL: NAME}
    # As few fields as there may be: with 32 of them a gate takes minutes.
    names |= {f"{name} ": f"{name} --fields 4 " for name in ("verify", "promote")}
    for block in blocks_that_need("promotion"):
        run(block, place, names, **environment)
    route = httpx.get(f"{site.addresses.gateway_url}/models/{NAME}/route").json()
    assert (route["champion"], route["challenger"]) == (1, None)
    assert [one.version for one in registry.versions(NAME)] == [1, 2, 3]
