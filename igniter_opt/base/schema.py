"""Base class and helpers of all file formats: strict keys, and messages a user can act on."""

import difflib
import math
import numbers
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from igniter_opt.base.errors import InputError

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
# A record's way in a message leaves out which kind of several it is.
TAG = "kind:"
# Of values in messages and reprs.
_MOST_WORDS, _MOST_CHARACTERS = 4, 60

Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_numbers_only)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_numbers_only)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_numbers_only)]
Count = Annotated[int, Field(ge=1, le=LARGEST_INTEGER), BeforeValidator(integers_only)]
Integer = Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER), BeforeValidator(integers_only)]
Name = Annotated[str, matching(NAME_PATTERN, NAME_RULE)]


def is_name(text: str) -> bool:
    """Whether a text can be the name of a profile, model or file's record."""
    return re.fullmatch(NAME_PATTERN.removesuffix("$"), text) is not None


def name_from(text: str) -> str:
    """Return the name nearest to a text, such as a file's name without its ending."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:63] or "unnamed"


def nearest(word: object, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the closest known word, or an empty string."""
    words = list(known)
    if not isinstance(word, str) or not 0 < len(word) <= _MOST_CHARACTERS:
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


if TYPE_CHECKING:
    _Model = BaseModel
else:

    class _InputErrors(type(BaseModel)):
        """Makes what a record's constructor refuses an InputError.

        Pydantic does not come by here for records within records, so that their errors still gather in one message.
        """

        def __call__(cls, *values: object, **fields: object) -> object:
            if values:
                raise InputError(f"{cls.__name__}: give every value by name, as in {_example(cls)}")
            try:
                return super().__call__(**fields)
            except ValidationError as error:
                raise _input_error(error, cls.__name__) from None

    class _Model(BaseModel, metaclass=_InputErrors):
        pass


def _example(kind: type[BaseModel]) -> str:
    """Render how a record is made, with the fields that it requires."""
    needed = [field.alias or name for name, field in kind.model_fields.items() if field.is_required()]
    return f"{kind.__name__}({', '.join(f'{name}=...' for name in needed)})"


class Record(_Model):
    """A frozen record of a file format; unknown keys are errors that name the nearest known key.

    `reading_keys` are keys that files may have and that are taken in while reading, so that records lack them.

    Raises
    ------
    InputError
        A value is missing or not allowed; the message names each.
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

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise InputError(f"{type(self).__name__}: {name} cannot be set: records do not change; make another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise InputError(f"{type(self).__name__}: {name} cannot be deleted: records do not change; make another one")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield what repr and str show: values that are there, long collections by their length, long texts cut."""
        for name, value in super().__repr_args__():
            if isinstance(value, tuple | dict) and len(repr(value)) > _MOST_CHARACTERS:
                yield name, _Brief(f"<{len(value):,} {'entry' if len(value) == 1 else 'entries'}>")
            elif isinstance(value, str):
                yield name, _Brief(describe(value))
            elif value is not None:
                yield name, value


class CheckedRecord(Record):
    """A record whose changed copies are checked as new ones are.

    Those that a user makes and varies; a copy of a plan need not hold, which is for `verify` to say.
    """

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields changed.

        Raises
        ------
        InputError
            An unknown field, or a value that is not allowed.
        """
        copied = super().model_copy(deep=deep)
        return type(self)(**{**dict(copied), **update}) if update else copied


class _Brief:
    """Stands in a repr for what there is no room for."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def in_short(words: Iterable[str]) -> str:
    """Join words with commas, the first of them if there are many."""
    known = list(words)
    more = f", ... ({len(known):,} in all)" if len(known) > _MOST_WORDS else ""
    return ", ".join(known[:_MOST_WORDS]) + more


def summary(kind: str, **values: object) -> str:
    """Render in one line what a long object is about; None is left out."""
    return f"{kind}({', '.join(f'{name}={value!r}' for name, value in values.items() if value is not None)})"


RecordT = TypeVar("RecordT", bound=Record)


def none_for_nan(value: object, info: ValidationInfo) -> object:
    """Take a cell of a pandas table that is empty as a value that is not given; in files, NaN is an error."""
    return None if info.context is None and isinstance(value, float) and math.isnan(value) else value


# Of optional fields of records that programs make of tables.
EMPTY_CELLS = BeforeValidator(none_for_nan)


def parse_record(
    kind: type[RecordT], data: object, source: str, context: Mapping[str, object] | None = None
) -> RecordT:
    """Validate parsed data; raise InputError naming file, key path, value found and what is allowed.

    Parameters
    ----------
    context
        What validators of some fields are told besides.
    """
    if not isinstance(data, dict):
        raise InputError(f"{source}: expected a mapping of keys to values, found {describe(data)}")
    try:
        return kind.model_validate(data, context={"source": source, **(context or {})})
    except ValidationError as error:
        raise _input_error(error, source) from None


def _input_error(error: ValidationError, source: str) -> InputError:
    lines = [_explain(details) for details in error.errors(include_url=False) if not _is_echo(details)]
    shown = lines[:5] + ([f"... and {len(lines) - 5} more"] if len(lines) > 5 else [])
    return InputError("\n".join(f"{source}: {line}" for line in shown))


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
        elif part.startswith(TAG):
            continue
        else:  # of the format, or a key of the user's
            shown = part if part.isprintable() and len(part) <= _MOST_CHARACTERS else describe(part)
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
        self.maxstring = self.maxother = _MOST_CHARACTERS

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
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."


def invalid(message: str) -> PydanticCustomError:
    """Build a validator error whose message is shown as it stands."""
    return PydanticCustomError("invalid", "{message}", {"message": message})


def check_to_write(record: object, kind: type[Record]) -> None:
    """Raise InputError unless a writer's first argument is of this kind."""
    if not isinstance(record, kind):
        raise InputError(f"give first what is to be written, of type {kind.__name__}; found {describe(record)}")


def checked_number(name: str, value: object, *, whole: bool = False) -> float:
    """Return an argument that is a number, or a whole one, as one of Python's own types; else raise InputError.

    Others, such as NumPy's, go where nothing converts them any more, and files cannot be written with them.
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not whole and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{name} is beyond what a floating-point number can be; found {describe(value)}") from None
    raise InputError(f"{name} must be a {'whole ' if whole else ''}number; found {describe(value)}")
