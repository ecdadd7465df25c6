"""The ``igniter-opt instances`` commands."""

import re
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from igniter_opt.base.kinds import DEMAND, INSTANCE
from igniter_opt.base.text import rounded
from igniter_opt.cli import completion, console
from igniter_opt.cli.commands.instances_from_prometheus import from_prometheus_command
from igniter_opt.cli.commands.instances_from_trace import from_trace_command
from igniter_opt.cli.inputs import instance_of
from igniter_opt.cli.options import Coefficients, InstanceArgument, Json, Prices, Profiles, prices_of
from igniter_opt.cli.outputs import check_apart, check_outputs
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.demand import read_demand, scaled_to, write_demand
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import read_instance, shipped_instance_text, shipped_instances, write_instance
from igniter_opt.data.known_results import best_known
from igniter_opt.data.profile import read_profile
from igniter_opt.generate import FAMILIES, generate_instance
from igniter_opt.generate_demand import generate_demand

instances_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(instances_app, name="instances")


@instances_app.callback()
def instances_main() -> None:
    """List, show and generate benchmark instances.

    Example: igniter-opt instances list
    """


@instances_app.command("list")
def list_command(json: Json = False) -> None:
    """List the shipped instances with the best known cost and the best proven bound.

    Example: igniter-opt instances list
    """
    rows = []
    for name in shipped_instances():
        instance, known = read_instance(name), best_known(name)
        rows.append(
            {
                "name": name,
                "workloads": len(instance.workloads),
                "slo_rule": instance.slo_rule,
                "best_cost_per_hour": known.best_cost.cost_per_hour if known else None,
                "best_gpus": known.best_cost.gpus if known else None,
                "best_bound_per_hour": known.best_bound.cost_per_hour if known else None,
                "description": instance.description,
                **_drawn(instance),
            }
        )
    if json:
        console.print_json(rows)
        return
    table = new_table()
    table.add_column("name")
    for title in ("workloads", "GPUs", "best cost/h", "best bound/h"):
        table.add_column(title, justify="right")
    table.add_column("description")
    for row in rows:
        cost, bound, gpus = row["best_cost_per_hour"], row["best_bound_per_hour"], row["best_gpus"]
        table.add_row(
            str(row["name"]),
            str(row["workloads"]),
            "-" if gpus is None else str(gpus),
            "-" if cost is None else f"{cost:.2f}",
            "-" if bound is None else f"{bound:.2f}",
            textwrap.shorten(str(row["description"]), 70, placeholder=" ..."),
        )
    print_table(console.stdout(), table)
    first = min((row for row in rows if row["generate"] is not None), key=lambda row: len(str(row["generate"])))
    console.stdout().print(
        f"Random ones end in their seed; further seeds of {first['name']}, say:\n  {first['generate']}\n"
        "(--json has the command for each that was drawn so; uniform-* were not)",
        soft_wrap=True,
        markup=False,
    )


def _drawn(instance: Instance) -> dict[str, Any]:
    """Return family and seed of a random instance, and the command that draws the next seed of its kind."""
    found = re.match(r"Random \(family ([a-z-]+), seed (\d+)\)", instance.description)
    if found is None:
        return {"family": None, "seed": None, "generate": None}
    family, seed, kind = found[1], int(found[2]), instance.name.rpartition("-")[0]
    types = instance.gpu_types
    words = [f"--family {family}", f"--workloads {len(instance.workloads)}", f"--seed {seed + 1}"]
    if [gpu.profile.name for gpu in types] != ["v100"]:
        words += [f"--profile {gpu.profile.name} --price {gpu.price_per_hour:g}" for gpu in types]
        words += [f"--coefficients {types[0].mps_profile.coefficients}"]
    command = f"igniter-opt instances generate {' '.join(words)} -o {kind}-{seed + 1}.yaml"
    return {"family": family, "seed": seed, "generate": command}


@instances_app.command("show")
def show_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A shipped instance.", autocompletion=completion.instances)
    ],
) -> None:
    """Print a shipped instance's file.

    Example: igniter-opt instances show igniter-table3
    """
    print(shipped_instance_text(name), end="")


@instances_app.command("generate")
def generate_command(
    workloads: Annotated[int, typer.Option(metavar="N", help="Number of workloads.")],
    seed: Annotated[int, typer.Option(metavar="S", help="Random seed; same seed, same instance.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The YAML file to write.")],
    profile: Profiles = None,
    price: Prices = None,
    family: Annotated[
        str, typer.Option(help=f"One of: {', '.join(FAMILIES)}.", autocompletion=completion.words(FAMILIES))
    ] = "mixed",
    model: Annotated[str | None, typer.Option(help="Use this model only.", autocompletion=completion.models)] = None,
    coefficients: Coefficients = None,
    name: Annotated[str | None, typer.Option(help="The instance's name. Default: the file's name.")] = None,
    demand: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write demand curves for it, too, for `schedule`.")
    ] = None,
    days: Annotated[float, typer.Option(metavar="D", help="How long they are.")] = 14.0,
) -> None:
    """Make a random instance whose workloads are all feasible alone, and demand curves with the features of real ones.

    Example: igniter-opt instances generate --workloads 24 --seed 7 -o mine.yaml
    """
    profiles = profile or ["v100"]
    check_outputs(output, INSTANCE, None, profiles, "a profile")
    if demand is not None:
        check_outputs(demand, DEMAND, None, [*profiles, output], "the instance or a profile")
        check_apart([(output, "--output"), (demand, "--demand")], profiles)
    prices = prices_of(profiles, price)
    instance = generate_instance(
        name or output.stem,
        workloads,
        seed,
        [read_profile(entry, coefficients=coefficients) for entry in profiles],
        prices,
        family=family,
        model=model,
    )
    curves = None if demand is None else generate_demand(instance, days, seed)
    write_instance(instance, output)
    console.message(f"wrote {output}: {len(instance.workloads)} workloads")
    if demand is not None and curves is not None:
        write_demand(curves, demand)
        console.message(f"wrote {demand}: {curves.steps:,} rows of {rounded(curves.step_s)} s")


@instances_app.command("scale-demand")
def scale_demand_command(
    demand: Annotated[
        Path, typer.Argument(metavar="CSV", help="Rates of streams over time: time_s, and a column each.")
    ],
    instance: InstanceArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The CSV file to write.")],
    percentile: Annotated[
        float, typer.Option(metavar="P", help="This percentile of a stream becomes its workload's rate.")
    ] = 99.9,
    scale: Annotated[float, typer.Option(metavar="X", help="Multiply all rates by X.")] = 1.0,
) -> None:
    """Give an instance's workloads the shapes of recorded streams, one each, in their order.

    Example: igniter-opt instances scale-demand streams.csv igniter-three -o scaled.csv
    """
    check_outputs(output, DEMAND, None, [demand, instance], "what is read")
    scaled = scaled_to(read_demand(demand), instance_of(instance), percentile, scale)
    write_demand(scaled, output)
    console.message(f"wrote {output}: {scaled.steps:,} rows of {rounded(scaled.step_s)} s")


instances_app.command("from-trace")(from_trace_command)
instances_app.command("from-prometheus")(from_prometheus_command)
