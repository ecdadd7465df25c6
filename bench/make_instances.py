"""Write the generated benchmark families to ``instances/`` (the same files every time).

Run: python bench/make_instances.py

Instances with several real cards (``cards-*``, ``today-*``) rest on the shipped profiles and on public on-demand
prices in US dollars per GPU and hour, of AWS EC2 in us-east-1: p3.2xlarge 3.06 for one V100; p5.48xlarge 55.04 for
eight H100s (November 2026); p5en.48xlarge 63.296 for eight H200s (August 2026). They ignore that H100s and H200s are
rented by the eight.
"""

from pathlib import Path
from types import MappingProxyType

from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import read_instance, write_instance
from igniter_opt.data.profile import read_profile
from igniter_opt.generate import generate_instance

FOLDER = Path(__file__).parents[1] / "instances"
SIZES = [("mixed", 12), ("mixed", 24), ("tight", 12), ("tight", 24), ("loose", 12), ("loose", 24), ("one-model", 12),
         ("one-model", 24), ("tiny", 60)]  # fmt: skip
PRICES_PER_HOUR = {"v100": 3.06, "h100": 6.88, "h200": 7.912}
PRICED = "prices: AWS EC2 on demand, us-east-1, USD per GPU, 2026"
# Cards by names' beginnings; the first gives SLOs and rates their ranges.
CARDS = MappingProxyType({"cards": ("v100", "h100", "h200"), "today": ("h100", "h200")})


def family(name: str, workloads: int) -> Instance:
    """Draw a family's instance on V100s."""
    return generate_instance(
        f"{name}-{workloads}-1", workloads, 1, [read_profile("v100")], [PRICES_PER_HOUR["v100"]], family=name
    )


def cards(name: str, profiles: tuple[str, ...], workloads: int, seed: int) -> Instance:
    """Draw workloads for several real cards, predicted by the refined coefficients."""
    drawn = generate_instance(
        name,
        workloads,
        seed,
        [read_profile(profile, coefficients="refined") for profile in profiles],
        [PRICES_PER_HOUR[profile] for profile in profiles],
    )
    return drawn.model_copy(update={"description": f"{drawn.description.removesuffix('.')}; {PRICED}."})


def table3_on_cards() -> Instance:
    """Put the paper's workloads on V100s, H100s and H200s."""
    types = tuple(
        GpuType(name=name.upper(), profile=read_profile(name), price_per_hour=price)
        for name, price in PRICES_PER_HOUR.items()
    )
    return Instance(
        name="cards-table3",
        description=f"The twelve workloads of Xu et al. 2023, Table 3, on V100, H100 and H200 GPUs; {PRICED}.",
        gpu_types=types,
        workloads=read_instance("igniter-table3").workloads,
    )


def instances() -> list[Instance]:
    """Make all of them."""
    several = [cards(f"{name}-{size}-1", CARDS[name], size, 1) for name in CARDS for size in (24, 100)]
    return [*(family(*size) for size in SIZES), table3_on_cards(), *several]


if __name__ == "__main__":
    for instance in instances():
        write_instance(instance, FOLDER / f"{instance.name}.yaml")
