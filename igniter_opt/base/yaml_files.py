"""The one reader of YAML: strict, and bounded whatever a document does with aliases and depth."""

import re
from typing import Any

import yaml

from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.files import MOST_DEPTH
from igniter_opt.base.schema import describe

# Some 25,000 workloads. It takes about ten seconds to read either.
MOST_YAML_VALUES = 300_000
MOST_YAML_BYTES = 16 * 2**20


class _StrictLoader(yaml.SafeLoader):
    """YAML loader that refuses what plain YAML takes silently or expands without end.

    A key that is given twice, of which plain YAML keeps the last; keys that are lists or mappings; an alias within what
    it stands for; and documents that are too deep, or too large once every alias is replaced by what it stands for. All
    of it is found out before anything is constructed. It also reads 1e3 as a number, as YAML 1.2 does.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        # Of every finished node how many values it is, by its identity (nodes live as long as the document).
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._values
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _refused(event, f"nested too deeply (over {MOST_DEPTH} levels)")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            size = self._sizes.get(id(node))
            if size is None:
                raise _refused(event, f"the alias *{event.anchor} is within what it stands for")
            self._values = before + size
        else:
            self._values += 1
            self._sizes[id(node)] = self._values - before
        if self._values > MOST_YAML_VALUES:
            raise _refused(event, f"more than {MOST_YAML_VALUES:,} values, counting what aliases stand for")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused(key, "a key must be text, not a list or mapping")
            if (key.tag, key.value) in seen:
                raise _refused(key, f"the key {describe(key.value)} is given twice")
            seen.add((key.tag, key.value))
        return node


def _refused(at: yaml.Event | yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.composer.ComposerError(None, None, problem, at.start_mark)  # type: ignore[arg-type]


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text.

    Parameters
    ----------
    source
        Where the text is from, for messages.

    Raises
    ------
    InputError
        It is no YAML, holds something strict reading refuses (`_StrictLoader`), or is too large or deep.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or "malformed"
        raise InputError(f"{source}: {where}not YAML ({problem})") from None
    except yaml.reader.ReaderError as error:
        raise InputError(f"{source}: not YAML (character {error.position + 1} may not be in YAML)") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        # PyYAML lets some of these through for malformed tags and values.
        raise InputError(f"{source}: not YAML ({explained(error)})") from None
