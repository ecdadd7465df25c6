"""The options that several commands share, and the values of their words; others are in `choices` and `traffic`."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.cli import completion
from igniter_opt.data.instance import DEFAULT_PERCENTILE, SloRule
from igniter_opt.data.profile import COEFFICIENT_SETS
from igniter_opt.data.slo_rule import percentile_rules
from igniter_opt.slo.rules import RULES

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Random seed.")]
PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file.")]
PlanInput = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file, or - for standard input.")]
ProfileArgument = Annotated[
    str,
    typer.Argument(metavar="PROFILE", help="A shipped profile's name, or a file.", autocompletion=completion.profiles),
]

# Of solving.
InstanceArgument = Annotated[
    str,
    typer.Argument(
        metavar="INSTANCE",
        help="A file, a shipped instance's name, or - for standard input.",
        autocompletion=completion.instances,
    ),
]
TimeLimit = Annotated[float, typer.Option(metavar="S", help="Seconds for an exact solve.")]
Gap = Annotated[float, typer.Option(metavar="G", help="Relative gap at which to stop (0.01 is 1 %).")]
Margin = Annotated[float, typer.Option(metavar="M", help="Inflate predicted GPU latencies by 1 + M.")]
PlanMargin = Annotated[
    float | None, typer.Option(metavar="M", help="Inflate predicted GPU latencies by 1 + M (0.1: by 10 %). Default 0.")
]
Confidence = Annotated[
    float | None, typer.Option(metavar="Q", help="Use the margin that the profile is calibrated to have at Q.")
]
Coefficients = Annotated[
    str | None,
    typer.Option(
        metavar="SET",
        help=f"Override the coefficients derived from profiles: {', '.join(COEFFICIENT_SETS)}.",
        autocompletion=completion.coefficients,
    ),
]
Rule = Annotated[
    str | None,
    typer.Option(metavar="R", help=f"Override the SLO rule: {', '.join(RULES)}.", autocompletion=completion.rules),
]
Replicas = Annotated[int | None, typer.Option(metavar="K", help="Override every workload's max_replicas.")]
Percentile = Annotated[
    float | None,
    typer.Option(
        metavar="Q",
        help=f"Fraction of requests within the SLO, for a rule that has one. Default {DEFAULT_PERCENTILE}.",
    ),
]
PlanScale = Annotated[
    float | None, typer.Option(metavar="X", help="Multiply all rates by X; the plan holds the rates that it is for.")
]
Headroom = Annotated[
    float | None, typer.Option(metavar="H", help="Plan for all rates times 1 + H (0.2: 20 % more); the plan says so.")
]
SolverSeed = Annotated[int, typer.Option(metavar="N", help="Random seed of the solver.")]

# Of instances that are made.
_V100_PRICE_PER_HOUR = 3.06  # as in shipped instances
Profiles = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        metavar="P",
        help="Profile of a GPU type; repeat for several. Default v100.",
        autocompletion=completion.profiles,
    ),
]
Prices = Annotated[
    list[float] | None,
    typer.Option(
        "--price",
        metavar="C",
        help=f"Price per hour of each profile's GPU. Default {_V100_PRICE_PER_HOUR} for v100.",
    ),
]

# Of servers.
StateFolder = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Where deployments are kept. Default: the user's state folder."),
]
DockerHost = Annotated[
    str | None, typer.Option(metavar="URL", help="Docker engine. Default: DOCKER_HOST, or this machine's.")
]
TritonServer = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The server to start. Default: on PATH, else the installed one.")
]
Image = Annotated[str | None, typer.Option(metavar="REF", help="Triton image, by tag or digest (docker, kubernetes).")]
Cpus = Annotated[float | None, typer.Option(metavar="N", help="Processors per server (docker, kubernetes).")]
MemoryMib = Annotated[int | None, typer.Option(metavar="M", help="Main memory per server (docker, kubernetes).")]
ShmMib = Annotated[int, typer.Option(metavar="M", help="Shared memory per server (docker, with --cpu).")]
Memlock = Annotated[bool, typer.Option("--memlock", help="Lift the memlock limit (docker).")]
BasePort = Annotated[int, typer.Option(metavar="P", help="Servers take free ports from here up.")]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="How to reach a cluster. Default: KUBECONFIG, or kubectl's (kubernetes)."),
]
Context = Annotated[
    str | None, typer.Option(metavar="NAME", help="Its context. Default: the current one (kubernetes).")
]
Namespace = Annotated[
    str | None, typer.Option(metavar="NAME", help="The namespace. Default: the context's, or default (kubernetes).")
]
ReadyTimeout = Annotated[float, typer.Option(metavar="S", help="Seconds a server may take to get ready.")]


def rule_named(value: str | None) -> SloRule | None:
    """Return the SLO rule that an option names."""
    if value is None or value in RULES:
        return value
    raise InputError(
        f"--slo-rule: unknown rule {value!r} (rules: {', '.join(RULES)}; {percentile_rules()} takes another"
        " --percentile, too)"
    )


def prices_of(profiles: list[str], prices: list[float] | None) -> list[float]:
    """Return the price of every profile's GPU."""
    if prices is None:
        if profiles != ["v100"]:
            raise typer.BadParameter("give --price once for each --profile", param_hint="--price")
        prices = [_V100_PRICE_PER_HOUR]
    if len(prices) != len(profiles):
        raise InputError(f"{len(profiles)} profile(s) and {len(prices)} price(s): give one price per profile")
    return prices


def flag(option: str) -> str:
    """Return how an option is written, by the name of its parameter."""
    return f"--{option.replace('_', '-')}"


def check_numbers(
    base_port: int,
    ready_timeout: float,
    drain: float = 0.0,
    cpus: float | None = None,
    memory_mib: int | None = None,
    shm_mib: int | None = None,
) -> None:
    """Raise InputError where one of the options that say how servers are started is out of range."""
    for what, value, least, most in (
        ("--base-port", base_port, 1024, 65533),
        ("--ready-timeout", ready_timeout, 0, 86400),
        ("--drain", drain, 0, 86400),
        ("--cpus", cpus, 0.01, 4096),
        ("--memory-mib", memory_mib, 16, 10**8),
        ("--shm-mib", shm_mib, 1, 10**6),
    ):
        if value is not None and not least <= value <= most:
            raise InputError(f"{what}: must be {least} to {most}; found {value}")
