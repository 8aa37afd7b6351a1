"""The documents, as far as no server is needed: every code block runs, or says why it does not."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from markdown_it.token import Token

from astrotriton.cli import main
from astrotriton.detection.quality.truth import Truth
from tests.documents import NEEDS, ROOT, Block, blocks, blocks_that_need, documents, tokens

EVERY_BLOCK = [block for path in documents() for block in blocks(path)]
SHELL = [block for block in EVERY_BLOCK if block.language == "bash"]
REMEDY = "write <!-- run: NEED --> or <!-- not run: WHY --> on the line before it"


@pytest.mark.parametrize("block", EVERY_BLOCK, ids=str)
def test_a_block_runs_or_says_why_not(block: Block) -> None:
    assert block.language, "an indented block has no language: fence it, and name its language"
    assert block.need or block.why_not, REMEDY
    assert block.need is None or block.need in NEEDS, f"nothing runs what needs {block.need!r}"
    if block.why_not is None:
        assert block.language in ("bash", "python", "json")


def test_documents_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in documents()}
    assert {"README.md", "ARCHITECTURE.md", "docs/api.md", "benchmarks/README.md"} <= names
    assert blocks_that_need("stack")


def test_an_unmarked_block_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\ntrue\n```\n\n<!-- run: stack 1 2 -->\n```bash\ntrue\n```\n\n    indented\n"
    )
    bare, marked, indented = blocks(page)
    assert bare.need is bare.why_not is None
    assert (marked.need, marked.arguments) == ("stack", ("1", "2"))
    assert indented.language == ""


def test_what_needs_nothing_runs(tmp_path: Path) -> None:
    for block in blocks_that_need("alone"):
        if block.language == "json":
            json.loads(block.text)
        else:
            runner = {"python": [sys.executable, "-c"], "bash": ["bash", "-euc"]}[block.language]
            subprocess.run([*runner, block.text], cwd=tmp_path, check=True)


@pytest.mark.parametrize("block", blocks_that_need("truth"), ids=str)
def test_it_is_the_truth_of_a_data_set(block: Block) -> None:
    assert msgspec.json.decode(block.text, type=Truth).fields


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell_is_shell(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_its_commands_exist(block: Block) -> None:
    for words in commands(block.text):
        check_command(words)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_sentences_exist(path: Path) -> None:
    for token in inline(tokens(path)):
        for child in token.children or ():
            if child.type == "code_inline":
                try:
                    words = shlex.split(child.content)
                except ValueError:
                    continue
                check_command(words)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_it_names_exist(path: Path) -> None:
    for token in inline(tokens(path)):
        for child in token.children or ():
            name = child.content if child.type == "code_inline" else ""
            if name.startswith("dist/"):
                continue  # `make release` and `make sbom` make these.
            if re.fullmatch(r"[\w./-]+\.(py|md|yaml|toml|proto|pbtxt|sh)", name) and "/" in name:
                assert (ROOT / name).exists() or (path.parent / name).exists(), name


def test_the_readme_and_the_pages_say_the_same() -> None:
    """A table's row that both have: they may have other columns, but not another text."""
    readme = rows(ROOT / "README.md")
    for page in ("images.md", "quality.md", "speed.md"):
        shared = readme.keys() & rows(ROOT / "docs" / page).keys()
        assert shared
        for first in shared - {"`ra`, `dec`", "`flags`"}:
            assert rows(ROOT / "docs" / page)[first] == readme[first], first


def rows(path: Path) -> dict[str, str]:
    found = {}
    for line in path.read_text().splitlines():
        if match := re.match(r"\| *([^|]*\w[^|]*?) *\|(.*)\|$", line):
            found[match[1]] = match[2]
    return found


def inline(found: list[Token]) -> Iterator[Token]:
    return (token for token in found if token.type == "inline")


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a piece of shell, as far as it is made of such."""
    for line in text.replace("\\\n", " ").splitlines():
        yield shlex.split(line, comments=True)


def check_command(words: list[str]) -> None:
    """Fail if a command of ours is named that there is not."""
    if words[:1] == ["make"]:
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for word in words[1:]:
            assert "=" in word or word in targets, f"no target {word} in the Makefile"
    elif words[:2] == ["python", "-m"] and words[2:3] != ["astrotriton"]:
        assert importlib.util.find_spec(words[2]) is not None, f"no module {words[2]}"
    elif words[:3] == ["python", "-m", "astrotriton"]:
        check_options(main, words[3:])
    elif words[:1] == ["astrotriton"]:
        check_options(main, words[1:])


def check_options(command: click.Command, words: list[str]) -> None:
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"no command {name}"
        command = found
    known = {option for one in command.params for option in one.opts} | {"-h", "--help"}
    known |= {option for one in command.params for option in one.secondary_opts}
    if isinstance(command, click.Group):
        known.add("--version")
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{command.name} has no option {word}"
