"""The registry of flags has what is raised, and nothing else."""

import ast
from pathlib import Path

import msgspec

import astrotriton.detection
from astrotriton.wire.detections import ScoredDetection
from astrotriton.wire.flags import FLAGS

ROOT = Path(astrotriton.detection.__file__).parents[2]


def raised() -> set[str]:
    """Names in the dictionary of the answer's flags, and in `frozenset({...})` of reading."""
    names: set[str] = set()
    for path in sorted((ROOT / "astrotriton" / "detection").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "raised":
                assert isinstance(node.value, ast.Dict)
                names |= {str(ast.literal_eval(key)) for key in node.value.keys if key}
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "frozenset" and node.args:
                names |= {str(name) for name in ast.literal_eval(node.args[0])}
    return names


def test_every_flag_that_is_raised_is_known_and_the_other_way_round():
    assert raised() == {flag.name for flag in FLAGS}


def test_a_flag_says_where_it_is_raised():
    for flag in FLAGS:
        assert f'"{flag.name}"' in (ROOT / flag.raised_in).read_text()


def test_the_schema_names_them():
    (_, components) = msgspec.json.schema_components([ScoredDetection])
    described = components["ScoredDetection"]["properties"]["flags"]["description"]
    assert all(f"`{flag.name}`" in described for flag in FLAGS)
