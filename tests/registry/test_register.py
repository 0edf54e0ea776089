"""What stands in the registry after a registration, and what it refuses."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from registered import GIT, commit, lock, make_checkout, register_version, training_run, write_scores

import fastdrive
from stages.core.errors import DataError
from stages.core.params import Params
from stages.pruning import checkpoint
from stages.registry import register as module
from stages.registry.provenance import provenance
from stages.registry.register import register
from stages.registry.versions import Registry, Version

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


def test_a_version_has_weights_tags_card_and_the_alias_candidate(checkout: Params) -> None:
    version = register_version(checkout, seed=0)
    registry = Registry("reconpruner")
    assert (version.number, registry.aliases()) == ("1", {"candidate": "1"})
    head = subprocess.run([*GIT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    wanted = {"git.commit": head, "git.dirty": "false", "dvc.lock.committed": "true", "dvc.code.matches": "true"}
    wanted |= {"encoder": "e" * 16, "pruner": "recon", "dvc.stage": "train_pruner@recon"}
    assert {key: version.tags[key] for key in wanted} == wanted
    assert version.tags["dvc.out.models/recon.md5"] == version.tags["dvc.out.weights.md5"]
    assert version.run_id == version.tags["train.run_id"] != ""
    for words in ("| 50 | 12 | 0 | 41.0", "non-commercial", "CC BY-NC-SA", version.tags["weights.sha256"], "Not for"):
        assert words in version.description
    run = registry.client.get_run(version.run_id)
    assert run.data.metrics["l2_cm_50"] == pytest.approx(41.0)


def test_the_champion_loads_through_fastdrive_and_through_mlflow_with_the_same_scores(
    checkout: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_version(checkout, seed=0)
    Registry("reconpruner").point("champion", "1")
    (module, encoder) = fastdrive.load("models:/reconpruner@champion")._trained
    assert encoder == "e" * 16
    tokens = torch.randn(1, 12, 24)
    ours = module(tokens, (3, 4)).view(1, 3, 4).numpy()

    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", Registry("reconpruner").uri)
    model = mlflow.pyfunc.load_model("models:/reconpruner@champion")
    assert model.metadata.signature is None
    np.testing.assert_array_equal(model.predict(tokens.view(1, 3, 4, 24).numpy()), ours)


def test_no_file_of_a_version_is_a_pickle(checkout: Params, tmp_path: Path) -> None:
    version = register_version(checkout, seed=0)
    got = Registry("reconpruner").fetch(version, tmp_path / "got")
    names = {path.suffix for path in got.rglob("*") if path.is_file()}
    assert names <= {"", ".json", ".parquet", ".safetensors", ".py", ".yaml", ".txt", ".jinja", ".css", ".js"}
    assert not [path for path in got.rglob("*") if path.is_file() and path.read_bytes()[:1] == b"\x80"]  # protocol 2+


def test_the_same_weights_and_scores_are_the_same_version_however_often(checkout: Params) -> None:
    first = register_version(checkout, seed=0)
    Path("results/latency/recon.json").write_text(Path("results/latency/recon.json").read_text() + " ")  # timed again
    again, new = register(Registry("reconpruner"), "recon", checkout)
    assert (again.number, new) == (first.number, False)
    assert register_version(checkout, seed=1).number == "2"


def test_of_two_that_register_the_same_at_once_one_makes_the_version(
    checkout: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_version(checkout, seed=0)
    registry = Registry("reconpruner")
    answers = iter([list[Version](), registry.versions()])  # not there yet; there when it is our turn
    with monkeypatch.context() as patch:
        patch.setattr(registry, "versions", lambda *_: next(answers))
        again, new = register(registry, "recon", checkout)
    assert (again.number, new, len(registry.versions())) == ("1", False, 1)


def test_files_that_change_while_they_are_packed_are_no_version(
    checkout: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.package

    def late(*words: Any) -> None:
        write_scores(Path.cwd(), "recon", checkout.grid.percents, 30.0)
        real(*words)

    monkeypatch.setattr(module, "package", late)
    with pytest.raises(DataError, match="stay as they are"):
        register(Registry("reconpruner"), "recon", checkout)
    assert Registry("reconpruner").versions() == []


def test_a_version_registered_before_its_commit_becomes_clean_when_it_is_registered_after_it(checkout: Params) -> None:
    registry = Registry("reconpruner")
    Path("note").write_text("edited")
    dirty, _ = register(registry, "recon", checkout)
    assert (dirty.tags["git.dirty"], "train.run_id" in dirty.tags) == ("true", False)
    training_run(registry, checkout.tracking.experiment, "recon")
    head = commit(Path.cwd())
    clean, new = register(registry, "recon", checkout)
    assert (clean.number, new, clean.tags["git.dirty"], clean.tags["git.commit"]) == ("1", False, "false", head)
    assert "train.run_id" in clean.tags
    assert head in clean.description


@pytest.mark.parametrize(("name", "out"), [("recon", "rows"), ("none", "unpruned")])
def test_tables_that_decide_and_were_replaced_by_hand_have_no_proof(name: str, out: str, checkout: Params) -> None:
    assert f"dvc.out.{out}.md5" in provenance(Path.cwd(), "recon", {})
    write_scores(Path.cwd(), name, [0] if name == "none" else checkout.grid.percents, 41.0)
    if name == "recon":  # their totals, too
        assert "dvc.out.scores.md5" not in provenance(Path.cwd(), "recon", {})
    assert f"dvc.out.{out}.md5" not in provenance(Path.cwd(), "recon", {})


@pytest.mark.parametrize(("l2_cm", "frames"), [(41.0, 12), (40.0, 11)])
def test_a_table_of_key_frames_that_is_not_that_of_the_totals_is_refused(
    l2_cm: float, frames: int, checkout: Params
) -> None:
    totals = Path("results/scores/recon.json").read_bytes()
    write_scores(Path.cwd(), "recon", checkout.grid.percents, l2_cm, frames)
    Path("results/scores/recon.json").write_bytes(totals)
    with pytest.raises(DataError, match=r"l2_cm of 41 in scores.json, 42 in" if frames == 12 else "12 key frames"):
        register(Registry("reconpruner"), "recon", checkout)


def test_weights_that_dvc_did_not_make_have_no_proof(checkout: Params) -> None:
    config = checkpoint.read_config(Path("models/recon"), "")
    make_checkout(Path.cwd(), seed=5)
    lock_of_5 = Path("dvc.lock").read_text()
    make_checkout(Path.cwd(), seed=6)
    Path("dvc.lock").write_text(lock_of_5)
    version, _ = register(Registry("reconpruner"), "recon", checkout)
    assert "dvc.out.weights.md5" not in version.tags
    assert "dvc.out.scores.md5" in version.tags
    assert version.tags["dvc.lock.committed"] == "false"
    assert config["encoder"] == "e" * 16


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("requirements.lock", "2.15.0", "2.11.0"),
        ("params.yaml", "  seed: 1\n", "  seed: 2\n"),
        ("masks.py", "0.5", "0.7"),  # of a stage whose output the training read
    ],
)
def test_code_or_params_that_are_no_longer_those_of_the_lock_are_said(
    file: str, old: str, new: str, checkout: Params
) -> None:
    assert old in Path(file).read_text()
    Path(file).write_text(Path(file).read_text().replace(old, new))
    version, _ = register(Registry("reconpruner"), "recon", checkout)
    assert version.tags["dvc.code.matches"] == "false"


def test_a_missing_result_is_named_with_the_command(checkout: Params) -> None:
    Path("results/latency/recon.json").unlink()
    with pytest.raises(DataError, match=r"no results/latency/recon.json.*dvc repro"):
        register(Registry("reconpruner"), "recon", checkout)
    assert Registry("reconpruner").versions() == []


def test_weights_that_changed_in_the_store_are_refused(checkout: Params, tmp_path: Path) -> None:
    version = register_version(checkout, seed=0)
    (stored,) = tmp_path.glob("mlartifacts/**/pruner/model.safetensors")
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data)
    with pytest.raises(DataError, match="sha256"):
        Registry("reconpruner").fetch(version, tmp_path / "got")


def test_a_lock_written_by_hand_is_the_one_that_dvc_writes(checkout: Params) -> None:
    lock(Path.cwd(), "recon")
    entry = json.loads(Path("dvc.lock").read_text())["stages"]["train_pruner@recon"]
    assert entry["outs"][0]["md5"].endswith(".dir")
