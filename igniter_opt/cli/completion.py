"""What a shell proposes when Tab is pressed: names that the package knows, and files of the kind that is meant.

Everything is imported where it is asked for: a shell waits for it.
"""

from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path

import typer

# A folder may hold any number of files.
_MOST_FILES = 200


def instances(incomplete: str) -> list[str]:
    """Propose shipped instances, and YAML files."""
    return [*_shipped("", ".yaml", incomplete), *_files(incomplete, (".yaml", ".yml"))]


def profiles(incomplete: str) -> list[str]:
    """Propose shipped profiles, and JSON files."""
    shipped = [name for folder in ("profiles", "slices") for name in _shipped(folder, ".json", incomplete)]
    return [*shipped, *_files(incomplete, (".json",))]


def methods(incomplete: str) -> list[tuple[str, str]]:
    """Propose methods, with what they are."""
    from igniter_opt.methods import METHODS

    return [(name, row.words) for name, row in METHODS.items() if name.startswith(incomplete)]


def method_lists(incomplete: str) -> list[str]:
    """Propose the next of several methods with commas between them."""
    from igniter_opt.methods import METHODS

    return _next_of(METHODS, incomplete)


def rules(incomplete: str) -> list[tuple[str, str]]:
    """Propose SLO rules, with what they keep."""
    from igniter_opt.slo.rules import RULES

    return [(name, rule.words) for name, rule in RULES.items() if name.startswith(incomplete)]


def coefficients(incomplete: str) -> list[str]:
    """Propose sets of coefficients."""
    from igniter_opt.data.profile import COEFFICIENT_SETS

    return [name for name in COEFFICIENT_SETS if name.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """Propose built-in models."""
    from igniter_opt.profiler.models.catalogue import BUILT_IN

    return [name for name in BUILT_IN if name.startswith(incomplete)]


def model_lists(incomplete: str) -> list[str]:
    """Propose the next of several built-in models with commas between them."""
    from igniter_opt.profiler.models.catalogue import BUILT_IN

    return _next_of(BUILT_IN, incomplete)


def workloads(ctx: typer.Context, incomplete: str) -> list[str]:
    """Propose the workloads of the plan that is named before."""
    from igniter_opt.base.errors import InputError
    from igniter_opt.base.files import parse_json, read_text

    try:
        plan = ctx.params["plan"]
        names = [str(entry["name"]) for entry in parse_json(read_text(plan), str(plan))["instance"]["workloads"]]
    except (InputError, LookupError, TypeError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def words(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what proposes some words."""

    def propose(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return propose


def _next_of(known: Iterable[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in before.split(",")]


def _shipped(folder: str, ending: str, incomplete: str) -> list[str]:
    """Names of shipped files, without reading any."""
    place = resources.files("igniter_opt.instances")
    names = (entry.name for entry in (place / folder if folder else place).iterdir() if entry.name.endswith(ending))
    return sorted(stem for name in names if (stem := name.removesuffix(ending)).startswith(incomplete))


def _files(incomplete: str, endings: tuple[str, ...]) -> Iterator[str]:
    """Files of some endings, and folders, that continue a path."""
    start, slash, last = incomplete.rpartition("/")
    folder = Path(start + slash) if slash else Path()
    try:
        found = sorted(entry for entry in folder.expanduser().iterdir() if entry.name.startswith(last))
    except OSError:
        return
    hidden = last.startswith(".")
    for entry in found[:_MOST_FILES]:
        if hidden or not entry.name.startswith("."):
            if entry.is_dir():
                yield f"{start}{slash}{entry.name}/"
            elif entry.name.endswith(endings):
                yield f"{start}{slash}{entry.name}"
