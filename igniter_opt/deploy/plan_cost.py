"""What a plan's GPUs cost, as a deployment remembers it and two plans are compared by it."""

from collections import Counter
from decimal import Decimal

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import Count, Name, NonNegative, Record, describe
from igniter_opt.data.instance import DEFAULT_CURRENCY, Currency
from igniter_opt.data.plan import Plan


class PlanCost(Record):
    """Price of a plan's GPUs in the instance's currency per hour, and how many there are of every type."""

    cost_per_hour: NonNegative = 0.0
    currency: Currency = DEFAULT_CURRENCY
    gpus: dict[Name, Count] = {}  # noqa: RUF012


def plan_cost(plan: Plan, *, prices_of: Plan | None = None) -> PlanCost:
    """Return what a plan's GPUs cost by its own instance's prices, whatever the plan says that it costs.

    With `prices_of` by that plan's prices, as far as it has the types.

    Raises
    ------
    InputError
        A GPU is of a type that the instance does not have.
    """
    prices = {gpu.name: Decimal(str(gpu.price_per_hour)) for gpu in plan.instance.gpu_types}
    for gpu in plan.gpus:
        if gpu.type not in prices:
            raise InputError(
                f"plan for {plan.instance.name}: GPU {gpu.name} is of type {describe(gpu.type)}, which its instance"
                " does not have; `igniter-opt verify` shows all that is wrong"
            )
    if prices_of is not None:
        prices |= {gpu.name: Decimal(str(gpu.price_per_hour)) for gpu in prices_of.instance.gpu_types}
    gpus = Counter(gpu.type for gpu in plan.gpus)
    cost = sum((prices[name] * count for name, count in gpus.items()), Decimal(0))
    return PlanCost(cost_per_hour=float(cost), currency=plan.instance.currency, gpus=dict(sorted(gpus.items())))
