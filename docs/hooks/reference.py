"""Reference pages made from the code: commands from the command line itself, file formats from the data classes.

A page says ``<!-- commands -->``, or ``<!-- fields: module.Class ... -->`` where the tables of these classes belong.
"""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import griffe
import typer.main

from igniter_opt.base.schema import Record
from igniter_opt.cli.main import app

PROGRAM = "igniter-opt"
_COMMANDS = "<!-- commands -->"
_FIELDS = re.compile(r"<!-- fields: (.*?) -->", flags=re.DOTALL)
# Keys of JSON schemas, and pydantic's own where a validator comes before the limit.
_LIMITS = {
    "exclusiveMinimum": "> ",
    "gt": "> ",
    "minimum": "≥ ",
    "ge": "≥ ",
    "exclusiveMaximum": "< ",
    "lt": "< ",
    "maximum": "≤ ",
    "le": "≤ ",
}
# Larger ones only catch typing errors.
_LARGE = 1e9


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what a page asks for."""
    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, "\n".join(commands()))
    return _FIELDS.sub(lambda found: "\n".join(line for name in found[1].split() for line in fields(name)), markdown)


def commands() -> Iterator[str]:
    """Markdown on every command."""
    group = typer.main.get_command(app)
    yield from _command(group, group.make_context(PROGRAM, [], resilient_parsing=True), 2)


def _command(command: Any, context: Any, level: int) -> Iterator[str]:
    path = context.command_path
    yield f"{'#' * level} `{path}`\n"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        text = " ".join(paragraph.split())
        example = text.removeprefix("Example: ")
        yield f"{text}\n" if example == text else f"```\n{example}\n```\n"
    yield f"Usage: `{' '.join([path, *command.collect_usage_pieces(context)])}`\n"
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [record for record in records if record is not None]
    if rows:
        yield "| option or argument | |\n| --- | --- |"
        yield from (f"| {_code(name)} | {_cell(text)} |" for name, text in rows)
        yield ""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _command(inner, inner.make_context(name, [], parent=context, resilient_parsing=True), level + 1)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def fields(name: str) -> Iterator[str]:
    """Markdown on the keys of a file format's record, given as module.Class."""
    module, _, kind = name.rpartition(".")
    record: type[Record] = getattr(importlib.import_module(module), kind)
    schema = record.model_json_schema()
    if "$ref" in schema:
        schema = schema["$defs"][_name(schema)]
    yield f"#### {kind}\n"
    notes = []
    for section in griffe.Docstring(inspect.getdoc(record) or "").parse("numpy"):
        if section.kind is griffe.DocstringSectionKind.text:
            yield f"{section.value}\n"
        elif section.kind is griffe.DocstringSectionKind.attributes:
            notes += [f"- `{entry.name.replace(', ', '`, `')}`: {entry.description}" for entry in section.value]
    yield "| key | value | if not given |\n| --- | --- | --- |"
    for key, entry in schema["properties"].items():
        yield f"| `{key}` | {_cell(_type(entry))} | {_default(schema, key)} |"
    yield from ("", *notes, "")


def _default(schema: dict[str, Any], key: str) -> str:
    if key in schema.get("required", ()):
        return "required"
    default = schema["properties"][key].get("default")
    return f"`{json.dumps(default)}`" if isinstance(default, str | int | float) and default != "" else "-"


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"].rpartition("/")[2])


def _linked(reference: dict[str, Any]) -> str:
    return f"[{_name(reference)}](#{_name(reference).lower()})"


def _type(entry: dict[str, Any]) -> str:
    """What JSON values a key takes, in words."""
    if "$ref" in entry:
        return _linked(entry)
    if "anyOf" in entry:
        return " or ".join(_type(option) for option in entry["anyOf"] if option != {"type": "null"})
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if entry.get("type") == "array":
        return f"list of {_type(entry['items'])}"
    if entry.get("type") == "object":
        inner = [*entry.get("patternProperties", {}).values(), entry.get("additionalProperties")]
        return f"mapping of names to {_type(inner[0])}" if isinstance(inner[0], dict) else "mapping"
    limits = [f"{sign}{entry[key]:g}" for key, sign in _LIMITS.items() if key in entry and abs(entry[key]) < _LARGE]
    return str(entry.get("type", "anything")) + (f" ({', '.join(limits)})" if limits else "")
