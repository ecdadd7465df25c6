"""Cards under MIG in pictures and on the page: slices where they are, and that nobody tried them on a card."""

from itertools import pairwise
from pathlib import Path

from igniter_opt import Instance, read_profile, solve, write_plan
from igniter_opt.data.profile_files import read_slice_profile
from igniter_opt.report.charts import gpu_bars, slice_place
from igniter_opt.report.palette import paints
from igniter_opt.report.plots import plot_plan
from tests.cli.helpers import invoke


def mixed() -> Instance:
    types = [
        {"name": "V100", "profile": read_profile("v100"), "price_per_hour": 3.06},
        {"name": "A100", "profile": read_slice_profile("a100-mig-synthetic"), "price_per_hour": 3.5},
    ]
    workloads = [
        {"name": "A", "model": "alexnet", "slo_ms": 15.0, "rate_rps": 900.0},
        {"name": "R", "model": "resnet50", "slo_ms": 40.0, "rate_rps": 600.0},
        {"name": "V", "model": "vgg19", "slo_ms": 60.0, "rate_rps": 400.0},
    ]
    return Instance.model_validate({"name": "mixed", "gpu_types": types, "workloads": workloads})


def test_slices_are_drawn_at_their_slots() -> None:
    result = solve(mixed(), "parvagpu")
    models = sorted({placement.model for gpu in result.plan.gpus for placement in gpu.placements})
    bars = gpu_bars(result.plan, result.verification, paints(models))
    for gpu, bar in zip(result.plan.gpus, bars, strict=True):
        for placement, segment in zip(gpu.placements, bar.segments, strict=True):
            assert (segment.left, segment.width) == slice_place(result.plan, gpu, placement)
            assert segment.left == 12.5 * (placement.slot or 0)
            assert f"{placement.slice} at slot {placement.slot}, {placement.processes} process" in segment.details
        edges = sorted((part.left, part.left + part.width) for part in bar.segments)
        assert all(first[1] <= second[0] for first, second in pairwise(edges))
        assert bar.words.startswith(f"{gpu.name}: ")


def test_page_and_picture(tmp_path: Path) -> None:
    result = solve(mixed(), time_limit=20)
    write_plan(result.plan, tmp_path / "plan.json")
    plot_plan(result, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 5_000
    shown = invoke("verify", str(tmp_path / "plan.json"))
    for gpu in result.plan.gpus:
        for placement in gpu.placements:
            if placement.slice is not None:
                assert f"{placement.slice} at {placement.slot} " in shown.out
    done = invoke("report", str(tmp_path / "plan.json"), "-o", str(tmp_path / "page.html"))
    assert done.code == 0, done.err
    page = (tmp_path / "page.html").read_text()
    assert "has run on a card under MIG" in page
    assert "(synthetic)" in page
    assert "readings of slices under MIG" in page
    assert "GSLICE" not in page
    for gpu in result.plan.gpus:
        for placement in gpu.placements:
            if placement.slice is not None:
                assert f"<td>{placement.slice} at slot {placement.slot}, {placement.processes} process" in page


def test_page_and_verify_say_that_readings_are_rounded(tmp_path: Path) -> None:
    known = read_slice_profile("a100-mig-synthetic").model_dump(mode="json", exclude_none=True)
    rounded = {**known, "synthetic": False, "latency_resolution_ms": 1.0}
    # The quickest reading of the model: whatever is planned has less than a millisecond left.
    slices = rounded["models"]["resnet50"]["slices"].values()
    quickest = min(latency for readings in slices for latency in readings["latency_ms"])
    entry = {"name": "A100", "profile": rounded, "price_per_hour": 3.5}
    workload = {"name": "R", "model": "resnet50", "slo_ms": 2 * quickest + 0.1, "rate_rps": 9.0}
    instance = Instance.model_validate({"name": "rounded", "gpu_types": [entry], "workloads": [workload]})
    write_plan(solve(instance).plan, tmp_path / "plan.json")
    shown = invoke("verify", str(tmp_path / "plan.json"))
    assert "less than that is left to the limit at A100-1/R#1\nthe plan holds\n" in shown.out
    assert invoke("report", str(tmp_path / "plan.json"), "-o", str(tmp_path / "page.html")).code == 0
    page = (tmp_path / "page.html").read_text()
    assert "(latencies read to 1 ms: less than that left to a limit may miss it)" in page
