"""What can be asked for: the bodies of requests, and the calls of this package that they stand for.

Instances, plans and profiles come along as JSON, in the shape of their files; shipped ones go by their name. Nothing in
a request is a path: what would name a file elsewhere is refused (`data.named_files.NoFiles`).
"""

from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import describe
from igniter_opt.data.arrivals import Arrivals, arrivals_from
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import instance_from_data, shipped_instance
from igniter_opt.data.named_files import NoFiles
from igniter_opt.data.plan import Plan, plan_from_data
from igniter_opt.data.profile import Profile, named_profile, profile_from_data, with_coefficients
from igniter_opt.options import DEFAULT_TIME_LIMIT_S, LARGEST_SEED
from igniter_opt.serve.job import Kind
from igniter_opt.serve.settings import ServiceLimits
from igniter_opt.serve.work import Call, compare_work, predict_work, replan_work, simulate_work, solve_work, verify_work

_MOST_INSTANCES = 20
_NAME_OR_DATA = "The shipped one of this name, or one as in a file."
InstanceBody = Annotated[str | dict[str, Any], Field(description=f"An instance. {_NAME_OR_DATA}")]
PlanBody = Annotated[dict[str, Any], Field(description="A plan, as in a file.")]
ProfileBody = Annotated[str | dict[str, Any], Field(description=f"A profile. {_NAME_OR_DATA}")]
ArrivalsBody = Annotated[
    dict[str, Any], Field(description='How requests arrive, as in an instance: {"kind": "gamma", "burstiness": 4}.')
]
Count = Annotated[int, Field(ge=0, le=10**9)]
Part = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]


class _Body(BaseModel):
    """What is in the body of a request."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class _Solving(_Body):
    """Options of every solve; those of the command of the same name."""

    time_limit: NotNegative = Field(DEFAULT_TIME_LIMIT_S, description="Seconds for an exact solve.")
    gap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    margin: Annotated[float, Field(ge=0, le=100)] | None = None
    confidence: Part | None = None
    coefficients: str | None = None
    slo_rule: str | None = None
    max_replicas: Annotated[int, Field(ge=1, le=100)] | None = None
    percentile: Part | None = None
    scale: Annotated[float, Field(gt=0, le=1e9)] | None = None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0

    def options(self) -> dict[str, Any]:
        """Return the options that `solve`, `compare` and `replan` share."""
        return {name: getattr(self, name) for name in _Solving.model_fields}


class _Planning(_Solving):
    """Options of traffic besides."""

    arrivals: ArrivalsBody | None = None
    headroom: NotNegative | None = None
    split: str | None = None

    def options(self) -> dict[str, Any]:
        """Return the options that `solve` and `compare` share."""
        planned = None if self.arrivals is None else _arrivals(self.arrivals)
        return {**super().options(), "arrivals": planned, "headroom": self.headroom, "split": self.split}


class SolveBody(_Planning):
    """One plan for an instance."""

    instance: InstanceBody
    method: str = "auto"
    neighbours: str = "full"
    warm_start: bool = True
    start: PlanBody | None = Field(None, description="A plan that exact methods begin with.")

    def call(self, limits: ServiceLimits) -> Call:
        """Return the work; raise InputError where the request makes no sense."""
        start = None if self.start is None else _plan(self.start, limits)
        more = {"neighbours": self.neighbours, "warm_start": self.warm_start, "start": start}
        return solve_work(_instance(self.instance, limits), self.method, {**self.options(), **more})


class CompareBody(_Planning):
    """Several methods on the same instances."""

    instances: Annotated[list[InstanceBody], Field(min_length=1, max_length=_MOST_INSTANCES)]
    methods: Annotated[list[str], Field(min_length=1, max_length=50)] | None = None
    requests: Annotated[int, Field(ge=0, le=1_000_000)] = Field(20_000, description="Per workload to simulate with.")

    def call(self, limits: ServiceLimits) -> Call:
        """Return the work; raise InputError where the request makes no sense."""
        problems = [_instance(entry, limits) for entry in self.instances]
        return compare_work(problems, self.methods, {**self.options(), "requests": self.requests})


class VerifyBody(_Body):
    """The judgement of a plan."""

    plan: PlanBody

    def call(self, limits: ServiceLimits) -> Call:
        """Return the work; raise InputError where the request makes no sense."""
        return verify_work(_plan(self.plan, limits))


class PlacedModel(_Body):
    """A model on the GPU."""

    model: str
    batch: Annotated[int, Field(ge=1, le=100_000)]
    share_percent: Annotated[float, Field(gt=0, le=100)]


class PredictBody(_Body):
    """What models take side by side on one GPU."""

    profile: ProfileBody
    placements: Annotated[list[PlacedModel], Field(min_length=1, max_length=1000)]
    coefficients: str | None = None

    def call(self, limits: ServiceLimits) -> Call:
        """Return the work; raise InputError where the request makes no sense."""
        placed = [(entry.model, entry.batch, entry.share_percent) for entry in self.placements]
        return predict_work(_profile(self.profile, self.coefficients), placed)


class SimulateBody(_Body):
    """A plan's queues, request by request."""

    plan: PlanBody
    arrivals: ArrivalsBody | None = None
    requests: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    warm_up: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    seeds: Annotated[int, Field(ge=1, le=1000)] = 10
    seed: Count = 0
    split: str | None = None
    neighbours: str | None = None
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    margin: Annotated[float, Field(ge=0, le=100)] = 0.0
    scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    percentile: Annotated[float, Field(gt=0, le=1)] | None = None

    def call(self, limits: ServiceLimits) -> Call:
        """Return the work; raise InputError where the request makes no sense."""
        options = {name: getattr(self, name) for name in type(self).model_fields if name != "plan"}
        options["arrivals"] = None if self.arrivals is None else _arrivals(self.arrivals)
        return simulate_work(_plan(self.plan, limits), options)


class Weights(_Body):
    """What a move, a restart and a resize in place count."""

    move: NotNegative = 1.0
    restart: NotNegative = 0.2
    resize: NotNegative = 0.1


class ReplanBody(_Solving):
    """A plan for changed workloads that disrupts a running plan as little as its cost allows."""

    plan: Annotated[dict[str, Any], Field(description="The plan that runs, as in a file.")]
    instance: InstanceBody
    method: str = "auto"
    weights: Weights = Weights()
    move_price: NotNegative | None = None
    keep: Annotated[list[str], Field(max_length=10_000)] = []
    max_moves: Count | None = None
    spare_gpus: Annotated[int, Field(ge=0, le=100)] = 0

    def call(self, limits: ServiceLimits) -> Call:
        """Return the work; raise InputError where the request makes no sense."""
        terms = {
            "weights": (self.weights.move, self.weights.restart, self.weights.resize),
            "move_price": self.move_price,
            "keep": tuple(self.keep),
            "max_moves": self.max_moves,
            "spare_gpus": self.spare_gpus,
        }
        running, wanted = _plan(self.plan, limits), _instance(self.instance, limits)
        return replan_work(running, wanted, self.method, terms, self.options())


Body = SolveBody | CompareBody | VerifyBody | PredictBody | SimulateBody | ReplanBody
BODIES: dict[Kind, type[Body]] = {
    "solve": SolveBody,
    "compare": CompareBody,
    "verify": VerifyBody,
    "predict": PredictBody,
    "simulate": SimulateBody,
    "replan": ReplanBody,
}


def check_body(body: Body, limits: ServiceLimits) -> Call:
    """Return the work that a body asks for.

    Raises
    ------
    InputError
        It makes no sense, or is more than the service takes on.
    """
    asked = getattr(body, "time_limit", 0.0)
    if asked > limits.time_limit_s:
        raise InputError(f"time_limit must be at most {limits.time_limit_s:g} s here; found {asked:g}")
    return body.call(limits)


def _instance(given: str | dict[str, Any], limits: ServiceLimits) -> Instance:
    if isinstance(given, str):
        return _within(shipped_instance(given), limits)
    workloads = given.get("workloads")
    if isinstance(workloads, list):
        _check_count(len(workloads), limits)
    return _within(instance_from_data(given, "instance", NoFiles()), limits)


def _plan(given: dict[str, Any], limits: ServiceLimits) -> Plan:
    plan = plan_from_data(given, "plan", NoFiles())
    _within(plan.instance, limits)
    _check_count(sum(len(gpu.placements) for gpu in plan.gpus), limits)
    return plan


def _within(instance: Instance, limits: ServiceLimits) -> Instance:
    _check_count(sum(workload.max_replicas or 1 for workload in instance.workloads), limits)
    return instance


def _check_count(found: int, limits: ServiceLimits) -> None:
    if found > limits.workloads:
        raise InputError(f"at most {limits.workloads:,} workloads are served here, counting replicas; found {found:,}")


def _profile(given: str | dict[str, Any], coefficients: str | None) -> Profile:
    if isinstance(given, str):
        return named_profile(given, NoFiles(), coefficients)
    found = profile_from_data(given, "profile", "profile")
    return found if coefficients is None else with_coefficients(found, coefficients)


def _arrivals(given: dict[str, Any]) -> Arrivals:
    kind = given.get("kind")
    if kind == "constant" and set(given) == {"kind"}:
        return Arrivals(cast(Any, kind))  # what a simulation may send, though nothing plans for it
    try:
        return arrivals_from(given, (), NoFiles())
    except InputError as error:
        raise InputError(f"arrivals: {error}" if not str(error).startswith("arrivals") else str(error)) from None


def body_of(kind: Kind, data: Any) -> Body:
    """Return a body that was checked before, of its plain data."""
    if kind not in BODIES:
        raise InputError(f"unknown kind of job {describe(kind)}")
    return BODIES[kind].model_validate(data)
