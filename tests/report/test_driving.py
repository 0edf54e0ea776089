"""Table 1's rows from samples that one can add up by eye, and which of their cells are grey."""

from pathlib import Path
from typing import Any

import pytest

from stages.core.params import Params, read_params
from stages.planning.tables import Clear, Noise
from stages.report.driving import MINUS_COLUMNS, driving_rows, shaded, without_rulers

SCENES = ("a", "a", "b", "b")


@pytest.fixture(scope="module")
def params() -> Params:
    whole = read_params(Path(__file__).parents[2] / "params.yaml")
    few = {
        "pruners": ["none", "divprune"],
        "trained": ["recon"],
        "references": ["oracle", "other_image", "black_image"],
        "bounds": ["recorded_future"],
        "percents": [25, 50],
    }
    return whole.model_copy(update={"grid": whole.grid.model_copy(update=few)})


def samples(*l2_m: float) -> list[dict[str, Any]]:
    return [
        {"token": f"t{i}", "scene": SCENES[i], **{f"l2_m_{s}s": value for s in (1, 2, 3)},
         **{f"{name}_{s}s": False for name in ("collision", "intersection") for s in (1, 2, 3)}}
        for i, value in enumerate(l2_m)
    ]  # fmt: skip


def driven(params: Params) -> tuple[dict[tuple[str, int], list[dict]], list[dict]]:
    """recon is worse in every scene, divprune better in one and worse in the other; all else is as unpruned."""
    l2_m = {"recon": (2, 2, 3, 3), "divprune": (0.5, 0.5, 1.5, 1.5)}
    cells = [(name, percent) for name in params.grid.names for percent in params.grid.ratios_of(name)]
    found = {cell: samples(*l2_m.get(cell[0], (1, 1, 1, 1))) for cell in cells}
    return found, [{"method": name, "pruned_percent": percent, "n": 4} for name, percent in cells]


def test_it_starts_with_does_it_look_and_ends_with_the_bounds(params: Params) -> None:
    rows = without_rulers(driving_rows(*driven(params), params), params)
    assert [(row["method"], row["pruned_percent"]) for row in rows] == [
        ("black_image", 0),
        ("other_image", 0),
        ("none", 0),
        ("divprune", 25),
        ("recon", 25),
        ("divprune", 50),
        ("recon", 50),
        ("recorded_future", 0),
    ]


def test_each_row_has_its_paired_difference_to_the_unpruned_driver(params: Params) -> None:
    rows = {(row["method"], row["pruned_percent"]): row for row in driving_rows(*driven(params), params)}
    recon = rows["recon", 50]
    assert (recon["minus_none_n"], recon["l2_minus_none"]) == (4, 150)
    assert (recon["l2_minus_none_low"], recon["l2_minus_none_high"]) == (100, 200)
    assert "l2_minus_none" not in rows["none", 0]


def test_noise_is_grey_and_what_is_clear_is_bold(params: Params) -> None:
    rows = [row for row in driving_rows(*driven(params), params) if row["pruned_percent"] == 50]
    columns = MINUS_COLUMNS | {"L2 1 s": "{n}", "L2 rel.": "{n}"}
    lines = {line[0]: line for line in shaded(rows, columns)}
    assert [type(lines[name][3]) for name in ("divprune", "recon")] == [Noise, Clear]
    assert [type(lines["recon"][i]) for i in (0, 4, 6, 7)] == [str, Noise, str, Clear]


def test_without_a_frame_in_common_nothing_is_marked(params: Params) -> None:
    found, scores = driven(params)
    rows = driving_rows(found | {("recon", 25): []}, scores, params)
    (line,) = shaded([row for row in rows if (row["method"], row["pruned_percent"]) == ("recon", 25)], MINUS_COLUMNS)
    assert {type(cell) for cell in line} == {str}
