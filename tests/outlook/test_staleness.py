"""Fresh or stale and why, on a small graph; the words of `dvc status` are those of DVC 3.67."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_graph import PARAMS, STAGES

from stages.core.errors import DataError, TryAgainError
from stages.core.journal.graph import expanded
from stages.outlook.staleness import answer, ask_dvc, states

GRAPH = {stage.name: stage for stage in expanded(STAGES, PARAMS)}
LOCKED: dict[str, Any] = {name: {"params": {}} for name in GRAPH}
LOCKED["train_pruner@recon"] = {"params": {"params.yaml": {"train_pruner": {"steps": 240, "lr": 0.1}}}}


def test_nothing_changed_is_all_fresh() -> None:
    assert not [state for state in states(GRAPH, {}, LOCKED, PARAMS).values() if state.stale]


def test_a_changed_param_is_told_with_both_values_and_followed_down() -> None:
    status = {"train_pruner@recon": [{"changed deps": {"params.yaml": {"train_pruner.steps": "modified"}}}]}
    found = states(GRAPH, status, LOCKED, PARAMS)
    assert {name: state.why for name, state in found.items() if state.stale} == {
        "train_pruner@recon": "train_pruner.steps 240 -> 300",
        "plan_trained@recon": "train_pruner@recon would change it",
        "make_report": "plan_trained@recon would change it",
    }


def test_code_and_data_that_changed_and_outs_that_are_gone_are_named() -> None:
    changes = {"stages/a.py": "modified", "stages/b.py": "modified", "data/world/v1": "deleted"}
    status = {"generate_masks": [{"changed deps": changes}, {"changed outs": {"data/masks": "not in cache"}}]}
    why = states(GRAPH, status, LOCKED, PARAMS)["generate_masks"].why
    assert why.startswith("masks.size nothing -> [4, 2]; stages/a.py and 1 more modified; data/world/v1 deleted")
    assert why.endswith("; data/masks not in cache")


def test_a_stage_without_an_entry_in_the_lock_has_not_ended() -> None:
    locked = {name: entry for name, entry in LOCKED.items() if name != "train_pruner@other"}
    status = {"train_pruner@other": [{"changed deps": {"data/masks": "new"}}]}
    assert states(GRAPH, status, locked, PARAMS)["train_pruner@other"].why == "it has not ended before"


def test_a_changed_command_is_told() -> None:
    assert states(GRAPH, {"make_world": ["changed checksum"]}, LOCKED, {})["make_world"].why.endswith("checksum")


def failing(words: str) -> "subprocess.Popen[str]":
    program = f"import sys; print({words!r}, file=sys.stderr); sys.exit(255)"
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True)


def test_another_dvc_at_work_is_an_error_to_try_again() -> None:
    with pytest.raises(TryAgainError, match="another DVC at work"):
        answer(failing("ERROR: Unable to acquire lock."))


def test_a_damaged_lock_names_what_mends_it() -> None:
    with pytest.raises(DataError, match=r"python -m flows\.mend|python -m flows\.dvc"):
        answer(failing("ERROR: dvc.lock validation failed"))


def test_what_dvc_fails_by_is_told_not_its_invitation_to_ask_for_help() -> None:
    with pytest.raises(DataError, match=r"got ERROR: unexpected error - \[Errno 30\] Read-only file system"):
        answer(
            failing(
                "ERROR: unexpected error - [Errno 30] Read-only file system: '/var/tmp/dvc'\n\nHaving any troubles?"
            )
        )


def test_a_real_dvc_says_what_is_told_here(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("steps: 3\n")
    (tmp_path / "dvc.yaml").write_text('stages: {a: {cmd: "echo 1 > out", params: [steps], outs: [out]}}\n')
    for words in (["init", "-q", "--no-scm"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=tmp_path, check=True)
    (tmp_path / "params.yaml").write_text("steps: 4\n")
    found = answer(ask_dvc(tmp_path))
    assert json.loads(json.dumps(found)) == {"a": [{"changed deps": {"params.yaml": {"steps": "modified"}}}]}
