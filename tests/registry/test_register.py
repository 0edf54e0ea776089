"""Registration of a trained pruner: tags, files, alias, what is refused; and secrets, which stay out of the store."""

import os
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from registered import GIT, commit, register_clean, register_version, training_run

import fastdrive
from stages.core import tracking
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params
from stages.registry import register as module
from stages.registry.versions import Registry, fetch_model

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("default")]  # MLflow's own


def test_a_version_has_weights_tags_card_metrics_and_the_alias_candidate(checkout: Params) -> None:
    version = register_version(checkout, seed=0)
    registry = Registry("reconpruner")
    assert (version.number, registry.aliases()) == ("1", {"candidate": "1"})
    head = subprocess.run([*GIT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    expected = {"git.commit": head, "git.dirty": "false", "dvc.status": "clean", "dvc.stage": "train_pruner@recon"}
    expected |= {"encoder": "e" * 16, "pruner": "recon"}
    assert {key: version.tags[key] for key in expected} == expected
    assert len(version.tags) <= 20
    assert version.run_id == version.tags["train.run_id"] != ""
    for words in ("| 50 | 12 | 0 | 41.0", "non-commercial", "CC BY-NC-SA", version.tags["weights.sha256"], "Not for"):
        assert words in " ".join(version.description.split())
    run = registry.client.get_run(version.run_id)
    assert [model.model_id for model in run.outputs.model_outputs] == [version.model_id]
    found = registry.client.search_logged_models([run.info.experiment_id], filter_string="metrics.l2_cm_50 < 50")
    assert [model.model_id for model in found] == [version.model_id]


def test_no_file_of_a_version_is_a_pickle_and_weights_that_changed_in_the_store_are_refused(
    checkout: Params, tmp_path: Path
) -> None:
    version = register_version(checkout, seed=0)
    registry = Registry("reconpruner")
    files = [path for path in registry.fetch(version, tmp_path / "got").rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in files}
    assert suffixes <= {"", ".json", ".parquet", ".safetensors", ".py", ".yaml", ".txt", ".jinja", ".css", ".js"}
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]  # pickle protocol 2 and later
    (stored,) = tmp_path.glob("mlartifacts/**/pruner/model.safetensors")
    stored.write_bytes(stored.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="sha256"):
        registry.fetch(version, tmp_path / "again")


def test_the_champion_loads_through_fastdrive_and_through_mlflow_with_the_same_scores(
    checkout: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_version(checkout, seed=0)
    Registry("reconpruner").point("champion", "1")
    (pruner, encoder) = fastdrive.load("models:/reconpruner@champion")._trained
    assert encoder == "e" * 16
    tokens = torch.randn(1, 12, 24)
    ours = pruner(tokens, (3, 4)).view(1, 3, 4).numpy()

    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", Registry("reconpruner").uri)
    model = mlflow.pyfunc.load_model("models:/reconpruner@champion")
    np.testing.assert_array_equal(model.predict(tokens.view(1, 3, 4, 24).numpy()), ours)
    with pytest.raises(mlflow.exceptions.MlflowException, match="24"):
        model.predict(tokens.view(1, 3, 2, 48).numpy())


def test_the_same_weights_and_scores_are_the_same_version_however_often(checkout: Params) -> None:
    first = register_version(checkout, seed=0)
    Path("results/latency/recon.json").write_text(Path("results/latency/recon.json").read_text() + " ")  # timed again
    again, new = register_clean(Registry("reconpruner"), "recon", checkout)
    assert (again.number, new) == (first.number, False)
    assert register_version(checkout, seed=1).number == "2"


def test_a_version_registered_before_its_commit_becomes_clean_when_it_is_registered_after_it(checkout: Params) -> None:
    registry = Registry("reconpruner")
    Path("note").write_text("edited")
    dirty, _ = register_clean(registry, "recon", checkout)
    assert (dirty.tags["git.dirty"], "train.run_id" in dirty.tags) == ("true", False)
    training_run(registry, checkout.tracking.experiment, "recon")
    head = commit(Path.cwd())
    clean, new = register_clean(registry, "recon", checkout)
    assert (clean.number, new, clean.tags["git.dirty"], clean.tags["git.commit"]) == ("1", False, "false", head)
    assert "train.run_id" in clean.tags
    assert head in clean.description


def test_what_dvc_would_run_again_is_named(checkout: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "stale_stages", lambda *_: ["score_plans"])
    version, _ = module.register(Registry("reconpruner"), "recon", checkout)
    assert version.tags["dvc.status"] == "changed: score_plans"


@pytest.mark.parametrize("missing", ["results/latency/recon.json", "models/recon/model.safetensors", "dvc.lock"])
def test_a_missing_file_is_named_with_the_command(missing: str, checkout: Params) -> None:
    Path(missing).unlink()
    with pytest.raises(DataError, match=rf"{Path(missing).name}.*dvc repro"):
        register_clean(Registry("reconpruner"), "recon", checkout)
    assert Registry("reconpruner").versions() == []


def test_a_pruner_that_is_not_trained_here_is_refused(checkout: Params) -> None:
    with pytest.raises(ParamsError, match="recon, "):
        register_clean(Registry("reconpruner"), "fastv", checkout)


def test_nothing_in_the_store_holds_a_secret_of_the_environment(
    checkout: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "swordfish")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "swordfish-2")
    version = register_version(checkout, seed=0)
    registry = Registry("reconpruner")
    registry.tag(version.number, {"promotion.reason": "the password is swordfish"})
    registry.describe(version.number, "swordfish-2")
    assert registry.version("1").tags["promotion.reason"] == "the password is ***"
    with sqlite3.connect("mlflow.db") as database:
        assert not [line for line in database.iterdump() if "swordfish" in line]
    files = [path for path in Path("mlartifacts").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"swordfish" in path.read_bytes()]


def test_a_store_that_is_away_is_said_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:swordfish@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Exception, match="reconpruner: its aliases in http://") as message:
        fetch_model("models:/reconpruner@champion", tmp_path)
    assert "swordfish" not in str(message.value)


def test_whoever_touches_mlflow_forbids_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    tracking.client("http://127.0.0.1:9")
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
