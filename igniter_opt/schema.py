"""Base class and helpers of all file formats: strict keys, and messages a user can act on."""

import difflib
import json
import math
import os
import re
import reprlib
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from igniter_opt.errors import InputError
from igniter_opt.ownership import check_links

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
NAME_RULE = "must be 1 to 63 letters, digits, '.', '_' or '-', and start with a letter or digit"
# What messages say of a pattern.
_RULES: dict[str, str] = {}


def matching(pattern: str, rule: str) -> Any:
    """Return the constraint on a text to match a pattern; `rule` says it in words: ``must be ...``."""
    _RULES[pattern] = rule
    return Field(pattern=pattern)


def _numbers_only(value: object) -> object:
    """Refuse true, false and text where a number is meant (pydantic would convert them)."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("number", "must be a number")
    return value


def integers_only(value: object) -> object:
    """Refuse true, false and text where a whole number is meant."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


# Whole numbers beyond this are typing errors, and too large for floating point besides.
LARGEST_INTEGER = 10**9

Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_numbers_only)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_numbers_only)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_numbers_only)]
Count = Annotated[int, Field(ge=1, le=LARGEST_INTEGER), BeforeValidator(integers_only)]
Integer = Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER), BeforeValidator(integers_only)]
Name = Annotated[str, matching(NAME_PATTERN, NAME_RULE)]


# Far more than any file of ours holds; beyond that files are refused before they take time and memory.
MOST_BYTES = 64 * 2**20
MOST_VALUES = 2_000_000
MOST_DEPTH = 50
_PIECE = 2**20
_LONGEST_SHOWN = 60


def is_name(text: str) -> bool:
    """Whether a text can be the name of a profile, model or file's record."""
    return re.fullmatch(NAME_PATTERN.removesuffix("$"), text) is not None


def name_from(text: str) -> str:
    """Return the name nearest to a text, such as a file's name without its ending."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:63] or "unnamed"


def nearest(word: object, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the closest known word, or an empty string."""
    words = list(known)
    if not isinstance(word, str) or not 0 < len(word) <= _LONGEST_SHOWN:
        return ""
    close = [entry for entry in words if entry.startswith(word)][:1]
    close = close or difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


KnownT = TypeVar("KnownT", bound=str)


def one_of(value: object, known: Iterable[KnownT], unknown: str, names: str) -> KnownT:
    """Return the known word that a value is; raise InputError ``"{unknown} 'x' ({names}: a, b)"`` if it is none."""
    words = list(known)
    for word in words:
        if value == word:
            return word
    raise InputError(f"{unknown} {describe(value)}{nearest(value, words)} ({names}: {', '.join(words)})")


class Record(BaseModel):
    """A frozen record of a file format; unknown keys are errors that name the nearest known key.

    `reading_keys` are keys that files may have and that are taken in while reading, so that records lack them.
    """

    reading_keys: ClassVar[tuple[str, ...]] = ()
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        known = [*(field.alias or name for name, field in cls.model_fields.items()), *cls.reading_keys]
        unknown = [key for key in data if key not in known and key not in cls.model_fields]
        if unknown:
            key = unknown[0]
            raise PydanticCustomError(
                "unknown_key",
                "{message}",
                {"message": f"unknown key {describe(key)}{nearest(key, known)} (known keys: {', '.join(known)})"},
            )
        return data


RecordT = TypeVar("RecordT", bound=Record)


def parse_record(kind: type[RecordT], data: object, source: str) -> RecordT:
    """Validate parsed data; raise InputError naming file, key path, value found and what is allowed."""
    if not isinstance(data, dict):
        raise InputError(f"{source}: expected a mapping of keys to values, found {describe(data)}")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = [_explain(details) for details in error.errors(include_url=False) if not _is_echo(details)]
        shown = lines[:5] + ([f"... and {len(lines) - 5} more"] if len(lines) > 5 else [])
        raise InputError("\n".join(f"{source}: {line}" for line in shown)) from None


def _is_echo(details: ErrorDetails) -> bool:
    """Whether an error only repeats that entries of a long enough list are invalid themselves."""
    found = details["input"]
    least = details.get("ctx", {}).get("min_length", 0)
    return details["type"] == "too_short" and isinstance(found, list | tuple | dict) and len(found) >= least


def _explain(details: ErrorDetails) -> str:
    path = ""
    for part in details["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        else:  # of the format, or a key of the user's
            shown = part if part.isprintable() and len(part) <= _LONGEST_SHOWN else describe(part)
            path += f".{shown}" if path else shown
    context: dict[str, Any] = details.get("ctx", {})
    kind = details["type"]
    match kind:
        case "missing":
            return f"{path}: this key is required and missing"
        case "unknown_key" | "invalid":
            return f"{path}: {details['msg']}" if path else details["msg"]
        case "greater_than":
            allowed = f"must be greater than {context['gt']:g}"
        case "less_than":
            allowed = f"must be less than {context['lt']:g}"
        case "greater_than_equal":
            allowed = f"must be at least {context['ge']:g}"
        case "less_than_equal":
            allowed = f"must be at most {context['le']:g}"
        case "finite_number":
            allowed = "must be a finite number"
        case "literal_error":
            found = details["input"]
            options = [option.strip("'") for option in str(context["expected"]).replace(" or ", ", ").split(", ")]
            return f"{path}: must be one of {', '.join(options)}; found {describe(found)}{nearest(found, options)}"
        case "string_pattern_mismatch":
            allowed = _RULES.get(context["pattern"], details["msg"])
        case "too_short":
            allowed = f"must have at least {context['min_length']} entries"
        case "int_from_float" | "int_parsing" | "int_type":
            allowed = "must be a whole number"
        case "float_parsing" | "float_type" | "number":
            allowed = "must be a number"
        case "string_type":
            allowed = "must be text"
        case "tuple_type" | "list_type":
            allowed = "must be a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            allowed = "must be a mapping of keys to values"
        case _:
            allowed = details["msg"]
    return f"{path}: {allowed}; found {describe(details['input'])}"


class _Shown(reprlib.Repr):
    """Renders the beginning of a value, however large and nested all of it is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 12
        self.maxstring = self.maxother = _LONGEST_SHOWN

    def repr_int(self, value: int, _level: int) -> str:
        # Python refuses to write out numbers of thousands of digits.
        return repr(value) if value.bit_length() <= 4096 else f"a number of {int(value.bit_length() * 0.30103)} digits"


_SHOWN = _Shown()


def describe(value: object) -> str:
    """Render an offending value briefly for a message, in bounded time."""
    if value is None:
        return "nothing"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "infinity", -math.inf: "-infinity"}.get(value, "NaN")
    text = _SHOWN.repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def invalid(message: str) -> PydanticCustomError:
    """Build a validator error whose message is shown as it stands."""
    return PydanticCustomError("invalid", "{message}", {"message": message})


def open_input(path: Path, most_bytes: int = MOST_BYTES, mend: str = "give a smaller file") -> BinaryIO:
    """Open a file that the user names; pipes and devices, which may wait or go on for ever, are none.

    Raises
    ------
    InputError
        It cannot be read, is no regular file, or has more than `most_bytes`; the message says why, and for the latter
        how to `mend` it.
    """
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


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
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


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
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


def check_writable(path: Path, *, follow: bool = True) -> None:
    """Raise InputError unless a file can be created at `path`, or where it leads to; leaves nothing behind.

    Called before long work, so that an unwritable output is not found out after it.
    """
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


def write_bytes_atomically(path: Path, content: bytes, *, private: bool = False, follow: bool = True) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Parameters
    ----------
    private
        Whether nobody else may read it.
    follow
        Whether a link stays one, and what it points to is replaced, as for a path that the user gave; else the link
        itself is replaced.
    """
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
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o600 if private else 0o666 & ~umask)
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
