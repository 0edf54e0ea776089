"""Registration of a trained pruner: tags, files, alias, and what is refused."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from registered import GIT, commit, make_checkout, register_clean, register_version, training_run, write_scores

import fastdrive
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params
from stages.registry import register as module
from stages.registry.versions import Registry

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


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


def test_the_version_is_a_logged_model_an_output_of_its_training_run(checkout: Params) -> None:
    version = register_version(checkout, seed=0)
    client = Registry("reconpruner").client
    run = client.get_run(version.run_id)
    assert [model.model_id for model in run.outputs.model_outputs] == [version.model_id]
    place = run.info.experiment_id
    found = client.search_logged_models([place], filter_string="metrics.l2_cm_50 < 50")
    assert [model.model_id for model in found] == [version.model_id]


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


def test_no_file_of_a_version_is_a_pickle(checkout: Params, tmp_path: Path) -> None:
    version = register_version(checkout, seed=0)
    files = [path for path in Registry("reconpruner").fetch(version, tmp_path / "got").rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in files}
    assert suffixes <= {"", ".json", ".parquet", ".safetensors", ".py", ".yaml", ".txt", ".jinja", ".css", ".js"}
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]  # pickle protocol 2 and later


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


@pytest.mark.parametrize(("l2_cm", "frames"), [(41.0, 12), (40.0, 11)])
def test_a_table_of_key_frames_that_is_not_that_of_the_totals_is_refused(
    l2_cm: float, frames: int, checkout: Params
) -> None:
    totals = Path("results/scores/recon.json").read_bytes()
    write_scores(Path.cwd(), "recon", checkout.grid.percents, l2_cm, frames)
    Path("results/scores/recon.json").write_bytes(totals)
    with pytest.raises(DataError, match=r"l2_cm of 41" if frames == 12 else "12 key frames"):
        register_clean(Registry("reconpruner"), "recon", checkout)


@pytest.mark.parametrize("missing", ["results/latency/recon.json", "models/recon/model.safetensors", "dvc.lock"])
def test_a_missing_file_is_named_with_the_command(missing: str, checkout: Params) -> None:
    Path(missing).unlink()
    with pytest.raises(DataError, match=rf"{Path(missing).name}.*dvc repro"):
        register_clean(Registry("reconpruner"), "recon", checkout)
    assert Registry("reconpruner").versions() == []


def test_weights_that_are_not_those_of_the_manifest_are_refused(checkout: Params) -> None:
    weights = Path("models/recon/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="sha256"):
        register_clean(Registry("reconpruner"), "recon", checkout)


def test_a_pruner_that_is_not_trained_here_is_refused(checkout: Params) -> None:
    with pytest.raises(ParamsError, match="recon, "):
        register_clean(Registry("reconpruner"), "fastv", checkout)


def test_weights_that_changed_in_the_store_are_refused(checkout: Params, tmp_path: Path) -> None:
    version = register_version(checkout, seed=0)
    (stored,) = tmp_path.glob("mlartifacts/**/pruner/model.safetensors")
    stored.write_bytes(stored.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="sha256"):
        Registry("reconpruner").fetch(version, tmp_path / "got")


def test_two_checkouts_have_two_stores(checkout: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register_version(checkout, seed=0)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    params = make_checkout(Path.cwd())
    version = register_version(params, seed=1)
    assert version.number == "1"
    assert list((tmp_path / "other/mlartifacts").rglob("model.safetensors"))
