"""The code blocks of the documents, and what each of them needs to run.

A comment before a block says it:

``<!-- run: alone -->``
    Nothing. Python is run, JSON is decoded.
``<!-- run: truth -->``
    Nothing; the block is a `truth.json` of a labelled data set.
``<!-- run: stack -->``
    The stack of the tests, which keeps serving. What follows the word are arguments of a script.
``<!-- run: own stack -->``
    No running stack: the block starts and stops one.
``<!-- run: promotion -->``
    A stack with registered versions of a small network, which the block brings into service.
``<!-- not run: WHY -->``
    It is not run. Its shell is checked nevertheless: syntax, commands, targets of `make`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PLACES = (
    "*.md",
    "docs/**/*.md",
    "benchmarks/**/*.md",
    "helm/*/README*.md",
    "model_repository/*.md",
    "tests/*.md",
    "triton-config/*.md",
)
NEEDS = ("alone", "truth", "stack", "own stack", "promotion")
_MARKER = re.compile(r"<!-- (?:run: (?P<run>.+?)|not run: (?P<why>.{5,}?)) -->")
_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A code block: where it stands, what it says, and what its marker says of it."""

    path: Path
    line: int
    language: str
    text: str
    need: str | None
    arguments: tuple[str, ...]
    why_not: str | None

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """Every document of the project."""
    return sorted({path for place in PLACES for path in ROOT.glob(place)})


def tokens(path: Path) -> list[Token]:
    """A document's blocks of all kinds."""
    return _PARSER.parse(path.read_text())


def blocks(path: Path) -> list[Block]:
    """The code blocks of a document."""
    found, before = [], None
    for token in tokens(path):
        if token.type in ("fence", "code_block"):
            found.append(_block(path, token, before))
        before = token
    return found


def blocks_that_need(need: str) -> list[Block]:
    """The blocks that run with this, of all documents; a chart's README repeats its head."""
    return [
        block
        for path in documents()
        if path.name != "README.head.md"
        for block in blocks(path)
        if block.need == need
    ]


def _block(path: Path, token: Token, before: Token | None) -> Block:
    comment = before.content.strip() if before and before.type == "html_block" else ""
    marker = _MARKER.fullmatch(comment)
    run = marker["run"] if marker else None
    need = next((need for need in NEEDS if run and re.match(rf"{need}(\s|$)", run)), run)
    return Block(
        path=path,
        line=(token.map or [0])[0] + 1,
        language=token.info.strip() if token.type == "fence" else "",
        text=token.content,
        need=need,
        arguments=tuple(run.removeprefix(need).split()) if run and need else (),
        why_not=marker["why"] if marker else None,
    )
