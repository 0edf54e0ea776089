"""The table, its marks, the refusal, and the command on the graph of this repository."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import ParamsError
from stages.core.params import Params, read_params
from stages.outlook import __main__ as outlook
from stages.outlook import table
from stages.outlook.fitting import DoesNotFitError, require_fit
from stages.outlook.history import reference
from stages.outlook.machine import Machine
from stages.outlook.row import Row, Time

ROOT = Path(__file__).parents[2]
HERE = Machine(cores=2, memory_bytes=24e9, gpus=0, gpu_memory_bytes=0.0, disk_free_bytes=1e9)
MEASURED = Row(
    "generate_masks", True, "masks.size 1 -> 2", "", Time(90.0, "measured here", False), 0.0, 1e9, False, 5e6
)
GUESSED = Row("train_pruner@recon", True, "new", "", Time(7200.0, "stated", True), 2.0, 9e9, True, 2e8, True)
FRESH = Row("make_world", False, "")


def test_a_guess_is_marked_and_a_measured_number_is_not() -> None:
    assert table.cells(MEASURED)["time"] == "1.5 min"
    assert table.cells(MEASURED)["memory"] == "1 GB"
    cells = table.cells(GUESSED)
    assert (cells["time"], cells["GPU-hours"], cells["memory"], cells["disk"]) == ("~2 h", "~2", "~9 GB", "~200 MB")
    assert cells["basis"] == "guess: stated"
    told = table.as_json([FRESH, MEASURED, GUESSED], HERE, "")
    assert [row["seconds_guess"] for row in told["rows"]] == [None, False, True]


def test_a_sum_with_one_guess_is_a_guess() -> None:
    assert "2 of 3 stages are stale: ~2.02 h" in table.total([FRESH, MEASURED, GUESSED], HERE)
    assert "1 of 2 stages are stale: 1.5 min" in table.total([FRESH, MEASURED], HERE)
    assert table.total([FRESH], HERE) == "1 stages, all fresh"


def test_lines_off_a_terminal_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    table.show([FRESH, MEASURED, GUESSED], HERE)
    head, *lines, total = capsys.readouterr().out.splitlines()
    assert {line.index("stale") for line in lines if "stale" in line} == {head.index("state")}
    assert total.startswith("~ a guess. 2 of 3 stages")


def test_what_the_disk_cannot_hold_is_refused_with_3() -> None:
    with pytest.raises(DoesNotFitError, match=r"wanted 2 GB on the disk .*; got 1 GB free; next: ") as refused:
        require_fit([Row("a", True, "", disk_bytes=2e9)], HERE)
    assert refused.value.exit_code == 3


def test_what_the_memory_cannot_hold_is_refused_with_the_key_to_lower() -> None:
    with pytest.raises(DoesNotFitError, match=r"30 GB of memory for train_pruner@recon \(a guess\).*batch_size"):
        require_fit([Row("train_pruner@recon", True, "", memory_bytes=30e9, memory_guess=True)], HERE)


def test_a_stage_for_a_gpu_does_not_fit_where_there_is_none() -> None:
    with pytest.raises(DoesNotFitError, match="no GPU on this machine"):
        require_fit([Row("plan_routes@none", True, "", memory_bytes=1e9, on_gpu=True)], HERE)


def test_what_fits_is_let_through() -> None:
    require_fit([FRESH, MEASURED, GUESSED], HERE)


def test_the_reference_is_of_these_params() -> None:
    """Else nothing on a fresh checkout could be told: make it anew (stages/outlook/history.py) or edit its params."""
    kept = reference()
    Params.model_validate_json(json.dumps(kept[0].params))
    assert len(kept) > 50


def test_a_stage_that_there_is_not_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.core.journal.graph import read_graph

    graph = read_graph(ROOT)
    with pytest.raises(ParamsError, match="fastdrive plan train_pruner`"):
        outlook.chosen(graph, ["train_prunr"])
    assert outlook.chosen(graph, ["generate_masks"]) == {"make_world", "generate_masks"}


def test_a_driver_that_is_made_anew_is_judged_by_the_params_that_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    smoke = read_params(ROOT / "infra/params/smoke.yaml")
    stale = {name: [{"changed deps": {"params.yaml": {"a": "modified"}}}] for name in ("train_driver", "make_report")}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(outlook, "read_params", lambda: smoke)
    monkeypatch.setattr(outlook.staleness, "ask_dvc", lambda root: None)
    monkeypatch.setattr(outlook.staleness, "answer", lambda asked: stale)
    assert "train_pruner@recon" in {row.stage for row in outlook.look_ahead([])[0] if row.stale}
    stale["train_pruner@recon"] = stale.pop("train_driver")  # now the driver that lies there stays: its heads are of 48
    with pytest.raises(ParamsError, match="head size 48; got 32"):
        outlook.look_ahead([])


def test_a_full_disk_ends_the_command_with_3_after_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    big = Row("a", True, "", disk_bytes=2e9)
    monkeypatch.setattr(outlook, "look_ahead", lambda wanted: ([big], HERE))
    with pytest.raises(DoesNotFitError):
        outlook.main([], None)
    assert "1 of 1 stages are stale" in capsys.readouterr().out
    with pytest.raises(DoesNotFitError):
        outlook.main([], str(tmp_path / "told.json"))
    told = json.loads((tmp_path / "told.json").read_bytes())
    assert (told["fits"], told["rows"][0]["disk_bytes"]) == (False, 2e9)


def test_the_command_on_this_repository_names_every_stage_and_the_next_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.outlook", "generate_masks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    lines: list[Any] = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["make_world", "generate_masks"]
    assert lines[-1].startswith("next: ")
