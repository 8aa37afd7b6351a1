import ast
from pathlib import Path

import pytest

import astrotriton.detection
from astrotriton.wire.flags import FLAGS, Flag, explained, meaning_of

SCIENCE = Path(astrotriton.detection.__file__).parent


def raised_by_the_science() -> set[str]:
    """The names that the source text raises: `Flag.X`."""
    return {
        node.attr
        for file in SCIENCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Flag"
    }


def test_the_science_raises_what_is_registered_and_all_of_it():
    assert raised_by_the_science() == {flag.name for flag in FLAGS}


def test_no_other_name_can_be_raised():
    with pytest.raises(ValueError, match="not a valid Flag"):
        Flag("edgy")
    with pytest.raises(AttributeError):
        _ = Flag.EDGY  # type: ignore[attr-defined]


@pytest.mark.parametrize("flag", FLAGS)
def test_each_says_what_it_means_in_a_sentence(flag):
    assert flag == str(flag) == flag.name.lower()
    assert flag.meaning[0].isupper()
    assert flag.meaning.endswith(".")
    assert flag.meaning.count(". ") == 0
    assert flag.raised in ("source", "exposure")
    assert meaning_of(str(flag)) == flag.meaning


def test_a_name_of_another_release_has_no_meaning_here():
    assert meaning_of("of_tomorrow") is None


def test_a_list_names_each_with_its_meaning():
    assert explained([Flag.EDGE]) == f"- `edge`: {Flag.EDGE.meaning}"
