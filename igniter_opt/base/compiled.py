"""Compilation of hot loops by numba, kept on disk so that only the first run ever pays for it.

The cache is numba's with files of our own, one for every function and signature. A file says what it is made from and
carries digests, so that whatever a killed process, a full disk or another process leaves there is either whole or
compiled anew. (Numba's index and numbered code files are written one after the other: a process that ends in between,
or two that compile at once, leave an index that names other code, and damaged ones raise in every later run.) Digests
keep nobody out, who can make them as well: code is read only where nobody else could have put it.
"""

import hashlib
import inspect
import os
import pickle
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import caching, event, serialize
from numba.core.runtime import rtsys
from numba.core.types.misc import unliteral
from numba.extending import register_jitable

from igniter_opt.base import compilation
from igniter_opt.base.caches import environment_folder
from igniter_opt.base.compilable import is_marked, marked
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.ownership import check_private

Function = TypeVar("Function", bound=Callable[..., object])

_MAGIC = b"igniter-opt compiled code 1\n"
_MEND = "set NUMBA_CACHE_DIR to a folder that is yours alone"
_DIGEST_BYTES = hashlib.sha256().digest_size
# Loops are written out here: nothing is left for numba's rewriting of array expressions, which takes its time.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "no_cfunc_wrapper": True, "no_rewrites": True}
# Functions marked as compilable that numba knows.
_known: set[Callable[..., object]] = set()


def compiled(function: Function) -> Function:
    """Compile a function when it is first called.

    The machine code is cached where ``NUMBA_CACHE_DIR`` says; else in the virtual environment; else beside the module,
    or in the user's cache folder; where none of them can be written it is made anew in every process, which is said
    then. (In an environment it is not kept beside the module because pip would leave it there, and a folder of the
    package's name hides an editable installation made later.) Arithmetic keeps IEEE order (no fast-math), so results
    do not depend on it. It may call other compiled functions, and those of `base.compilable`.
    """
    return _compiled(function)


def part(function: Function) -> Function:
    """Compile a function as a part of the one that calls it; by itself only where Python calls it.

    For what is called in one place: compiled by itself, it would be optimised there and again in all that call it.
    What compiled code calls in several places, and Python nowhere, is marked by `base.compilable`.
    """
    return _compiled(function, inline="always")


def _compiled(function: Function, **options: str) -> Function:
    made: Any = numba.njit(**_OPTIONS, nogil=True, **options)(function)
    if not isinstance(made, numba.core.dispatcher.Dispatcher):  # compilation is switched off (NUMBA_DISABLE_JIT)
        return function
    made.get_call_template = _without_literals(made.get_call_template)
    given = numba.config.CACHE_DIR
    if not given and (own := environment_folder()) is not None:
        numba.config.CACHE_DIR = str(own)
    try:
        # The place is settled here, so that other users of numba keep theirs.
        made._cache = _CodeCache(function)
    except RuntimeError:  # no place for a cache
        made._cache = _NoCache(numba.config.CACHE_DIR)
    finally:
        numba.config.CACHE_DIR = given
    kernel: Function = made
    return kernel


def _without_literals(template_for: Callable[..., Any]) -> Callable[..., Any]:
    """Have a call with a constant use the code for any number: numba would compile the function for each constant."""

    def template(arguments: Any, keywords: Any) -> Any:
        general = {name: unliteral(kind) for name, kind in keywords.items()}
        return template_for(tuple(unliteral(kind) for kind in arguments), general)

    return template


class _ReadableFolder(caching.CompileResultCacheImpl._locator_classes[0]):  # type: ignore[misc] # the one that is given
    """A given folder that need not be writable, as in an image that was made with compiled code."""

    def ensure_cache_path(self) -> None:
        """Raise OSError where there is no such folder, and none can be made."""
        try:
            super().ensure_cache_path()
        except OSError:
            if not Path(self.get_cache_path()).is_dir():
                raise


class _CacheImplementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_ReadableFolder, *caching.CompileResultCacheImpl._locator_classes[1:]]  # noqa: RUF012 (numba's)


class _CodeCache(caching.FunctionCache):  # type: ignore[misc] # numba has no types
    """The compiled forms of one function, each in a file of its own."""

    _impl_class = _CacheImplementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None if there is none that is whole and of this source."""
        with compilation.counted_apart():
            # Code refers to the runtime by name. All else that numba's own cache loads here is for compiling, which
            # loads it itself, and takes half a second.
            rtsys.initialize(target_context)
            path, made_from = self._file(sig, target_context.codegen())
            try:
                if not (self._is_folder_ours() and self._is_ours(path)):
                    return None
                content = path.read_bytes()
            except FileNotFoundError:
                return None
            except OSError:
                content = b""
            try:
                code = _unsealed(content, made_from)
                return None if code is None else self._impl.rebuild(target_context, pickle.loads(code))  # noqa: S301
            except Exception:  # whatever it is, compiling mends it
                compilation.say_once("damaged", f"compiled code in {path.parent} is damaged and compiled anew")
                return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature, as far as the disk allows."""
        if not (self._impl.check_cachable(data) and self._is_folder_ours()):
            return
        with compilation.counted_apart():
            path, made_from = self._file(sig, data.codegen)
            code = serialize.dumps(self._impl.reduce(data))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes_atomically(path, _sealed(code, made_from), follow=False)
            except InputError as error:
                _say_not_kept(str(error))
            except OSError as error:
                _say_not_kept(f"{path.parent}: cannot be written ({error.strerror})")

    def _is_folder_ours(self) -> bool:
        return _is_folder_ours(Path(self.cache_path), self._owner())

    def _is_ours(self, path: Path) -> bool:
        """Whether a file in a folder that is ours could not have been left or changed by others; else say so."""
        found = path.lstat()
        # What nearly all files are is seen at once; the whole way is looked at for links and groups only.
        if (
            stat.S_ISREG(found.st_mode)
            and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            and found.st_uid in (0, os.geteuid(), self._owner())
        ):
            return True
        try:
            check_private(path, "remove it", {self._owner()})
        except InputError as error:
            compilation.say_once(
                "changeable", f"compiled code that others could have changed is not used, and compiled anew ({error})"
            )
            return False
        return True

    def _owner(self) -> int:
        """Whose the source is; that user's code runs here in any case, as from an environment that others share."""
        return Path(inspect.getfile(self._py_func)).stat().st_uid

    def _file(self, sig: Any, codegen: Any) -> tuple[Path, bytes]:
        """Where the code for a signature is kept, and a digest of what it is made from.

        The source is no part of the name: code of a changed source takes the old one's place.
        """
        signature, machine, own = self._index_key(sig, codegen)
        name = hashlib.sha256(repr((signature, machine)).encode()).hexdigest()[:16]
        path = Path(self.cache_path) / f"{self._impl.filename_base}.{name}.nbc"
        versions = (numba.__version__, sys.version)
        made_from = hashlib.sha256(repr((signature, machine, own, versions)).encode())
        for part in sorted(_sources(self._py_func, set())):
            made_from.update(part)
        return path, made_from.digest()


class _NoCache(caching.NullCache):  # type: ignore[misc] # numba has no types
    """Where no folder can be written."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Say that the code is not kept."""
        _say_not_kept(f"{self._folder or 'all cache folders'}: cannot be written")


@lru_cache(maxsize=1024)
def _is_folder_ours(folder: Path, owner: int) -> bool:
    """Whether nobody but this user, root and the source's owner could leave code in a folder; else say so."""
    try:
        check_private(folder, _MEND, {owner})
    except InputError as error:
        compilation.say_once(
            "open folder",
            f"compiled code is not kept where others could change it, so that every run compiles it anew ({error})",
        )
        return False
    return True


def _say_not_kept(why: str) -> None:
    compilation.say_once(
        "not kept",
        "compiled code is not kept, so that every run compiles it anew; free some space, or set NUMBA_CACHE_DIR to a"
        f" folder that can be written ({why})",
    )


def _sealed(code: bytes, made_from: bytes) -> bytes:
    return _MAGIC + made_from + hashlib.sha256(code).digest() + code


def _unsealed(content: bytes, made_from: bytes) -> bytes | None:
    """Return the code in a file; None if it is made from something else. ValueError if it is not whole."""
    start = len(_MAGIC) + 2 * _DIGEST_BYTES
    digest, code = content[start - _DIGEST_BYTES : start], content[start:]
    if not content.startswith(_MAGIC) or hashlib.sha256(code).digest() != digest:
        raise ValueError("not what was written")
    return code if content[len(_MAGIC) : start - _DIGEST_BYTES] == made_from else None


def _sources(function: Any, seen: set[Any]) -> set[bytes]:
    """Digests of all that a function's code depends on.

    These are its module and, as compiled code holds what it calls, the same of the compiled and compilable functions
    that it names, and constants from elsewhere.
    """
    seen.add(function)
    source = Path(inspect.getfile(function))
    state = source.stat()
    found = {_digest_of_file(source, state.st_mtime_ns, state.st_size)}
    for name, value in _named(function):
        own = value if is_marked(value) else getattr(value, "py_func", None)
        if own is not None and own not in seen:
            found |= _sources(own, seen)
        elif isinstance(value, bool | int | float | str | tuple):
            found.add(hashlib.sha256(f"{name} {value!r}".encode()).digest())
    return found


def _named(function: Any) -> Iterator[tuple[str, Any]]:
    """All global names that a function may mean, those of the modules that it names included."""
    names = function.__code__.co_names
    spaces = [function.__globals__]
    spaces += [vars(space) for name in names if inspect.ismodule(space := function.__globals__.get(name))]
    for name in names:
        yield from ((name, space[name]) for space in spaces if name in space)


@lru_cache(maxsize=1024)
def _digest_of_file(path: Path, modified_ns: int, size: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _register_compilable() -> None:
    """Make all functions that are marked as compilable known to numba; nothing is made for Python to call."""
    for plain in marked():
        if plain not in _known:
            register_jitable(**_OPTIONS, no_cpython_wrapper=True)(plain)
            _known.add(plain)


class _Compilations(event.Listener):  # type: ignore[misc] # numba has no types
    """Hears of every function that numba compiles, those of its own that ours need among them."""

    def __init__(self) -> None:
        self._within: list[ExitStack] = []

    def on_start(self, happening: Any) -> None:
        """Count the time apart; a stop request ends compilation here."""
        cache = getattr(happening.data["dispatcher"], "_cache", None)
        if not self._within:
            if not isinstance(cache, _CodeCache | _NoCache):
                return
            _register_compilable()
        scope = ExitStack()
        scope.enter_context(compilation.counted_apart())
        scope.enter_context(compilation.rare_collections())
        self._within.append(scope)
        compilation.begin_function()

    def on_end(self, happening: Any) -> None:
        """Stop counting."""
        if self._within:
            self._within.pop().close()


event.register("numba:compile", _Compilations())
