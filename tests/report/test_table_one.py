"""Table 1 on the page: its groups, and where the paper's rows stand."""

from pathlib import Path
from typing import Any

import pytest

from stages.core.params import Grid, read_params
from stages.report.captions import Setting
from stages.report.page import Table
from stages.report.table_one import LOOKS, scores_section

ELSEWHERE, PAPERS = Setting("Protocol x.", papers=False), Setting("Protocol x.", papers=True)


@pytest.fixture(scope="module")
def grid() -> Grid:
    whole = read_params(Path(__file__).parents[2] / "params.yaml").grid
    few = {"pruners": ["none", "fastv"], "trained": ["recon"], "bounds": ["recorded_future"], "percents": [25, 50]}
    return whole.model_copy(update=few)


def row(method: str, percent: int = 0) -> dict[str, Any]:
    ends = {f"l2_cm_avg{end}": 40.0 for end in ("", "_low", "_high")}
    minus = {"minus_none_n": 4, "l2_minus_none": 1.0, "l2_minus_none_low": -1.0, "l2_minus_none_high": 2.0}
    tokens = {"tokens_kept": 84 - percent, "tokens_total": 84}
    ends |= {"l2_cm_3s": 3.0, "l2_cm_3s_low": 1.0, "l2_cm_3s_high": 5.0, "n": 4}
    return {"method": method, "pruned_percent": percent, **tokens, **ends, **(minus if method != "none" else {})}


def tables(grid: Grid, setting: Setting) -> list[Table]:
    cells = [(name, p) for p in (25, 50) for name in ("fastv", "recon")]
    shown = [row("black_image"), row("other_image"), row("none"), *(row(*cell) for cell in cells)]
    section = scores_section(grid, [*shown, row("recorded_future")], setting)
    return [block for block in section.blocks if isinstance(block, Table)]


def test_does_it_look_stands_first_then_unpruned_ratios_and_bounds(grid: Grid) -> None:
    first, *_ = tables(grid, ELSEWHERE)
    assert [group.title for group in first.groups] == [
        LOOKS,
        "Unpruned",
        "25 % pruned: 59 of 84 tokens kept",
        "50 % pruned: 34 of 84 tokens kept",
        "Bounds: plans that look at no image",
    ]
    assert first.caption.endswith("Protocol x.")


def test_differences_leave_the_unpruned_driver_out(grid: Grid) -> None:
    _, differences, *_ = tables(grid, ELSEWHERE)
    assert [line[0] for group in differences.groups for line in group.rows] == [
        "black_image", "other_image", "fastv", "recon", "fastv", "recon", "recorded_future",
    ]  # fmt: skip


def test_every_time_has_its_interval_in_a_table_of_its_own(grid: Grid) -> None:
    *_, intervals, _ = tables(grid, ELSEWHERE)
    assert intervals.headings == ["Method", *["1 s", "2 s", "3 s"] * 3, "N"]
    assert intervals.groups[1].rows[0][3] == "3.00\n[1.00, 5.00]"


def test_the_papers_rows_stand_apart_in_another_setting_and_among_ours_in_its_own(grid: Grid) -> None:
    *_, apart = tables(grid, ELSEWHERE)
    assert apart.caption.startswith("Not comparable")
    assert sum(len(group.rows) for group in apart.groups) == 16
    first, _, last = tables(grid, PAPERS)
    assert [line[0] for line in first.groups[2].rows] == [
        "fastv",
        "FastV, the paper",
        "recon",
        "FastDriveVLA, the paper",
    ]
    assert not last.caption.startswith("Not comparable")
    assert "are not known" in first.caption
