"""The slow test that kills stages kills each stage of the graph, in cells that the smoke profile has."""

import ast
from pathlib import Path

import yaml

from stages.core.params import read_params

ROOT = Path(__file__).parents[2]


def killed() -> dict[str, float]:
    """The table of test_interrupted.py: cell -> seconds from its record to the signal."""
    tree = ast.parse((ROOT / "tests/faults/test_interrupted.py").read_text(encoding="utf-8"))
    (table,) = (
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STAGES"
    )
    found: dict[str, float] = ast.literal_eval(table)
    return found


def test_each_stage_of_the_graph_is_killed() -> None:
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert {name.split("@")[0] for name in killed()} == set(graph)


def test_the_cells_are_in_the_smoke_profile() -> None:
    grid = read_params(ROOT / "infra/params/smoke.yaml").grid
    cells = {*grid.pruners, *grid.trained, *grid.references, *grid.bounds}
    assert {name.split("@")[1] for name in killed() if "@" in name} <= cells
