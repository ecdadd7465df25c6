"""Write the generated benchmark families to ``instances/`` (the same files every time).

Run: python bench/make_instances.py
"""

from pathlib import Path

from igniter_opt.generate import generate_instance
from igniter_opt.instance import write_instance
from igniter_opt.profile import read_profile

FOLDER = Path(__file__).parents[1] / "instances"
SIZES = [("mixed", 12), ("mixed", 24), ("tight", 12), ("tight", 24), ("loose", 12), ("loose", 24), ("one-model", 12),
         ("one-model", 24), ("tiny", 60)]  # fmt: skip
V100_PRICE_PER_HOUR = 3.06

for family, workloads in SIZES:
    name = f"{family}-{workloads}-1"
    instance = generate_instance(name, workloads, 1, [read_profile("v100")], [V100_PRICE_PER_HOUR], family=family)
    write_instance(instance, FOLDER / f"{name}.yaml")
