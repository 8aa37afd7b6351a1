"""What mkdocs is told besides: pages from the project's root and from the code, and their links.

Links in every document are those of the repository, so that they work there; here they become those
of the site.
"""

import logging
import os
import posixpath
import re
from pathlib import Path
from typing import Any

import reference_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

# Where a file of the project is on the site.
PUBLISHED = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/gpu/README.md": "gpu.md",
    "benchmarks/compare.png": "compare.png",
    "benchmarks/growth.png": "growth.png",
    "helm/astrotriton/README.md": "chart.md",
    "model_repository/README.md": "model-repository.md",
    "tests/README.md": "tests.md",
    "triton-config/README.md": "triton-config.md",
}
_SOURCES = {page: source for source, page in PUBLISHED.items()}
_LINK = re.compile(r"(?<=\]\()(?P<target>[^)#\s]+)(?=(#[^)\s]*)?\))")
_FENCE = re.compile(r"(^[ ]*```.*?^[ ]*```)", re.MULTILINE | re.DOTALL)

_log = logging.getLogger("mkdocs.hooks")


def on_config(config: MkDocsConfig) -> None:
    """Let a served site be made anew when any of its sources changes."""
    config.watch = [*config.watch, *(str(ROOT / source) for source in PUBLISHED)]
    # What the pages say of the code is said by this checkout, not by an installed copy.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in `docs`."""
    for source, page in PUBLISHED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for page, text in reference_pages.made().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn the links of the repository into those of the site, outside code."""
    here = page.file.src_uri
    if here.startswith("reference/"):
        return markdown
    parts = _FENCE.split(markdown)
    for number in range(0, len(parts), 2):
        parts[number] = _LINK.sub(lambda found: _mended(found["target"], here), parts[number])
    return "".join(parts)


def on_page_content(html: str, page: Page, **_: Any) -> None:
    """Warn where a code block has not become one, as within a list without an empty line."""
    written = len(re.findall(r"^ *```\w", page.markdown or "", re.MULTILINE))
    if written != (shown := html.count('<div class="highlight"')):
        _log.warning("%s has %d code blocks, but shows %d", page.file.src_uri, written, shown)


def _mended(target: str, here: str) -> str:
    if re.match("[a-z]+:", target):
        return target
    source = _SOURCES.get(here, f"docs/{here}")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if wanted in PUBLISHED:
        place = PUBLISHED[wanted]
    elif wanted.startswith("docs/"):
        place = wanted.removeprefix("docs/")
    else:
        _log.warning("%s links to %s, which is not on the site", source, target)
        return target
    return posixpath.relpath(place, posixpath.dirname(here) or ".")
