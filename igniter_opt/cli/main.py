"""The ``igniter-opt`` command."""

import errno
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from igniter_opt import __version__
from igniter_opt.base import command, compilation
from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import (
    DeploymentError,
    DeploymentInterruptedError,
    IgniterOptError,
    InfeasibleError,
    InputError,
    MeasurementInterruptedError,
    RefusedError,
    SimulationInterruptedError,
    SolveInterruptedError,
)
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.stop import StopRequest
from igniter_opt.cli import console
from igniter_opt.cli.commands import deploy, guard, measure, report, simulate
from igniter_opt.cli.commands.instances import instances_app
from igniter_opt.cli.commands.models import models_app
from igniter_opt.cli.commands.profile import profile_app
from igniter_opt.cli.outputs import COMPARISON, PLAN, check_apart, check_outputs
from igniter_opt.cli.tables import plans as render
from igniter_opt.compare import DEFAULT_SIMULATED_REQUESTS, compare
from igniter_opt.data.instance import DEFAULT_PERCENTILE, SloRule, read_instance
from igniter_opt.data.plan import plan_json, read_plan, write_plan
from igniter_opt.data.profile import COEFFICIENT_SETS, read_profile
from igniter_opt.data.slo_rule import percentile_rules
from igniter_opt.predict import predict
from igniter_opt.result import Progress, write_history
from igniter_opt.slo.rules import RULES
from igniter_opt.solve import DEFAULT_TIME_LIMIT_S, METHODS, UNVERIFIED_METHODS, solve
from igniter_opt.verify import verify

EXIT_NO, EXIT_BAD_INPUT = 1, 2
INTERRUPTED = (
    SolveInterruptedError,
    SimulationInterruptedError,
    MeasurementInterruptedError,
    DeploymentInterruptedError,
)


class Commands(typer.core.TyperGroup):
    """The command group; turns this package's errors into one message and the promised exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            command.has_begun()
            compilation.watch(console.CompilationPrinter())
            with console.cautions_as_lines():
                result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except InputError as error:
            console.message(f"error: {error}")
            raise typer.Exit(EXIT_BAD_INPUT) from None
        except InfeasibleError as error:
            console.message(f"no plan: {error}")
            raise typer.Exit(EXIT_NO) from None
        except RefusedError as error:
            console.message(f"refused: {error}")
            raise typer.Exit(EXIT_NO) from None
        except DeploymentError as error:
            console.message(f"not deployed: {error}")
            raise typer.Exit(EXIT_NO) from None
        except INTERRUPTED as error:
            console.message(str(error))
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except IgniterOptError as error:
            console.message(f"internal error: {error}")
            raise typer.Exit(EXIT_NO) from None
        except KeyboardInterrupt:
            console.message("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # The reader has gone (`| head`): not an error, and nothing more can be said on stdout.
            console.discard(sys.stdout)
            raise typer.Exit(0) from None
        except OSError as error:
            console.discard(sys.stdout)
            hint = "; free some space, or write elsewhere" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            console.message(f"error: {error.strerror or error}{hint}")
            raise typer.Exit(EXIT_BAD_INPUT) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
app.add_typer(instances_app, name="instances")
app.add_typer(profile_app, name="profile")
app.add_typer(models_app, name="models")
deploy.register(app)
simulate.register(app)
measure.register(app)
guard.register(app)
report.register(app)


def run() -> None:
    """Entry point of the ``igniter-opt`` script."""
    console.print_what_can_be_printed()
    try:
        app(prog_name="igniter-opt")
    finally:
        command.ignores_interrupts()


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Find the cheapest set of GPUs for DNN inference under latency SLOs, with a proof of how cheap it can get.

    Example: igniter-opt solve igniter-table3 -o plan.json
    """


InstanceArgument = Annotated[str, typer.Argument(metavar="INSTANCE", help="A file, or a shipped instance's name.")]
TimeLimit = Annotated[float, typer.Option(metavar="S", help="Seconds for an exact solve.")]
Gap = Annotated[float, typer.Option(metavar="G", help="Relative gap at which to stop (0.01 is 1 %).")]
Margin = Annotated[float, typer.Option(metavar="M", help="Inflate predicted GPU latencies by 1 + M.")]
PlanMargin = Annotated[
    float | None, typer.Option(metavar="M", help="Inflate predicted GPU latencies by 1 + M (0.1: by 10 %). Default 0.")
]
Confidence = Annotated[
    float | None, typer.Option(metavar="Q", help="Use the margin that the profile is calibrated to have at Q.")
]
CoefficientsOption = Annotated[
    str | None,
    typer.Option(
        metavar="SET", help=f"Override the coefficients derived from profiles: {', '.join(COEFFICIENT_SETS)}."
    ),
]
Rule = Annotated[str | None, typer.Option(metavar="R", help=f"Override the SLO rule: {', '.join(RULES)}.")]
Replicas = Annotated[int | None, typer.Option(metavar="K", help="Override every workload's max_replicas.")]
Percentile = Annotated[
    float | None,
    typer.Option(
        metavar="Q",
        help=f"Fraction of requests within the SLO under rule {percentile_rules()}. Default {DEFAULT_PERCENTILE}.",
    ),
]
Scale = Annotated[
    float | None, typer.Option(metavar="X", help="Multiply all rates by X; the plan holds the rates that it is for.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="Random seed of the solver.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _rule(value: str | None) -> SloRule | None:
    if value is None or value in RULES:
        return value
    raise InputError(
        f"--slo-rule: unknown rule {value!r} (rules: {', '.join(RULES)}; {percentile_rules()} takes another"
        " --percentile, too)"
    )


@app.command("solve")
def solve_command(
    instance: InstanceArgument,
    method: Annotated[str, typer.Option(help=f"One of: {', '.join(METHODS)}.")] = "auto",
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT_S,
    gap: Gap = 0.0,
    margin: PlanMargin = None,
    confidence: Confidence = None,
    coefficients: CoefficientsOption = None,
    slo_rule: Rule = None,
    max_replicas: Replicas = None,
    percentile: Percentile = None,
    scale: Scale = None,
    warm_start: Annotated[bool, typer.Option(help="Start exact methods from a heuristic plan.")] = True,
    start: Annotated[Path | None, typer.Option(metavar="PLAN", help="A plan that exact methods begin with.")] = None,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="PLAN", help="Write the plan.")] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write cost and bound over time, for `report`.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the plan (png, svg, pdf).")] = None,
    json: Json = False,
) -> None:
    """Find one plan. Ctrl-C stops early and keeps the best plan so far.

    Example: igniter-opt solve igniter-table3 -o plan.json --plot plan.png
    """
    problem = read_instance(instance)
    rule = _rule(slo_rule)
    first = None if start is None else read_plan(start)
    check_apart([(history, "--history")], [] if start is None else [start], "the plan to start from")
    check_outputs(output, PLAN, plot, [instance], history=history)
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
            warm_start=warm_start,
            start=first,
            seed=seed,
            on_progress=console.ProgressPrinter(),
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
        if plot is not None:
            from igniter_opt.report.plots import plot_plan

            plot_plan(result, plot)
        if json:
            print(plan_json(result.plan), end="")
        else:
            render.print_result(result)
        if result.interrupted:
            console.message("interrupted: this is the best plan so far")
            raise typer.Exit(EXIT_INTERRUPTED)


def _reject(method: str, violations: list[Any]) -> None:
    """Refuse to hand out a baseline's plan that the predictor rejects."""
    lines = [f"{entry.where}: {entry.message}" for entry in violations[:10]]
    more = [f"... and {len(violations) - 10} more"] if len(violations) > 10 else []
    why = "does not model interference exactly" if method in UNVERIFIED_METHODS else "made an invalid plan"
    raise InfeasibleError(
        f"method {method} {why}, and the predictor rejects its plan; nothing was written"
        " (`compare` shows such plans side by side)\n" + "\n".join(lines + more)
    )


@app.command("compare")
def compare_command(
    instances: Annotated[list[str], typer.Argument(metavar="INSTANCE...", help="Files or shipped names.")],
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help=f"Methods, of: {', '.join(METHODS)}. Default: all heuristics and the exact.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="CSV", help="Write the rows.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the costs (png, svg, pdf).")] = None,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT_S,
    gap: Gap = 0.0,
    margin: PlanMargin = None,
    confidence: Confidence = None,
    coefficients: CoefficientsOption = None,
    slo_rule: Rule = None,
    max_replicas: Replicas = None,
    percentile: Percentile = None,
    scale: Scale = None,
    seed: Seed = 0,
    requests: Annotated[
        int, typer.Option(metavar="N", help="Poisson requests per workload to simulate a plan with; 0: none.")
    ] = DEFAULT_SIMULATED_REQUESTS,
    json: Json = False,
) -> None:
    """Compare heuristics with the optimum: GPUs, cost, bound, gap, time, and what Poisson arrivals do to the plans.

    Example: igniter-opt compare igniter-table3 --plot cost.png -o results.csv
    """
    problems = [read_instance(name) for name in instances]
    check_outputs(output, COMPARISON, plot, instances)
    printer = console.ProgressPrinter()

    def report(instance: str, method: str, progress: Progress) -> None:
        printer(progress, prefix=f"{instance} {method} ")

    comparison = compare(
        problems,
        None if methods is None else [name.strip() for name in methods.split(",")],
        time_limit=time_limit,
        gap=gap,
        margin=margin,
        confidence=confidence,
        coefficients=coefficients,
        slo_rule=_rule(slo_rule),
        max_replicas=max_replicas,
        percentile=percentile,
        scale=scale,
        seed=seed,
        requests=requests,
        on_progress=report,
    )
    if comparison.interrupted:
        command.ignores_interrupts()
    if comparison.interrupted and not comparison.rows:
        console.message("interrupted before there was a row")
        raise typer.Exit(EXIT_INTERRUPTED)
    if output is not None:
        write_bytes_atomically(output, comparison.to_csv().encode())
    if json:
        console.print_json(comparison.to_dicts())
    else:
        render.print_comparison(comparison)
    if plot is not None and not comparison.results:
        console.message(f"{plot} was not drawn: no method found a plan")
    elif plot is not None:
        from igniter_opt.report.plots import plot_comparison

        plot_comparison(comparison, plot)
    if comparison.interrupted:
        console.message("interrupted: these are the rows so far")
        raise typer.Exit(EXIT_INTERRUPTED)


@app.command("verify")
def verify_command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file.")],
    json: Json = False,
) -> None:
    """Recompute a plan from its own instance and profile, and judge it. Exit code 1 if it does not hold.

    Example: igniter-opt verify plan.json
    """
    loaded = read_plan(plan)
    verification = verify(loaded)
    if json:
        console.print_json(verification.to_dict())
    else:
        render.print_verification(loaded, verification)
    if not verification.ok:
        raise typer.Exit(EXIT_NO)


@app.command("predict")
def predict_command(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A shipped profile's name, or a file.")],
    placements: Annotated[
        list[str], typer.Argument(metavar="MODEL:BATCH:SHARE...", help="What runs side by side (share in %).")
    ],
    coefficients: CoefficientsOption = None,
    json: Json = False,
) -> None:
    """Predict latency and throughput of workloads side by side on one GPU.

    Example: igniter-opt predict v100 alexnet:4:10 resnet50:8:30 vgg19:6:37.5
    """
    card = read_profile(profile, coefficients=coefficients)
    parsed = [_placement(text) for text in placements]
    prediction = predict(card, parsed)
    caution = card.caution()
    if caution is not None:
        console.message(f"warning: {caution}")
    unit = card.hardware.share_unit_percent
    least = card.hardware.least_share_percent or unit
    for model, batch, share in parsed:
        largest = card.models[model].max_batch
        if batch > largest:
            console.message(f"note: {model} was profiled up to batch {largest}; batch {batch} is extrapolated")
        if abs(share / unit - round(share / unit)) > 1e-6:
            console.message(f"note: {share:g} % is no multiple of the share unit {unit:g} %; the card grants such only")
        if share < least - 1e-6:
            console.message(f"note: the card grants no share below {least:g} %; {share:g} % would be raised to it")
    rows = render.prediction_rows(parsed, prediction)
    if json:
        console.print_json(
            {
                "coefficients": card.coefficients,
                "placements": rows,
                "frequency_mhz": prediction.frequency_mhz,
                "power_w": prediction.power_w,
            }
        )
    else:
        render.print_prediction(rows, prediction, card.coefficients)


def _placement(text: str) -> tuple[str, int, float]:
    parts = text.split(":")
    try:
        model, batch, share = parts
        return model, int(batch), float(share)
    except ValueError:
        raise InputError(
            f"placement {text!r}: expected MODEL:BATCH:SHARE, such as alexnet:4:10 (share in percent)"
        ) from None
