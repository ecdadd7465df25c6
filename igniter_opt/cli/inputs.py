"""What commands read: files, shipped things by name, and standard input for ``-``."""

import sys
from pathlib import Path

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import MOST_BYTES, parse_json
from igniter_opt.base.yaml_files import MOST_YAML_BYTES
from igniter_opt.cli import console
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import parse_instance, read_instance
from igniter_opt.data.plan import Plan, plan_from_data, read_plan

STANDARD_INPUT = "-"
_SOURCE = "standard input"


def instance_of(name: str) -> Instance:
    """Read the instance of an argument; profile paths of one from standard input start from the current folder."""
    if name != STANDARD_INPUT:
        return read_instance(name)
    return parse_instance(_read("instance", MOST_YAML_BYTES), _SOURCE, Path())


def plan_of(path: Path) -> Plan:
    """Read the plan of an argument."""
    if str(path) != STANDARD_INPUT:
        return read_plan(path)
    return plan_from_data(parse_json(_read("plan", MOST_BYTES), _SOURCE), _SOURCE)


def _read(what: str, most_bytes: int) -> str:
    """Read all of standard input, within limits."""
    if sys.stdin.isatty():
        console.message(f"reading the {what} from standard input; Ctrl-D ends it")
    content = sys.stdin.buffer.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise InputError(f"{_SOURCE}: is larger than {most_bytes / 2**20:,.0f} MiB; give a smaller {what}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{_SOURCE}: is not UTF-8 text") from None
