"""The pages that are made from the code have what the code has."""

import json
import re
import runpy

import pytest

from astrotriton.wire.events import EVENTS
from astrotriton.wire.flags import FLAGS
from tests.documents import ROOT, documents

# Of the tests alone.
OURS = {"ASTROTRITON_SCREENSHOTS", "ASTROTRITON_TEST_SEED"}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    made: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "reference_pages.py"))["made"]()
    return made


def test_every_variable_that_a_document_names_is_a_setting(pages: dict[str, str]) -> None:
    known = set(re.findall(r"^\| `(\w+)`", pages["reference/settings.md"], re.MULTILINE)) | OURS
    for path in documents():
        named = set(re.findall(r"\bASTROTRITON_[A-Z0-9_]*[A-Z0-9]\b(?!_)", path.read_text()))
        assert named <= known, f"{path.relative_to(ROOT)}: {sorted(named - known)}"


def test_flags_events_and_their_schemas_are_there(pages: dict[str, str]) -> None:
    for flag in FLAGS:
        assert f"| `{flag}` |" in pages["reference/flags.md"]
    for kind in EVENTS:
        assert f"## {kind}\n" in pages["reference/events.md"]
        assert json.loads(pages[f"schema/events/{kind}.json"])["title"] == kind


def test_problems_of_every_kind_are_there(pages: dict[str, str]) -> None:
    page = pages["reference/problems.md"]
    for code in ("busy", "not-found", "invalid-request", "internal-error", "not-fits", "too-large"):
        assert f"| `{code}` |" in page


def test_the_command_line_has_every_command(pages: dict[str, str]) -> None:
    for command in ("promote", "keys create", "evaluate", "score"):
        assert f"## astrotriton {command}\n" in pages["reference/cli.md"]
    assert "## python -m astrotriton.gateway migrate\n" in pages["reference/cli.md"]
