"""The command ``solve``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from igniter_opt.base import command
from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import InfeasibleError, InputError
from igniter_opt.base.kinds import LOG, LOG_HEAD, MODEL, PLAN, check_output, model_path, write_output
from igniter_opt.base.schema import one_of
from igniter_opt.base.stop import StopRequest
from igniter_opt.cli import completion, console
from igniter_opt.cli.commands.front import find_front
from igniter_opt.cli.inputs import STANDARD_INPUT, instance_of
from igniter_opt.cli.options import (
    Coefficients,
    Confidence,
    Gap,
    Headroom,
    InstanceArgument,
    Json,
    Percentile,
    PlanMargin,
    PlanScale,
    Replicas,
    Rule,
    SolverSeed,
    TimeLimit,
    rule_named,
)
from igniter_opt.cli.outputs import check_apart, check_outputs
from igniter_opt.cli.traffic import (
    Burstiness,
    BurstRatio,
    BurstSeconds,
    PlannedKind,
    PlannedTrace,
    PlannedWay,
    planned_arrivals,
    split_of,
)
from igniter_opt.data.neighbours import NEIGHBOURS
from igniter_opt.data.plan import plan_json, read_plan, write_plan
from igniter_opt.formulations.solvers.table import MIP_SOLVERS
from igniter_opt.methods import METHODS
from igniter_opt.options import DEFAULT_TIME_LIMIT_S, SolveOptions

if TYPE_CHECKING:
    from igniter_opt.result import Result


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("solve")(solve_command)


def solve_command(
    instance: InstanceArgument,
    method: Annotated[
        str, typer.Option(help=f"One of: {', '.join(METHODS)}.", autocompletion=completion.methods)
    ] = "auto",
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT_S,
    gap: Gap = 0.0,
    margin: PlanMargin = None,
    confidence: Confidence = None,
    coefficients: Coefficients = None,
    slo_rule: Rule = None,
    max_replicas: Replicas = None,
    percentile: Percentile = None,
    scale: PlanScale = None,
    arrivals: PlannedKind = None,
    burstiness: Burstiness = None,
    burst_ratio: BurstRatio = None,
    burst_seconds: BurstSeconds = None,
    trace: PlannedTrace = None,
    headroom: Headroom = None,
    split: PlannedWay = None,
    neighbours: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="full: busy all the time, as rules assume; actual: cheaper plans that hold by simulation (rule p99).",
        ),
    ] = "full",
    warm_start: Annotated[bool, typer.Option(help="Start exact methods from a heuristic plan.")] = True,
    start: Annotated[Path | None, typer.Option(metavar="PLAN", help="A plan that exact methods begin with.")] = None,
    seed: SolverSeed = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PLAN", help="Write the plan; - prints it, as --json does.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write cost and bound over time, for `report`.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the log of the solve; - is stderr, terminal or not.")
    ] = None,
    mip_solver: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"What solves the integer programs of --method assignment: {', '.join(MIP_SOLVERS)}.",
            autocompletion=completion.words(MIP_SOLVERS),
        ),
    ] = "highs",
    write_model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the integer program that an exact solve ended with (lp, mps)."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the plan (png, svg, pdf).")] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Find cost against room on the cards; -o is then a folder of plans.")
    ] = False,
    front_most: Annotated[
        float | None, typer.Option(metavar="X", help="Budgets of --front: up to X times the least cost. Default 1.5.")
    ] = None,
    json: Json = False,
) -> None:
    """Find one plan. Ctrl-C stops early and keeps the best plan so far.

    Example: igniter-opt solve igniter-table3 -o plan.json --plot plan.png
    """
    problem = instance_of(instance)
    rule = rule_named(slo_rule)
    if output is not None and str(output) == STANDARD_INPUT:
        output, json = None, True
    to_stderr = log is not None and str(log) == STANDARD_INPUT
    if to_stderr:
        log = None
    if front_most is not None and not front:
        raise InputError("--front-most is of --front; give that, too")
    way = split_of(split)
    beside = one_of(neighbours, NEIGHBOURS, "--neighbours: unknown kind", "kinds")
    planned = planned_arrivals(arrivals, burstiness, burst_ratio, burst_seconds, trace)
    first = None if start is None else read_plan(start)
    if front:
        others: dict[str, object] = {
            "--history": history,
            "--log": log or to_stderr or None,
            "--write-model": write_model,
        }
        others |= {"--method": None if method in ("auto", "patterns") else method}
        others |= {"--mip-solver": None if mip_solver == "highs" else mip_solver}
        others |= {"--neighbours": None if beside == "full" else beside}
        options = SolveOptions(
            time_limit=time_limit,
            gap=gap,
            margin=margin,
            confidence=confidence,
            coefficients=coefficients,
            slo_rule=rule,
            max_replicas=max_replicas,
            percentile=percentile,
            scale=scale,
            arrivals=planned,
            headroom=headroom,
            split=way,
            warm_start=warm_start,
            start=first,
            seed=seed,
        )
        find_front(problem, options, front_most, [name for name, value in others.items() if value], output, plot, json)
        return
    check_apart([(history, "--history"), (log, "--log")], [] if start is None else [start], "the plan to start from")
    check_outputs(output, PLAN, plot, [instance], history=history, log=log)
    written = [(output, "--output"), (plot, "--plot"), (history, "--history"), (log, "--log")]
    check_apart([*written, (write_model, "--write-model")], [instance] if start is None else [instance, start])
    if log is not None:
        check_output(log, LOG)
    if write_model is not None:
        check_output(model_path(write_model), MODEL)
    # Solvers are imported once all that is to be read has been read.
    from igniter_opt.cli.tables.plans import print_result
    from igniter_opt.result import outcome_line, problem_line, write_history
    from igniter_opt.solve import solve

    asked = problem.with_options(rule, max_replicas, percentile, coefficients, scale, planned, headroom, way)
    stop = StopRequest()
    with stop.then_deaf():
        result = solve(
            problem,
            method,
            time_limit=time_limit,
            gap=gap,
            margin=margin,
            confidence=confidence,
            coefficients=coefficients,
            slo_rule=rule,
            max_replicas=max_replicas,
            percentile=percentile,
            scale=scale,
            arrivals=planned,
            headroom=headroom,
            split=way,
            neighbours=beside,
            warm_start=warm_start,
            start=first,
            seed=seed,
            mip_solver=mip_solver,
            keep_model=write_model is not None,
            on_progress=console.ProgressPrinter(problem_line(asked, method), always=to_stderr),
            stop=stop,
        )
        if result.interrupted:
            command.ignores_interrupts()
        if not result.verification.ok:
            _reject(method, result.verification.violations)
        if output is not None:
            write_plan(result.plan, output)
        if history is not None:
            write_history(result, history)
        if log is not None:
            lines = result.log or [problem_line(asked, method), outcome_line(result)]
            write_output(log, "\n".join([LOG_HEAD, *lines, ""]).encode(), LOG)
        if write_model is not None:
            _write_model(result, write_model)
        if to_stderr:
            console.message(outcome_line(result))
        if plot is not None:
            from igniter_opt.report.plots import plot_plan

            plot_plan(result, plot)
        if json:
            print(plan_json(result.plan), end="")
        else:
            print_result(result)
        if result.interrupted:
            console.message("interrupted: this is the best plan so far")
            raise typer.Exit(EXIT_INTERRUPTED)


def _write_model(result: "Result", path: Path) -> None:
    if result.model is None:
        raise InputError(f"{path}: not written, for time was up before there was a model; give a longer --time-limit")
    from igniter_opt.formulations.written import write_model

    write_model(result.model, path)


def _reject(method: str, violations: list[Any]) -> None:
    """Refuse to hand out a baseline's plan that the predictor rejects."""
    lines = [f"{entry.where}: {entry.message}" for entry in violations[:10]]
    more = [f"... and {len(violations) - 10} more"] if len(violations) > 10 else []
    why = "made an invalid plan" if METHODS[method].verified else "does not model interference exactly"
    raise InfeasibleError(
        f"method {method} {why}, and the predictor rejects its plan; nothing was written"
        " (`compare` shows such plans side by side)\n" + "\n".join(lines + more)
    )
