"""Provenance of a run, with and without git and dvc.lock."""

import subprocess
from pathlib import Path

import pytest

from stages.core.provenance import describe, lineage, locked, locked_outs


def commit(root: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], cwd=root, check=True)


def test_a_clean_checkout_names_its_commit_and_an_edited_one_says_so(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1")
    commit(tmp_path)
    clean = lineage(tmp_path, "make_world")
    (tmp_path / "params.yaml").write_text("seed: 2")
    edited = lineage(tmp_path, "make_world")
    assert len(clean["git.commit"]) == 40
    assert (clean["git.dirty"], edited["git.dirty"]) == ("false", "true")
    assert clean["params.sha256"] != edited["params.sha256"]
    assert clean["pipeline.fingerprint"] != edited["pipeline.fingerprint"]


def test_what_dvc_writes_as_it_runs_is_nobodys_edit(tmp_path: Path) -> None:
    for name in ("metrics/a.json", "models/driver/config.json", "models/driver/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    commit(tmp_path)
    for path in tmp_path.glob("m*/**/*.*"):
        path.write_text("after")
    (tmp_path / "dvc.lock").write_text("stages: {}")
    assert lineage(tmp_path, "train_driver")["git.dirty"] == "false"
    (tmp_path / "models/other.txt").write_text("a person's")
    assert lineage(tmp_path, "train_driver")["git.dirty"] == "true"


def test_without_git_and_lock_the_rest_is_known(tmp_path: Path) -> None:
    assert set(lineage(tmp_path, "make_world")) == {"dvc.stage", "hardware", "pipeline.fingerprint", "pipeline.name"}


def test_the_name_given_by_a_flow_is_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDRIVE_PIPELINE_RUN", "a'b c")
    monkeypatch.setenv("DVC_EXP_NAME", "longer")
    tags = lineage(tmp_path, "make_world")
    assert tags["pipeline.fingerprint"] == "a_b_c"  # it stands in a query of MLflow
    assert tags["pipeline.name"] == "longer"


@pytest.mark.parametrize("damage", ["", "stages: [", "- 1", "stages:\n  one:"])
def test_a_damaged_lock_counts_as_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / "dvc.lock").write_text(damage)
    assert locked_outs(tmp_path, "make_world") == {}


def test_an_entry_that_a_kill_cut_short_is_left_out_and_the_whole_ones_stay(tmp_path: Path) -> None:
    whole = "schema: '2.0'\nstages:\n  one:\n    cmd: a\n    outs:\n    - path: data/world\n      md5: 1\n"
    lock = (
        whole + "  two:\n    cmd: b\n    deps:\n    - path: data/world\n      md5: 2\n    params:\n      params.yaml:\n"
    )
    for cut in range(len(whole), len(lock) + 1, 3):  # each of them what a kill may leave; many are YAML
        (tmp_path / "dvc.lock").write_text(lock[:cut])
        found = locked(tmp_path)
        assert set(found) <= {"one", "two"}
        for stage in found.values():
            assert all(file["path"] for part in ("deps", "outs") for file in stage.get(part, []))
            assert all(isinstance(part, dict) for part in stage.get("params", {}).values())
    (tmp_path / "dvc.lock").write_text(lock)
    assert set(locked(tmp_path)) == {"one"}


def test_the_page_of_a_run_names_the_commands_that_make_it_again() -> None:
    tags = {"dvc.stage": "make_report", "git.commit": "c" * 40, "git.branch": "main"}
    assert f"git checkout {'c' * 40}\ndvc repro make_report\n```" in describe(tags)
    assert "```\ndvc repro\n```" in describe({"pipeline.fingerprint": "p"})


def test_the_outputs_of_a_commit_are_those_of_its_lock(tmp_path: Path) -> None:
    for md5 in ("aa", "bb"):
        (tmp_path / "dvc.lock").write_text(f"stages: {{one: {{outs: [{{path: out, md5: {md5}}}]}}}}")
        commit(tmp_path)
    assert locked_outs(tmp_path, "one") == {"out": "bb"}
    assert locked_outs(tmp_path, commit="HEAD~1") == {"out": "aa"}


def test_inputs_that_other_stages_made_are_tagged_by_their_current_hash(tmp_path: Path) -> None:
    lock = """
stages:
  plan_routes@none: {outs: [{path: results/plans/none, md5: aa}]}
  score_plans: {deps: [{path: results/plans, md5: old}, {path: stages/planning, md5: cc}], outs: [{path: s, md5: dd}]}
"""
    (tmp_path / "dvc.lock").write_text(lock)
    tags = lineage(tmp_path, "score_plans")
    assert {key: value for key, value in tags.items() if key.startswith("dvc.dep")} == {
        "dvc.dep.results/plans/none.md5": "aa"
    }
