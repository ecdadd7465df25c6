"""Reference pages made from the code: commands, file formats from the data classes, Python from its docstrings.

A page says ``<!-- commands -->``, ``<!-- fields: module.Class ... -->`` where the tables of these classes belong, and
``<!-- python: module.name ... -->`` where these functions and classes do.
"""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, get_type_hints

import typer.main
from numpydoc.docscrape import NumpyDocString
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject

from igniter_opt.base.schema import Record
from igniter_opt.cli.main import app

PROGRAM = "igniter-opt"
_COMMANDS = "<!-- commands -->"
_FIELDS = re.compile(r"<!-- fields: (.*?) -->", flags=re.DOTALL)
_PYTHON = re.compile(r"<!-- python: (.*?) -->", flags=re.DOTALL)
# Members that every record inherits or pydantic adds.
_HIDDEN = "model_config, reading_keys, model_post_init"
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


def setup(app: Sphinx) -> dict[str, bool]:
    """Have pages filled in as they are read."""
    app.connect("source-read", _fill)
    app.connect("autodoc-before-process-signature", _plain_types)
    # Before napoleon, which takes one name for one attribute.
    app.connect("autodoc-process-docstring", _one_attribute_each, priority=400)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    return {"parallel_read_safe": True}


def _fill(_: Sphinx, name: str, content: list[str]) -> None:
    content[0] = filled(content[0])


def _plain_types(_: Sphinx, found: Any, bound: bool) -> None:
    """Leave what pydantic wants to know out of types, as far as they can be told at run time."""
    if inspect.isfunction(found):
        with suppress(NameError):
            found.__annotations__ = get_type_hints(found)


def _one_attribute_each(_: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Write "a, b" of a section of attributes as two entries of the same text."""
    head = next((k for k, line in enumerate(lines[:-1]) if line == "Attributes" and set(lines[k + 1]) == {"-"}), None)
    if head is None:
        return
    made: list[str] = []
    names: list[str] = []
    text: list[str] = []
    for line in [*lines[head + 2 :], "."]:
        if line[:1].strip():
            made += [part for entry in names for part in (entry, *text)]
            names, text = line.split(", "), []
        else:
            text.append(line)
    lines[head + 2 :] = made


def filled(markdown: str) -> str:
    """Fill in what a page asks for."""
    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, "\n".join(commands()))
    for asked, made in ((_FIELDS, fields), (_PYTHON, python)):
        markdown = asked.sub(
            lambda found, made=made: "\n".join(line for name in found[1].split() for line in made(name)), markdown
        )
    return markdown


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
    yield f"### {kind}\n"
    notes = []
    described = NumpyDocString(inspect.getdoc(record) or "")
    for part in ("Summary", "Extended Summary"):
        yield "\n".join([*described[part], ""])
    for entry in described["Attributes"]:
        notes.append(f"- `{entry.name.replace(', ', '`, `')}`: {' '.join(entry.desc)}")
    yield "| key | value | if not given |\n| --- | --- | --- |"
    for key, entry in schema["properties"].items():
        yield f"| `{key}` | {_cell(_type(entry))} | {_default(schema, key)} |"
    yield from ("", *notes, "")


def python(name: str) -> Iterator[str]:
    """Directives on a function, a class or a constant."""
    found = _found(name)
    kind = "data"
    if inspect.isclass(found):
        kind = "exception" if issubclass(found, BaseException) else "class"
    elif callable(found):
        kind = "function"
    yield f"```{{eval-rst}}\n.. auto{kind}:: {name}"
    if kind == "data":
        yield "   :no-value:"
    elif kind == "class":
        yield f"   :members:\n   :exclude-members: {_HIDDEN}"
    yield "```\n"


def _found(name: str) -> Any:
    """Return what a dotted name means: modules as far as there are any of this name, then attributes."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


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
