"""Reference pages that are made from the code, so that they say what it does."""

import ast
import json
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from astrotriton.cli import main
from astrotriton.commands import models
from astrotriton.gateway import errors
from astrotriton.gateway.__main__ import main as gateway
from astrotriton.gateway.backends.stream import MAX_AGE, STREAM
from astrotriton.gateway.services.runs import EVENTS_KEPT
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.settings import GateSettings, ModelConfig
from astrotriton.stack.healing import Healing
from astrotriton.wire.events import EVENTS, schema_of
from astrotriton.wire.flags import FLAGS

ROOT = Path(__file__).parents[1]

# Title, what reads it, and the settings.
_SETTINGS: tuple[tuple[str, str, type[BaseSettings]], ...] = (
    ("Model", "The export, the gateway and the stack read these.", ModelConfig),
    ("Gateway", "The gateway reads these.", GatewaySettings),
    ("Stack", "`make up` and `make demo` read these.", Healing),
    (
        "Export and promotion",
        "`astrotriton export`, `verify`, `promote`, `rollback` and `models` read these.",
        models.PromotionSettings,
    ),
    (
        "Gates",
        "These are the limits of [the gates](../models.md#the-gates). The export and the gateway "
        "read them.",
        GateSettings,
    ),
)


def made() -> dict[str, str]:
    """The pages by their place on the site."""
    return {
        "reference/settings.md": _settings(),
        "reference/flags.md": _flags(),
        "reference/events.md": _events(),
        "reference/problems.md": _problems(),
        "reference/cli.md": _command_line(),
        **{
            f"schema/events/{kind}.json": json.dumps(schema_of(kind), indent=2) + "\n"
            for kind in EVENTS
        },
    }


def _settings() -> str:
    lines = [
        "# Settings",
        "",
        "Each setting is an environment variable. A value that is not valid ends the program at "
        "its start, with the name of the variable.",
    ]
    for title, readers, settings in _SETTINGS:
        prefix = settings.model_config["env_prefix"]
        rows = [
            (f"`{prefix}{name.upper()}`", _type(field), _default(field), field.description or "")
            for name, field in settings.model_fields.items()
        ]
        lines += ["", f"## {title}", "", readers, "", *_table(*rows)]
    lines += [
        "",
        "## Folders and the command line",
        "",
        *_table(
            (
                "`ASTROTRITON_DATA`",
                "path",
                "",
                "Folder where the servers of this machine keep their state. Left out: `var/` of "
                "the checkout or, without a checkout, the user's own data folder.",
            ),
            *_options(),
        ),
    ]
    return "\n".join(lines) + "\n"


def _options() -> Iterator[tuple[str, ...]]:
    """Options that are read from the environment too; each variable once."""
    found: dict[str, tuple[str, str, list[str]]] = {}
    for path, command in _commands(main, ("astrotriton",)):
        for option in command.params:
            if isinstance(option, click.Option) and isinstance(option.envvar, str):
                text = (option.help or "").replace(
                    "best by $NAME.", "better here than as an option."
                )
                found.setdefault(option.envvar, (option.type.name, text, []))[2].append(path)
    for name, (kind, text, commands) in sorted(found.items()):
        readers = ", ".join(f"`{command}`" for command in sorted(commands))
        yield f"`{name}`", kind, "", f"{text} Read by {readers}."


def _command_line() -> str:
    lines = [
        "# Command line",
        "",
        "This page shows what `--help` prints for each command. [Settings](settings.md) has the "
        "variables that a command reads besides its options.",
    ]
    for root, name in ((main, "astrotriton"), (gateway, "python -m astrotriton.gateway")):
        for path, command in _commands(root, (name,)):
            context = click.Context(command, info_name=path, terminal_width=90)
            lines += ["", f"## {path}", "", "```text", command.get_help(context), "```"]
    return "\n".join(lines) + "\n"


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """A command and those below it, each with the words that call it."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _commands(inner, (*path, name))


def _table(*rows: tuple[str, ...]) -> list[str]:
    return [
        "| variable | type | default | meaning |",
        "|---|---|---|---|",
        *("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows),
    ]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _type(field: FieldInfo) -> str:
    bounds = []
    for bound in field.metadata:
        for name, sign in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
            if (value := getattr(bound, name, None)) is not None:
                bounds.append(f"{sign} {value:g}")
    return ", ".join([_named(field.annotation), *bounds])


def _named(kind: Any) -> str:
    if kind is None or kind is type(None):
        return ""
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(filter(None, map(_named, get_args(kind))))
    if get_origin(kind) in (list, tuple):
        return "JSON list of " + _named(get_args(kind)[0])
    names = {
        str: "text",
        int: "integer",
        float: "number",
        bool: "`true` or `false`",
        SecretStr: "text, secret",
        Path: "path",
    }
    return names[kind]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    default = field.get_default(call_default_factory=True)
    if default is None or default in ("", PydanticUndefined):
        return ""
    if isinstance(default, list | tuple | bool):
        return f"`{json.dumps(default)}`"
    return f"`{default}`"


def _flags() -> str:
    lines = [
        "# Flags",
        "",
        "A flag says what you should know about a source or about a whole exposure. The answer "
        "lists them in `flags`; those of the exposure are repeated on each of its detections.",
        "",
        "| flag | raised for | meaning |",
        "|---|---|---|",
    ]
    for flag in FLAGS:
        cells = (f"`{flag}`", f"the {flag.raised}", flag.meaning)
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def _events() -> str:
    lines = [
        "# Events",
        "",
        "The gateway publishes [CloudEvents 1.0](https://cloudevents.io) in structured JSON on "
        f"NATS JetStream, in the stream `{STREAM}`. The NATS subject of an event is its `type`. "
        "The gateway makes the stream where it is missing, and keeps events for "
        f"{MAX_AGE / 86400:g} days unless `ASTROTRITON_NATS_MAX_AGE` or "
        "`ASTROTRITON_NATS_MAX_BYTES` says otherwise; to a stream that an operator has made, it "
        "only adds the missing subjects, unless one of these is set.",
        "",
        "An event is written to the outbox in the same transaction as what it tells of, and is "
        "published until JetStream acknowledges it. Its `id` is also the id by which JetStream "
        "drops repetitions, within two minutes unless the stream's `duplicate_window` says "
        "otherwise. A consumer may see an event twice, and never misses one that the stream still "
        f"keeps. The outbox keeps a published event for {EVENTS_KEPT.days} days, and publishes it "
        "again if NATS has lost it ([a power cut](../operations.md#a-power-cut)).",
        "",
        "The attribute `dataschema` of an event is the address of its JSON Schema at the gateway, "
        "`/schema/events/TYPE.json`. These are the same schemas.",
    ]
    for kind, event in EVENTS.items():
        lines += [
            "",
            f"## {kind}",
            "",
            f"{event.tells} The attribute `subject` is {event.subject}.",
            "",
            f"[JSON Schema](../schema/events/{kind}.json) of `data`:",
            "",
            "```json",
            json.dumps(schema_of(kind), indent=2),
            "```",
        ]
    return "\n".join(lines) + "\n"


def _problems() -> str:
    lines = [
        "# Problems",
        "",
        "An error is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem, "
        "`application/problem+json`. Its `type` is the prefix "
        f"`{errors.PROBLEM_PREFIX}` and one of the codes below; programs go by it, and it stays "
        "what it is. `title` and `detail` are for people and may change. `field` names the part of "
        "the request that is wrong, and `dependency` the part of the service that failed. A 429 "
        "or a 503 says in `Retry-After` when to come back.",
        "",
        "## Of the service",
        "",
        "| code | status | meaning |",
        "|---|---|---|",
    ]
    known = {
        (kind.code, kind.status, (kind.__doc__ or kind.title).strip().split("\n")[0])
        for kind in _subclasses(errors.GatewayError)
        if "code" in vars(kind)
    }
    known |= {(code, status, f"{title}.") for status, (code, title) in errors.HTTP_PROBLEMS.items()}
    known |= set(_literal_problems())
    by_code: dict[str, tuple[int, str]] = {}
    for code, status, text in sorted(known):
        by_code.setdefault(code, (status, text))
    for code, (status, text) in sorted(by_code.items(), key=lambda one: (one[1][0], one[0])):
        lines.append(f"| `{code}` | {status} | {_cell(text)} |")
    lines += [
        "",
        "## Of the input",
        "",
        "These are answers to an exposure, a plane or a field of the request that cannot be "
        "scored: 413 for `too-large`, and 422 for the others. `detail` says what to do.",
        "",
        "| code | where it comes from |",
        "|---|---|",
    ]
    for code, places in sorted(_input_codes().items()):
        lines.append(f"| `{code}` | " + ", ".join(f"`{place}`" for place in sorted(places)) + " |")
    return "\n".join(lines) + "\n"


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _subclasses(inner)


def _calls(name: str, *folders: str) -> Iterator[tuple[Path, ast.Call]]:
    """Calls of a function of this name in the sources, and where they stand."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
                    yield path.relative_to(ROOT), node


def _literal_problems() -> Iterator[tuple[str, int, str]]:
    for _, call in _calls("_problem", "gateway"):
        values = [one.value for one in call.args[:3] if isinstance(one, ast.Constant)]
        if len(values) == 3:
            code, title, status = values
            yield str(code), int(str(status)), f"{title}."


def _input_codes() -> dict[str, set[Path]]:
    codes: dict[str, set[Path]] = defaultdict(set)
    for path, call in _calls("InputError", "astrotriton/detection", "gateway"):
        if call.args and isinstance(call.args[0], ast.Constant):
            codes[str(call.args[0].value)].add(path)
    for path, _ in _calls("TooLargeError", "astrotriton/detection", "gateway"):
        codes["too-large"].add(path)
    return codes
