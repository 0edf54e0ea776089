"""Two states side by side: commits of a small repository, runs of a small MLflow store, and what is refused."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from browser import chromium, needs_chromium

from stages.cli.report import report
from stages.core import tracking
from stages.core.errors import DataError
from stages.core.io import write_parquet
from stages.planning.scoring import SAMPLE_COLUMNS
from stages.report.compare import compare, sections, state_of
from stages.report.page import Table
from stages.report.states import State, changes, paired_rows

HOSTILE = "<script>alert(1)</script>"


def git(root: Path, *words: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *name, *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def samples(shift_m: float) -> list[dict[str, Any]]:
    """Two scenes of four frames; `shift_m` is the L2 of each above its own number."""
    zeros = {name: 0.0 for name, kind in SAMPLE_COLUMNS.items() if kind == "double"}
    about = {"pruned_percent": 50, "parsed": True, "event": "free"}
    return [
        zeros | about | {"token": f"t{i}", "scene": f"s{i // 4}"} | {f"l2_m_{s}s": i / 8 + shift_m for s in (1, 2, 3)}
        for i in range(8)
    ]


def write_state(root: Path, shift_m: float, lr: float, method: str = "recon") -> None:
    """A finished pipeline in `root`, its scores in DVC's cache, too."""
    table = pa.Table.from_pylist(samples(shift_m), schema=pa.schema(list(SAMPLE_COLUMNS.items())))
    scores = root / f"results/scores/{method}.parquet"
    scores.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(scores, table)
    md5 = hashlib.md5(scores.read_bytes()).hexdigest()
    cached = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(scores, cached)
    average = {"l2_cm_avg": 100 * (3.5 / 8 + shift_m), "collision_pct_avg": 0.0, "intersection_pct_avg": 0.0, "n": 8}
    (root / "metrics").mkdir(parents=True, exist_ok=True)
    (root / "metrics/summary.json").write_text(json.dumps({method: {"pruned_50": average}}))
    flops = {"pruned_50": {"without_vision_tflops": 11.0}}
    (root / "metrics/efficiency.json").write_text(json.dumps({method: flops}))
    params = {"train_pruner": {"pruner_lr": lr}, "score_plans": {"seed": 1, "resamples": 200}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    listing = json.dumps([{"md5": md5, "relpath": f"{method}.parquet"}]).encode()
    folder = hashlib.md5(listing).hexdigest() + ".dir"
    (root / ".dvc/cache/files/md5" / folder[:2]).mkdir(parents=True, exist_ok=True)
    (root / ".dvc/cache/files/md5" / folder[:2] / folder[2:]).write_bytes(listing)
    out = {"path": "results/scores", "hash": "md5", "md5": folder, "size": 1}
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"score_plans": {"outs": [out]}}}))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits; B is 10 cm worse, with another learning rate and one more row."""
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / ".gitignore").write_text("results\n.dvc\n")
    write_state(tmp_path, 0.0, 1e-3)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "a")
    write_state(tmp_path, 0.1, 2e-3)
    summary = json.loads((tmp_path / "metrics/summary.json").read_text())
    summary[HOSTILE] = {"pruned_0": {"l2_cm_avg": 1.0, "n": 8}}
    (tmp_path / "metrics/summary.json").write_text(json.dumps(summary))
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", f"second {HOSTILE}")
    return tmp_path


def row_of(states: tuple[State, State], cell: tuple[str, int] = ("recon", 50)) -> dict[str, Any]:
    return next(row for row in paired_rows(*states, 200, 1) if (row["method"], row["pruned_percent"]) == cell)


def test_commits_are_paired_sample_by_sample_from_the_cache(repository: Path) -> None:
    states = state_of("a", repository), state_of("main", repository)
    row = row_of(states)
    assert (row["n"], row["tflops_a"]) == (8, 11.0)
    assert row["l2"] == pytest.approx(10.0)
    assert row["l2_low"] == pytest.approx(10.0)  # every frame moved by the same
    assert row["l2_b"] - row["l2_a"] == pytest.approx(10.0)
    assert [(one.name, one.a, one.b) for one in changes(states[0].params, states[1].params)] == [
        ("train_pruner.pruner_lr", "0.001", "0.002")
    ]
    assert [one.name for one in changes(states[0].hashes, states[1].hashes)] == ["results/scores/recon.parquet"]


def test_without_the_scores_of_samples_the_difference_has_no_interval(repository: Path) -> None:
    shutil.rmtree(repository / ".dvc")
    row = row_of((state_of("a", repository), state_of("main", repository)))
    assert row["l2"] == pytest.approx(10.0)
    assert (row["n"], row.get("l2_low")) == (None, None)


def test_a_damaged_file_of_the_cache_is_not_used(repository: Path) -> None:
    shutil.rmtree(repository / "results")
    for file in repository.glob(".dvc/cache/files/md5/*/*"):
        file.chmod(0o644)
        file.write_bytes(file.read_bytes() + b"x")
    assert not state_of("main", repository).samples


def test_a_row_of_one_state_alone_is_shown_as_such(repository: Path) -> None:
    row = row_of((state_of("a", repository), state_of("main", repository)), (HOSTILE, 0))
    assert (row["l2_a"], row["l2_b"], "l2" in row) == (None, 1.0, False)


def test_equal_states_differ_in_nothing(repository: Path) -> None:
    state = state_of("main", repository)
    shown = sections(state, state, paired_rows(state, state, 200, 1), repository)
    assert not [block for section in shown[2:] for block in section.blocks if isinstance(block, Table)]
    assert row_of((state, state))["l2"] == 0.0


@pytest.mark.filterwarnings("default")  # MLflow's own
@pytest.mark.parametrize("name", ["nothing", "--all", "HEAD~9", ""])
def test_a_name_that_is_neither_revision_nor_run_is_refused(
    name: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repository / 'mlflow.db'}")
    with pytest.raises(DataError, match="which is neither"):
        state_of(name, repository)


def test_asking_for_a_run_where_there_is_no_store_makes_none(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(DataError, match="which is neither"):
        state_of("nothing", repository)
    assert not Path("mlflow.db").exists()


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [(0, b"{}", "open it"), (0, b'{"make_report": []}', "older than its inputs"), (1, b"", "DVC does not say")],
)
def test_what_dvc_does_not_know_is_not_called_old(
    code: int,
    said: bytes,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reports").mkdir()
    Path("reports/index.html").touch()
    monkeypatch.setattr("subprocess.run", lambda words, **_: subprocess.CompletedProcess(words, code, said))
    report()
    assert told in capsys.readouterr().out


def test_a_commit_without_results_says_which_have_some(repository: Path) -> None:
    git(repository, "rm", "-q", "metrics/summary.json")
    git(repository, "commit", "-qm", "none")
    with pytest.raises(DataError, match="git log --oneline -- metrics/summary.json"):
        state_of("HEAD", repository)


def test_without_a_page_the_stage_that_makes_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="dvc repro make_report"):
        report()


@needs_chromium
def test_the_page_asks_for_nothing_and_runs_nothing(repository: Path) -> None:
    page_file = compare(("a", "main"), repository / "out", repository)
    assert "recon" in page_file.with_name("differences.csv").read_text()
    with chromium() as (page, seen):
        page.goto(page_file.as_uri())
        assert page.locator("td.clear").first.inner_text() == "+10.00 [+10.00, +10.00]"
        assert HOSTILE in page.locator("main").inner_text()
    assert seen.errors == []
    assert seen.requests == [page_file.as_uri()]


def tracked_pipeline(client: Any, experiment: str, rows: Mapping[str, list[Any]], lr: str) -> str:
    parent = client.create_run(experiment, tags={"pipeline.parent": lr}).info.run_id
    tags = {"mlflow.parentRunId": parent, "git.commit": "0" * 40}
    child = client.create_run(experiment, tags=tags).info.run_id
    client.log_param(child, "score_plans.seed", lr)
    client.log_table(child, rows, "scores.json")
    client.set_terminated(child)
    return child


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_runs_of_mlflow_are_compared_by_any_of_their_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracking.database(tmp_path)}")
    client = tracking.client(tracking.store_uri())
    experiment = client.create_experiment("fastdrive", (tmp_path / "artifacts").as_uri())
    table = {"method": ["recon"], "pruned_percent": [50], "l2_cm_avg": [40.0], "collision_pct_avg": [1.0], "n": [8]}
    a = tracked_pipeline(client, experiment, table, "1")
    b = tracked_pipeline(client, experiment, table | {"l2_cm_avg": [42.0]}, "2")
    states = state_of(a, tmp_path), state_of(b, tmp_path)
    assert row_of(states)["l2"] == pytest.approx(2.0)
    assert [one.name for one in changes(states[0].params, states[1].params)] == ["score_plans.seed"]
    empty = client.create_run(experiment).info.run_id
    with pytest.raises(DataError, match="scores in the pipeline run"):
        state_of(empty, tmp_path)
