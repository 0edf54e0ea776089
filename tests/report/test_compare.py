"""Two states as one paired table: commits of a small DVC repository, runs of a small MLflow store."""

import shutil
import subprocess
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from stages.cli.verbs import report
from stages.core import tracking
from stages.core.errors import DataError
from stages.core.params import read_params
from stages.report.compare import compare, paired_rows, state_of

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("default")]  # DVC's and MLflow's own
CHECKOUT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>"


def shell(root: Path, *words: str) -> None:
    names = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
    names |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b", "PATH": "/usr/bin:/bin"}
    subprocess.run(words, cwd=root, check=True, capture_output=True, env=names)


def write_scores(folder: Path, shift_m: float, method: str = "recon") -> None:
    """Eight frames of two scenes; `shift_m` is the L2 of each above its own number."""
    rows = [{"token": f"t{i}", "scene": f"s{i // 4}", "pruned_percent": 50} for i in range(8)]
    l2_m = {f"l2_m_{s}s": [i / 8 + shift_m for i in range(8)] for s in (1, 2, 3)}
    rates = {f"{name}_{s}s": 0.0 for name in ("collision", "intersection") for s in (1, 2, 3)}
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).assign(**l2_m, **rates).to_parquet(folder / f"{method}.parquet")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits; B is 10 cm worse and has one more row. The checkout has neither's scores, DVC's cache both."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("repository")
    shell(root, "git", "init", "-q", "-b", "main")
    Repo.init(str(root)).close()
    for tag, shift_m in (("a", 0.0), ("b", 0.1)):
        write_scores(root / "results/scores", shift_m)
        if tag == "b":
            write_scores(root / "results/scores", 0.0, "new")
        with Repo(str(root)) as repo:
            repo.add(str(root / "results/scores"))
        shell(root, "git", "add", "-A")
        shell(root, "git", "commit", "-qm", f"{tag} {HOSTILE}")
        shell(root, "git", "tag", tag)
    return root


def test_commits_are_paired_sample_by_sample_from_the_cache(repository: Path, tmp_path: Path) -> None:
    params = read_params(CHECKOUT / "params.yaml")
    page, sheet = compare(("a", "b"), tmp_path, repository, params)
    new, recon = sheet.rows
    assert (recon["n"], recon["n_a"]) == (8, 8)
    assert [recon[f"l2{end}"] for end in ("", "_low", "_high")] == pytest.approx([10.0] * 3)
    assert recon["l2_b"] - recon["l2_a"] == pytest.approx(10.0)
    assert (new["method"], new["l2_a"], new["n_b"], new["n"]) == ("new", None, 8, 0)
    assert "recon" in (tmp_path / "differences.csv").read_text()
    html = page.read_text()
    assert "+10.00 [+10.00, +10.00]" in html
    assert html.count("<script") == 1


@pytest.mark.parametrize("name", ["nothing", "--all"])
def test_a_name_that_is_neither_revision_nor_run_is_refused_without_making_a_store(
    name: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(DataError, match="neither"):
        state_of(name, repository)
    assert not Path("mlflow.db").exists()


def test_a_commit_whose_scores_are_not_at_hand_says_how_to_make_them(repository: Path, tmp_path: Path) -> None:
    shell(tmp_path, "git", "clone", "-q", str(repository), "clone")
    with pytest.raises(DataError, match="dvc repro score_plans"):
        state_of("a", tmp_path / "clone")


def test_runs_of_mlflow_are_compared_by_any_of_their_stages(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, tmp_path)}")
    client: Any = tracking.client(tracking.store_uri())
    experiment = client.create_experiment("fastdrive", (tmp_path / "artifacts").as_uri())
    stages = []
    for shift_m in (0.0, 0.1):
        parent = client.create_run(experiment).info.run_id
        stages.append(client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id)
        made = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
        write_scores(tmp_path / f"{shift_m}/scores", shift_m)
        client.log_artifacts(made, str(tmp_path / f"{shift_m}/scores"), "scores")
    (row,) = paired_rows(*(state_of(stage, tmp_path)[1] for stage in stages), (200, 1))
    assert (row["n"], row["l2"]) == (8, pytest.approx(10.0))
    for name in (client.create_run(experiment).info.run_id, "nothing"):
        with pytest.raises(DataError, match="neither"):
            state_of(name, tmp_path)


@pytest.mark.parametrize(("stale", "word"), [({}, "open it"), ({"make_report": []}, "older than")])
def test_the_command_tells_whether_the_page_is_up_to_date(
    stale: dict[str, list[str]], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="dvc repro make_report"):
        report()
    Path("reports").mkdir()
    Path("reports/index.html").touch()
    repo = SimpleNamespace(status=lambda name: stale)
    monkeypatch.setattr(import_module("stages.cli.verbs"), "open_graph", lambda root: nullcontext(repo))
    report()
    assert word in capsys.readouterr().out
