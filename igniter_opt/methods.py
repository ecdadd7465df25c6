"""The one table of methods: what `solve` can be asked for, and all that anybody has to know of each.

A heuristic is a file in `heuristics/` and a row here, an exact method one in `formulations/` and a row. Programs add
rows of their own by `register_method`. Whatever is slow to import is imported where it runs: few commands need it.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any, NoReturn

from igniter_opt.base.compilation import counted_apart
from igniter_opt.base.errors import IgniterOptError, InputError, UnsuitableError, explained
from igniter_opt.base.schema import describe
from igniter_opt.base.stop import StopRequest
from igniter_opt.options import AssignmentTuning, BestFitTuning, PatternsTuning, SolveOptions, Tuning

# Names of methods are wanted where nothing is solved, as in help.
if TYPE_CHECKING:
    from igniter_opt.problem.configurations import Problem
    from igniter_opt.problem.draft import DraftGpu
    from igniter_opt.problem.exact_outcome import Outcome
    from igniter_opt.problem.slices import CutGpu, SliceProblem
    from igniter_opt.result import Progress

# The heuristic that others are compared with.
REFERENCE_METHOD = "igniter"
# The one whose plans share nothing: what reports say that sharing saves.
DEDICATED_METHOD = "dedicated"
# Without a monotone profile `auto` uses the assignment formulation up to this many replicas in all; beyond, the
# cheapest heuristic plan.
AUTO_ASSIGNMENT_REPLICAS = 30
_USUAL = SolveOptions()
# What a name may be: `compare --methods` separates names by commas.
_KINDS = {str: "text", bool: "True or False", int: "a whole number"}
_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]*")


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the table.

    Attributes
    ----------
    name
        What `solve` is asked for.
    words
        What it is, in a report.
    verified
        Whether it promises plans that hold, so that one that does not is a bug. Baselines that ignore interference or
        only approximate it promise none: their plans may violate SLOs, and say so.
    tuning
        Its constants, if it takes any: the class that `SolveOptions.tuning` has to be of.
    """

    name: str
    words: str
    verified: bool = True
    tuning: type[Tuning] | None = None

    def check(self, options: SolveOptions) -> None:
        """Raise InputError where the options ask for constants, a solver or a model that the method does not have."""
        tuning, wanted = options.tuning, self.tuning
        if tuning is not None and (wanted is None or not isinstance(tuning, wanted)):
            takes = "takes no constants" if wanted is None else f"takes {wanted.__name__}"
            raise InputError(f"tuning: method {self.name} {takes}; found {describe(tuning)}")
        if options.mip_solver != SolveOptions.mip_solver:
            from igniter_opt.formulations.solvers.table import mip_solver

            solver = mip_solver(options.mip_solver)
            if not getattr(self, "solver_choice", False):
                raise InputError(
                    f"mip_solver: method {self.name} hands no integer program to {solver.words};"
                    " give --method assignment"
                )
            if options.keep_model and not solver.takes_programs:
                raise InputError(
                    f"the model: {solver.words} has one of its own, not the rows of assignment; leave --mip-solver out"
                )
        if options.keep_model and not isinstance(self, ExactMethod):
            raise InputError(f"the model: method {self.name} has none; give --method patterns or assignment")


@dataclass(frozen=True, kw_only=True)
class Heuristic(Method):
    """A method that makes a plan, and proves nothing.

    Attributes
    ----------
    place
        Returns the GPUs of a plan for a `problem.configurations.Problem`; raises `InfeasibleError` where it finds none
        and `UnsuitableError` where a profile is none that it can treat.
    seeded
        Whether `place` takes a seed, too; the constants of a method that has any come as keyword ``tuning``.
    start_rank
        When it is tried for a plan that an exact method begins with: by ascending rank, while there is time. None:
        never.
    compared
        Whether `compare` and `report` run it unless told otherwise.
    """

    place: "Callable[..., list[DraftGpu]]"
    seeded: bool = False
    start_rank: int | None = None
    compared: bool = True

    def run(self, problem: "Problem", options: SolveOptions = _USUAL) -> "list[DraftGpu]":
        """Return the GPUs of a plan; reads seed and constants from the options.

        Raises
        ------
        UnsuitableError
            Besides what `place` says so: it is none of the package's own, and failed or returned no GPUs of a plan.
        """
        seed = [options.seed] if self.seeded else []
        tuning = {} if options.tuning is None else {"tuning": options.tuning}
        if is_shipped(self.name):
            return self.place(problem, *seed, **tuning)
        from igniter_opt.problem.draft import checked_drafts

        try:
            gpus = self.place(problem, *seed, **tuning)
        except IgniterOptError:
            raise
        except Exception as error:
            raise UnsuitableError(f"method {self.name} failed: {explained(error)}") from error
        try:
            return checked_drafts(problem, gpus)
        except InputError as error:
            raise UnsuitableError(f"method {self.name}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class SliceHeuristic(Method):
    """A heuristic for cards under MIG: its plans have no others.

    Attributes
    ----------
    place
        Returns the cards of a plan for a `problem.slices.SliceProblem`; raises `InfeasibleError` where it finds none.
    """

    place: "Callable[[SliceProblem], list[CutGpu]]"


@dataclass(frozen=True, kw_only=True)
class ExactMethod(Method):
    """A method that makes a plan and a lower bound.

    Attributes
    ----------
    search
        Solves a problem whose workloads can all be served, from a plan within the formulations' limits or from none.
        Reads time limit, gap, warm start, seed and constants from the options; looks at the stop request, and reports
        progress.
    slices
        Whether it plans cards under MIG, too, alone or beside others.
    starts_itself
        Whether it makes the plan it begins with; else heuristics do (`warm_starts`).
    solver_choice
        Whether it reads `SolveOptions.mip_solver`: the solver of its integer programs.
    auto_rank, suits
        ``auto`` is the first by ascending rank that suits a problem. None: never.
    """

    search: (
        "Callable[[Problem, list[DraftGpu] | None, SolveOptions, StopRequest, Callable[[Progress], object]], Outcome]"
    )
    slices: bool = False
    starts_itself: bool = False
    solver_choice: bool = False
    auto_rank: int | None = None
    suits: "Callable[[Problem], bool]" = lambda _: True


def _placed_by(module: str, **settings: Any) -> "Callable[..., Any]":
    """Return the function `place` of a module of `heuristics`, with settings of its own; it is imported when called."""

    def place(problem: "Problem | SliceProblem", *seed: int, **tuning: Any) -> "list[DraftGpu] | list[CutGpu]":
        # Compiled code takes a moment.
        with counted_apart():
            own = import_module(f"igniter_opt.heuristics.{module}").place
        gpus: list[DraftGpu] | list[CutGpu] = own(problem, *seed, **settings, **tuning)
        return gpus

    return place


def _assignment(
    problem: "Problem",
    start: "list[DraftGpu] | None",
    options: SolveOptions,
    stop: StopRequest,
    on_progress: "Callable[[Progress], object]",
) -> "Outcome":
    from igniter_opt.formulations.solvers.table import mip_solver

    solver = mip_solver(options.mip_solver)
    if not solver.takes_programs:
        return solver.search(problem, start, options, stop, on_progress)
    # Pyomo takes a second.
    with counted_apart():
        from igniter_opt.formulations.assignment_solver import AssignmentSolver

    return AssignmentSolver(
        problem,
        start,
        time_limit=options.time_limit,
        gap=options.gap,
        seed=options.seed,
        stop=stop,
        on_progress=on_progress,
        solver=solver,
        keep_model=options.keep_model,
        tuning=options.tuning if isinstance(options.tuning, AssignmentTuning) else AssignmentTuning(),
    ).run()


def _patterns(
    problem: "Problem",
    start: "list[DraftGpu] | None",
    options: SolveOptions,
    stop: StopRequest,
    on_progress: "Callable[[Progress], object]",
) -> "Outcome":
    with counted_apart():
        from igniter_opt.formulations.patterns import PatternsSolver

    solver = PatternsSolver(
        problem,
        start,
        warm_start=options.warm_start,
        time_limit=options.time_limit,
        gap=options.gap,
        seed=options.seed,
        stop=stop,
        on_progress=on_progress,
        tuning=options.tuning if isinstance(options.tuning, PatternsTuning) else PatternsTuning(),
    )
    outcome = solver.run()
    if options.keep_model and solver.phase != "start":
        from igniter_opt.formulations.columns.written import written_master

        columns = [] if solver.root is None else solver.root.master.patterns
        outcome.model, outcome.duals = written_master(solver.known, solver.grid, [*(solver.best or []), *columns])
    return outcome


def _few_replicas(problem: "Problem") -> bool:
    return sum(workload.max_replicas or 1 for workload in problem.workloads) <= AUTO_ASSIGNMENT_REPLICAS


# In the order in which they are listed. Starts: the quickest first, then those whose plans usually hold.
_ROWS: tuple[Method, ...] = (
    Method(name="auto", words="the exact method that suits, else the cheapest heuristic plan"),
    Heuristic(
        name="igniter",
        words="iGniter's greedy (Xu et al. 2023)",
        place=_placed_by("greedy", rule="least-growth"),
        start_rank=0,
    ),
    Heuristic(
        name="ffd",
        words="first fit, blind to interference",
        place=_placed_by("greedy", rule="first-fit-blind"),
        verified=False,
        start_rank=3,
    ),
    Heuristic(
        name="ffd++",
        words="first fit, aware of interference",
        place=_placed_by("greedy", rule="first-fit"),
        start_rank=2,
    ),
    Heuristic(name="gpulets", words="gpu-lets", place=_placed_by("gpulets"), verified=False, start_rank=4),
    Heuristic(name="gslice", words="GSLICE", place=_placed_by("gslice"), verified=False, start_rank=5),
    Heuristic(
        name="bestfit",
        words="best fit and local search",
        place=_placed_by("bestfit"),
        seeded=True,
        start_rank=1,
        tuning=BestFitTuning,
    ),
    Heuristic(name=DEDICATED_METHOD, words="one whole GPU per replica", place=_placed_by("dedicated")),
    SliceHeuristic(
        name="parvagpu",
        words="ParvaGPU's two steps for slices under MIG (Lee et al. 2024)",
        place=_placed_by("parvagpu"),
    ),
    ExactMethod(
        name="assignment",
        words="integer program over workloads and GPUs",
        search=_assignment,
        tuning=AssignmentTuning,
        solver_choice=True,
        auto_rank=1,
        suits=_few_replicas,
    ),
    ExactMethod(
        name="patterns",
        words="column generation over whole GPUs",
        search=_patterns,
        tuning=PatternsTuning,
        slices=True,
        starts_itself=True,
        auto_rank=0,
        suits=lambda problem: all(problem.monotone),
    ),
)
_table: dict[str, Method] = {row.name: row for row in _ROWS}
METHODS: Mapping[str, Method] = MappingProxyType(_table)
"""What `solve` can be asked for, by name; rows that were registered are here, too."""


def is_shipped(name: str) -> bool:
    """Whether a method is one of the package's own."""
    return any(row.name == name for row in _ROWS)


def heuristics() -> dict[str, Heuristic]:
    """Return all heuristics by name."""
    return {name: row for name, row in METHODS.items() if isinstance(row, Heuristic)}


def require_shares(name: str, words: str) -> NoReturn:
    """Raise InputError for a method that cannot plan the cards at hand; `words` say which these are."""
    raise InputError(f"method {name} does not plan {words}; those that do: auto, {', '.join(slice_methods())}")


def slice_methods() -> list[str]:
    """Return the names of the methods that plan cards under MIG."""
    return [row.name for row in METHODS.values() if isinstance(row, SliceHeuristic) or getattr(row, "slices", False)]


def compared_heuristics() -> list[str]:
    """Return the names of the heuristics that `compare` and `report` run unless told otherwise."""
    return [name for name, row in heuristics().items() if row.compared]


def warm_starts() -> dict[str, Heuristic]:
    """Return the heuristics that make plans for exact methods to begin with, in the order in which to try them."""
    ranked = [(row.start_rank, row) for row in heuristics().values() if row.start_rank is not None]
    return {row.name: row for _, row in sorted(ranked, key=lambda entry: entry[0])}


def is_exact(name: str | None) -> bool:
    """Whether a name is an exact method's."""
    return isinstance(METHODS.get(name or ""), ExactMethod)


def exact_method(problem: "Problem") -> str:
    """Return the exact method that ``auto`` takes, or ``auto`` itself where only heuristics suit."""
    ranked = [
        (row.auto_rank, row)
        for row in METHODS.values()
        if isinstance(row, ExactMethod) and row.auto_rank is not None and row.suits(problem)
    ]
    return min(ranked, key=lambda entry: entry[0])[1].name if ranked else "auto"


def register_method(row: Heuristic | ExactMethod) -> None:
    """Add a method, for this process: `solve` and `compare` take it from then on, and reports name it.

    Raises
    ------
    InputError
        There is a method of this name, it is no name (small letters, digits and ``_ . + -``), or a value of the row is
        not what it has to be.
    """
    if not isinstance(row, Heuristic | ExactMethod):
        raise InputError(f"a method is a row of the table, a Heuristic or an ExactMethod; found {describe(row)}")
    _check_row(row)
    if not _NAME.fullmatch(row.name):
        raise InputError(f"{row.name!r} is no name of a method: take small letters, digits and any of _ . + -")
    if row.name in _table:
        raise InputError(f"there is a method {row.name} already; take another name, or unregister that one first")
    _table[row.name] = row


def _check_row(row: Heuristic | ExactMethod) -> None:
    """Raise InputError where a value of a row would only be found out when it runs."""
    kinds: dict[str, tuple[type, ...]] = {"name": (str,), "words": (str,), "verified": (bool,)}
    rank = (int, NoneType)
    if isinstance(row, Heuristic):
        kinds |= {"seeded": (bool,), "compared": (bool,), "start_rank": rank}
        functions = {"place": ["problem", *["seed"] * row.seeded]}
    else:
        kinds |= {"starts_itself": (bool,), "solver_choice": (bool,), "auto_rank": rank}
        functions = {"search": ["problem", "start", "options", "stop", "on_progress"], "suits": ["problem"]}
    for field, allowed in kinds.items():
        value = getattr(row, field)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            names = " or ".join("nothing" if kind is NoneType else _KINDS[kind] for kind in allowed)
            raise InputError(f"method {describe(row.name)}: {field} must be {names}; found {describe(value)}")
    if row.tuning is not None and not (isinstance(row.tuning, type) and issubclass(row.tuning, Tuning)):
        raise InputError(f"method {row.name}: tuning must be a class derived from Tuning; found {describe(row.tuning)}")
    for field, values in functions.items():
        function = getattr(row, field)
        takes = f"{field} must be a function of ({', '.join(values)})"
        if not callable(function):
            raise InputError(f"method {row.name}: {takes}; found {describe(function)}")
        try:
            inspect.signature(function).bind(*values)
        except TypeError as error:
            raise InputError(f"method {row.name}: {takes}; the one given: {error}") from None
        except ValueError:  # some of C's functions do not say what they take
            continue


def unregister_method(name: str) -> None:
    """Take out a method that was registered.

    Raises
    ------
    InputError
        There is none of this name, or it is one of the package's own.
    """
    if name not in _table or name in {row.name for row in _ROWS}:
        raise InputError(f"no method {name!r} was registered")
    del _table[name]
