"""Changes to the structure of files: what a value becomes, what becomes of the bytes, and what is there instead."""

import copy
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

STRANGER = 54321
_MARK = "@@ MARK @@"


def _lists(levels: int, width: int = 9) -> str:
    """Aliases of aliases: `width` ** `levels` values in a few hundred bytes."""
    inner = "&a0 [" + "x," * width + "]"
    for k in range(1, levels + 1):
        inner = f"&a{k} [{inner}{f',*a{k - 1}' * (width - 1)}]"
    return inner


# What only YAML has; each stands for one value.
YAML = [
    "&a [*a]",
    "&a {k: *a}",
    "*nowhere",
    _lists(3),
    _lists(8),
    _lists(20, 2),
    "{<<: &m {a: 1}, <<: *m}",
    "{<<: 1}",
    "{<<: [1, 2]}",
    "&n {<<: *n}",
    "{? [a, b] : 1}",
    "{? {a: 1} : 1}",
    "{a: 1, a: 2}",
    "!!int ''",
    "!!int x",
    "!!int 0x" + "f" * 5000,
    "!!int 1:99:1:1",
    "!!float ''",
    "!!float .",
    "!!float 1_:_",
    "!!timestamp x",
    "!!timestamp 9999-99-99",
    "2026-01-01",
    "!!bool maybe",
    "!!binary '%'",
    "!!binary aGFsbG8=",
    "!!set {a, b}",
    "!!set [a]",
    "!!omap [a: 1]",
    "!!omap [1]",
    "!!pairs [a: 1, a: 2]",
    "!!pairs {a: 1}",
    "!!null x",
    "!!seq {a: 1}",
    "!!map [1]",
    "!!str [1]",
    "!!str {a: 1}",
    "!!python/object/apply:os.system [true]",
    "!!python/name:os.system",
    "!local x",
    "!<tag:x> y",
    "! ''",
    "~",
    "0o17",
    "0x" + "f" * 60_000,
    "1:60",
    ".inf",
    ".nan",
    "=",
    "'\\x'",
    '"\\uD800"',
    '"\\e[2J"',
    "[" * 60 + "]" * 60,
    "[" * 5000,
    "{a: " * 60 + "1" + "}" * 60,
    "\n---\n",
    "\n...\nx",
    "%YAML 9.9",
    "\t- x",
    "@x",
    "`x`",
]
# What JSON may have in place of a value, and what Python's reader takes for JSON.
JSON = [
    "[" * 60 + "]" * 60,
    "[" * 900 + "]" * 900,
    "[" * 50_000,
    '{"a":' * 60 + "1" + "}" * 60,
    '{"a": 1, "a": 2}',
    '{"": 1}',
    '{"\\u0000": 1}',
    '{"\\ud800": "\\udfff"}',
    '{"__proto__": {}, "__class__": 1}',
    '"\\u0000"',
    '"\\ud800"',
    '"\\u001b[2J\\r\\n"',
    '"' + "x" * 100_000 + '"',
    "{" + ",".join(f'"k{k}": {k}' for k in range(3000)) + "}",
    "[" + "1," * 50_000 + "1]",
    "[" + "{}," * 20_000 + "{}]",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-0",
    "-0.0",
    "1e308",
    "-1e308",
    "5e-324",
    "1" + "0" * 400,
    "1" * 5000,
    "0",
    "1",
    "-1",
    "0.5",
    "true",
    "null",
    '""',
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    '"x"',
]


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(data, dict):
        return found + [place for key, value in data.items() for place in _places(value, (*path, key))]
    if isinstance(data, list):
        # Of a long list, so much is enough to reach all that is different.
        return found + [place for key, value in enumerate(data[:12]) for place in _places(value, (*path, key))]
    return found


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def renumbered(random: Random, data: Any) -> str:
    """Return JSON with some of its numbers changed by orders of magnitude, mostly within what is allowed."""
    data = copy.deepcopy(data)
    places = [place for place in _places(data) if type(_at(data, place)) in (int, float)]
    for *way, key in random.sample(places, min(len(places), random.choice([1, 1, 2, 4]))):
        parent = _at(data, tuple(way))
        scaled = parent[key] * 10.0 ** random.choice([-6, -4, -3, -2, -1, 1, 2, 3, 4, 6, 8])
        parent[key] = random.choice([scaled, round(scaled, 6) or 1e-6, max(1, int(scaled)), parent[key] * 1.01, 1])
    return json.dumps(data)


def restructured(random: Random, data: Any, fragments: list[str]) -> str:
    """Return JSON (or YAML, by the fragments) with some places changed: gone, doubled, moved, wrapped or replaced."""
    data = copy.deepcopy(data)
    marks = []
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        places = _places(data)
        if not places:
            break
        # Every depth alike, or most changes would be in the long columns of profiles.
        depth = random.choice(sorted({len(place) for place in places}))
        *way, key = random.choice([place for place in places if len(place) == depth])
        parent = _at(data, tuple(way))
        match random.randrange(9):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[random.choice([f"{key}_", "", "x" * 5000, str(key).upper(), "\x00", "a\nb"])] = parent[key]
            case 1:
                parent.insert(key, parent[key])
            case 2:
                parent[key] = [parent[key]]
            case 3:
                parent[key] = {"a": parent[key]}
            case 4:
                parent[key] = json.loads(
                    json.dumps(_at(data, random.choice(places)) if random.random() < 0.9 else data)
                )
            case 5 if isinstance(parent[key], int | float):
                scaled = parent[key] * 10.0 ** random.choice([-300, -12, -6, -3, -1, 1, 3, 6, 9, 15, 100, 300])
                parent[key] = random.choice([scaled, -parent[key], int(scaled) if abs(scaled) < 1e20 else scaled, 0, 1])
            case _:
                marks.append(random.choice(fragments))
                parent[key] = f"{_MARK}{len(marks) - 1}"
    text = json.dumps(data, indent=random.choice([None, 1]))
    for k, fragment in enumerate(marks):
        text = text.replace(f'"{_MARK}{k}"', fragment)
    return text


def rebyted(random: Random, content: bytes) -> bytes:
    """Return content whose encoding or bytes are others."""
    at, other = sorted((random.randrange(len(content) + 1), random.randrange(len(content) + 1)))
    match random.randrange(13):
        case 0:
            return b"\xef\xbb\xbf" + content
        case 1:
            return content.decode("utf-8", "replace").encode(random.choice(["utf-16", "utf-32", "utf-16-le", "utf-7"]))
        case 2:
            return content[:at] + b"\0" + content[at:]
        case 3:
            return content[:at]
        case 4:
            return content.replace(b"\n", random.choice([b"\r\n", b"\r", b"", b"\x85", b"\xe2\x80\xa8"]))
        case 5:
            return content + content
        case 6:
            return content[:at] + random.randbytes(random.choice([1, 4, 100])) + content[at:]
        case 7:
            return content[:at] + content[other:]
        case 8:
            return content[:at] + content[at:other] * 3 + content[other:]
        case 9:
            return random.choice([b"", b" ", b"\n" * 1000, b"\0" * 1000, b"\xff" * 100, b"#", b"---", b"null", b"0"])
        case 10:
            return content[:at] + b'"' + content[at:]
        case 11:
            return (
                content[:at]
                + random.choice([b"\x1b[2J", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
                + content[at:]
            )
        case _:
            return content[:at] + content[at:other].swapcase() + content[other:]


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def _listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


def _nothing(path: Path) -> None:
    """Leave nothing there."""


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


# What can be where a file should be.
KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": _pipe,
    "folder": _folder,
    "loop of links": _loop,
    "large hole": _large,
    "socket": _listener,
    "nothing": _nothing,
    "device": _link_to("/dev/zero"),
    "random device": _link_to("/dev/urandom"),
    "dangling link": _link_to("/nonexistent/file"),
    "memory of a process": _link_to("/proc/self/mem"),
    "file of the kernel": _link_to("/proc/self/maps"),
    "program": _link_to("/proc/self/exe"),
}


def other_kind(random: Random, path: Path) -> str:
    """Put something else than a file at a path."""
    name = random.choice(list(KINDS))
    path.unlink(missing_ok=True)
    KINDS[name](path)
    return name


def other_owner(random: Random, folder: Path) -> str:
    """Give a folder, or something in it or above it, to somebody else, or open it to all."""
    path = random.choice([folder, folder.parent, *sorted(folder.rglob("*"))])
    if os.geteuid() == 0 and random.random() < 0.5:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        return f"{path.name} is a stranger's"
    if path.is_symlink():
        return "as it is"
    path.chmod(stat.S_IMODE(path.stat().st_mode) | random.choice([0o002, 0o022, 0o777, 0o1777]))
    return f"{path.name} is open to all"
