"""Reading and writing files: bounded, of regular files only, and never a part of one."""

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from igniter_opt.base.errors import InputError
from igniter_opt.base.ownership import check_links
from igniter_opt.base.schema import describe

# Far more than any file of ours holds; beyond that files are refused before they take time and memory.
MOST_BYTES = 64 * 2**20


MOST_VALUES = 2_000_000


MOST_DEPTH = 50


_PIECE = 2**20


StrPath = str | os.PathLike[str]


def as_path(path: StrPath, expected: str = "a path (text or a pathlib.Path)") -> Path:
    """Return a path as such; raise InputError ``"expected {expected}; found ..."`` where it is none."""
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str):
        raise InputError(f"expected {expected}; found {describe(path)}")
    if "\0" in name:
        raise InputError(f"{name!r}: cannot be read or written (no file's name has a null character)")
    return Path(name)


def open_input(path: StrPath, most_bytes: int = MOST_BYTES, mend: str = "give a smaller file") -> BinaryIO:
    """Open a file that the user names; pipes and devices, which may wait or go on for ever, are none.

    Raises
    ------
    InputError
        It cannot be read, is no regular file, or has more than `most_bytes`; the message says why, and for the latter
        how to `mend` it.
    """
    path = as_path(path)
    try:
        _check_regular(path, path.stat(), most_bytes, mend)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_regular(path, os.fstat(descriptor), most_bytes, mend)  # in case it was replaced meanwhile
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # a path with a null character
        raise InputError(f"{path!s}: cannot be read ({error})") from None


def _check_regular(path: Path, found: os.stat_result, most_bytes: int, mend: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path}: is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        kind = "pipe" if stat.S_ISFIFO(found.st_mode) else "socket" if stat.S_ISSOCK(found.st_mode) else "device"
        raise InputError(f"{path}: is a {kind}, not a regular file; write its content to a file and give that")
    if found.st_size > most_bytes:
        raise InputError(f"{path}: is larger than {most_bytes / 2**20:,.0f} MiB; {mend}")


def read_bytes(path: StrPath, most_bytes: int = MOST_BYTES) -> bytes:
    """Read a file; raise InputError as `open_input` does."""
    content = b""
    with open_input(path, most_bytes) as file:
        try:
            # In pieces, for room is made beforehand for all that is asked for. Files that grow, and the kernel's own,
            # which say that they are empty, are larger than they said.
            while piece := file.read(max(_PIECE, len(content))):
                content += piece
                if len(content) > most_bytes:
                    raise InputError(f"{path}: is larger than {most_bytes / 2**20:,.0f} MiB; give a smaller file")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return content


def read_text(path: StrPath, most_bytes: int = MOST_BYTES) -> str:
    """Read a UTF-8 text file, with or without byte order mark; raise InputError with a plain reason if it is none."""
    try:
        text = read_bytes(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a UTF-8 text file") from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {describe(twice)} is given twice")
    return found


def exists(path: Path) -> bool:
    """Whether something is at `path`; False for paths that cannot be, such as too long ones."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def parse_json(text: str, source: str, most_values: int = MOST_VALUES) -> Any:
    """Parse JSON; raise InputError with line and column on a syntax error, and for what is too large or deep."""
    if not text.strip():
        raise InputError(f"{source}: is empty")
    # Each value but the first follows one of these; counted beforehand, because small text can become large objects.
    if sum(text.count(sign) for sign in ",[{") >= most_values:
        raise InputError(f"{source}: holds more than {most_values:,} values; give a smaller file")
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise InputError(f"{source}: line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{source}: nested too deeply (over {MOST_DEPTH} levels)") from None
    except ValueError as error:
        raise InputError(f"{source}: not JSON ({error})") from None
    if _deeper(value, MOST_DEPTH):
        raise InputError(f"{source}: nested too deeply (over {MOST_DEPTH} levels)")
    return value


def json_lines(value: Any, depth: int = 0) -> str:
    """Render JSON that people can read: in a list, what holds no further lists or objects takes one line."""
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict) and value:
        entries = (f"{json.dumps(key)}: {json_lines(entry, depth + 1)}" for key, entry in value.items())
        return "{" + inner + ("," + inner).join(entries) + outer + "}"
    if isinstance(value, list) and any(isinstance(entry, list | dict) for entry in value):
        entries = (json.dumps(e, ensure_ascii=False) if _is_flat(e) else json_lines(e, depth + 1) for e in value)
        return "[" + inner + ("," + inner).join(entries) + outer + "]"
    return json.dumps(value, ensure_ascii=False)


def _is_flat(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(entry, list | dict) for entry in value.values())


def check_writable(path: StrPath, *, follow: bool = True) -> None:
    """Raise InputError unless a file can be created at `path`, or where it leads to; leaves nothing behind.

    Called before long work, so that an unwritable output is not found out after it.
    """
    path = as_path(path)
    try:
        check_links(path)
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give a file name")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: exists and is not a regular file; choose another output path")
        folder = (path.resolve() if follow else path).parent
        if not folder.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".igniter-opt-"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another output path") from None


def write_bytes_atomically(path: StrPath, content: bytes, *, private: bool = False, follow: bool = True) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Parameters
    ----------
    private
        Whether nobody else may read it.
    follow
        Whether a link stays one, and what it points to is replaced, as for a path that the user gave; else the link
        itself is replaced.
    """
    path = as_path(path)
    check_writable(path, follow=follow)
    if follow:
        path = path.resolve()
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".igniter-opt-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o600 if private else 0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    """What files are not created with; to ask is to change it for a moment, in all threads."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _deeper(value: Any, most: int) -> bool:
    """Whether lists and mappings are nested more than so many levels deep."""
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, list | dict)
        ]
    return bool(level)
