"""The slowest tests of one or more runs, and how all of them ended.

``python -m tests.slowest REPORT...`` reads what ``pytest --junit-xml`` has written, prints a table
of the slowest twenty tests, and last one line such as ``1041 passed, 0 failed``; it exits with 1 if
a test failed or a report is missing. ``--readme`` also puts the table into ``tests/README.md``.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import click

README = Path(__file__).with_name("README.md")
_SHOWN = 20
_BEGIN, _END = "<!-- slowest: begin -->", "<!-- slowest: end -->"


class Test(NamedTuple):
    """One test that was run.

    Attributes
    ----------
    name
        ``tests/integration/test_x.py::test_y``.
    group
        The group of long tests that it is in, or ``test``.
    seconds
        It took, with its fixtures.
    outcome
        ``passed``, ``failed`` or ``skipped``; an error in a fixture is a failure.
    """

    name: str
    group: str
    seconds: float
    outcome: str


def read(report: Path) -> list[Test]:
    """The tests of a report.

    Raises
    ------
    OSError, xml.etree.ElementTree.ParseError
        If there is none.
    """
    # One test may be there twice: it failed, and so did a fixture as it was taken down.
    found: dict[str, Test] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        group = case.find("properties/property[@name='group']")
        outcome = "passed"
        if case.find("skipped") is not None:
            outcome = "skipped"
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = "failed"
        seconds = float(case.get("time", 0.0))
        if (before := found.get(name)) is not None:
            seconds += before.seconds
            outcome = "failed" if "failed" in (outcome, before.outcome) else outcome
        found[name] = Test(
            name, "test" if group is None else group.get("value", ""), seconds, outcome
        )
    return list(found.values())


def table(tests: Iterable[Test]) -> str:
    """The slowest tests, in Markdown."""
    lines = ["| s | group | test |", "|---|---|---|"]
    slowest = sorted(tests, key=lambda test: -test.seconds)[:_SHOWN]
    lines += [f"| {test.seconds:.0f} | {test.group} | `{test.name}` |" for test in slowest]
    return "\n".join(lines)


def write(text: str, readme: Path = README) -> None:
    """Put a table in the place of the one that the README has."""
    pattern = re.compile(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", re.DOTALL)
    made, count = pattern.subn(lambda _: f"{_BEGIN}\n{text}\n{_END}", readme.read_text())
    if count != 1:
        raise ValueError(f"{readme} has no place for the table: {_BEGIN} and {_END}")
    readme.write_text(made)


@click.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--readme", is_flag=True, help="Put the table into tests/README.md too.")
def main(reports: tuple[Path, ...], readme: bool) -> None:
    """Print the slowest tests of REPORTS, and how all of them ended."""
    tests: list[Test] = []
    missing = 0
    for report in reports:
        try:
            tests += read(report)
        except (OSError, ElementTree.ParseError) as error:
            click.echo(f"{report} cannot be read: {error}", err=True)
            missing += 1
    text = table(tests)
    if readme:
        write(text)
    click.echo(text)
    outcomes = Counter(test.outcome for test in tests)
    failed = outcomes["failed"] + missing
    if outcomes["skipped"]:
        click.echo(f"\n{outcomes['skipped']} skipped")
    click.echo(f"\n{outcomes['passed']} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
