"""Models as files, read back by HiGHS, and the duals of the master beside the columns that were written."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from igniter_opt import InputError, Instance, Result, read_instance, solve
from igniter_opt.formulations.highs import Columns, QuietHighs
from igniter_opt.formulations.written import write_model

TABLE3 = read_instance("igniter-table3")


def several_cards() -> Instance:
    """Two types, one of them counted, and workloads that may be split in three."""
    v100 = TABLE3.gpu_types[0]
    cheap = v100.model_copy(update={"name": "cheap", "price_per_hour": 2.0, "count": 2})
    return TABLE3.model_copy(update={"gpu_types": (v100, cheap)}).with_options("half", 3)


@pytest.fixture(scope="module")
def solved() -> dict[str, Result]:
    return {
        "patterns": solve(several_cards(), keep_model=True, time_limit=20),
        "assignment": solve(TABLE3, "assignment", keep_model=True),
    }


def read_back(path: Path) -> QuietHighs:
    solver = QuietHighs()
    solver.readModel(str(path))
    return solver


def optimum(solver: QuietHighs) -> float:
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.run()
    assert solver.modelStatusToString(solver.getModelStatus()) == "Optimal"
    return float(solver.getInfo().objective_function_value)


@pytest.mark.parametrize("ending", ["lp", "mps"])
@pytest.mark.parametrize("method", ["patterns", "assignment"])
def test_what_is_read_back_has_the_same_optimum(
    method: str, ending: str, solved: dict[str, Result], tmp_path: Path
) -> None:
    result, path = solved[method], tmp_path / f"model.{ending}"
    assert result.status == "optimal"
    assert result.model is not None
    write_model(result.model, path)
    solver = read_back(path)
    assert solver.getNumCol() == len(result.model.columns)
    assert optimum(solver) == pytest.approx(result.cost)


def test_duals_are_feasible_for_the_columns_in_the_file(solved: dict[str, Result], tmp_path: Path) -> None:
    """From the file alone: every column's cost less what its rows are worth, and what all rows are worth together."""
    result, path = solved["patterns"], tmp_path / "master.mps"
    duals = result.duals
    assert result.model is not None
    assert duals is not None
    write_model(result.model, path)
    lp = read_back(path).getLp()
    classes = dict(re.findall(r"^\* k(\d+): .*: ([^,\n]+)", path.read_text(), re.MULTILINE))
    types = dict(re.findall(r"^\* g(\d+): ([^,\n]+),", path.read_text(), re.MULTILINE))
    worth = []
    for name in lp.row_names_:
        kind, *numbers = re.fullmatch(r"(cover|replicas|count)_[kg](\d+)(?:_r(\d+))?", name).groups()  # type: ignore[union-attr]
        if kind == "cover":
            worth.append(duals.items[classes[numbers[0]], int(numbers[1])])
        elif kind == "replicas":
            worth.append(duals.workloads[classes[numbers[0]]])
        else:
            worth.append(-duals.gpu_types[types[numbers[0]]])
    matrix = Columns.of(lp)
    reduced = np.asarray(lp.col_cost_) - np.add.reduceat(matrix.value * np.array(worth)[matrix.row], matrix.start[:-1])
    assert reduced.min() > -1e-7
    assert min(duals.items.values()) >= 0
    assert min(duals.gpu_types.values()) >= 0
    counts = {gpu.name: gpu.count or 0 for gpu in several_cards().gpu_types}
    total = sum(duals.workloads.values()) - sum(counts[name] * price for name, price in duals.gpu_types.items())
    assert total == pytest.approx(duals.optimum)
    relaxation = read_back(path)
    relaxation.changeColsIntegrality(lp.num_col_, np.arange(lp.num_col_), np.zeros(lp.num_col_, dtype=np.uint8))
    assert optimum(relaxation) == pytest.approx(duals.optimum)
    assert duals.gpu_types["cheap"] > 0.0
    assert set(duals.workloads) == {workload.name for workload in TABLE3.workloads}


def test_a_plan_without_column_generation_has_a_master_of_its_own_patterns() -> None:
    result = solve("igniter-motivation", keep_model=True)
    assert result.model is not None
    assert result.duals is not None
    assert sum(name.startswith("p") for name in result.model.columns) >= 1
    assert result.duals.optimum <= result.cost + 1e-9


def test_without_being_asked_for_there_is_none() -> None:
    result = solve("igniter-motivation")
    assert (result.model, result.duals) == (None, None)


def test_workload_names_do_not_get_into_the_format(solved: dict[str, Result], tmp_path: Path) -> None:
    model = solved["patterns"].model
    assert model is not None
    write_model(replace(model, notes=("k0: Größe \u2028 x",)), tmp_path / "odd.lp")
    text = (tmp_path / "odd.lp").read_bytes()
    assert text.isascii()
    assert optimum(read_back(tmp_path / "odd.lp")) == pytest.approx(solved["patterns"].cost)


def test_other_files_and_endings_are_refused(solved: dict[str, Result], tmp_path: Path) -> None:
    model = solved["patterns"].model
    assert model is not None
    (tmp_path / "mine.lp").write_text("min\n obj: x\nst\nend\n")
    with pytest.raises(InputError, match="is not a model"):
        write_model(model, tmp_path / "mine.lp")
    assert (tmp_path / "mine.lp").read_text().startswith("min")
    with pytest.raises(InputError, match=r"\.lp or \.mps"):
        write_model(model, tmp_path / "model.txt")
    write_model(model, tmp_path / "ours.lp")
    write_model(model, tmp_path / "ours.lp")
