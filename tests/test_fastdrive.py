"""The three lines of the README: a pruner from wherever it lies, in anyone's `generate`."""

import shutil
from pathlib import Path

import pytest
import torch
from saved_pruner import save_pruner
from tiny_prompts import make_inputs

import fastdrive
from stages.backbone.qwen import Model
from stages.core.errors import DataError, ParamsError


def test_three_lines_generate_with_half_of_the_tokens(tiny_model: Model, tmp_path: Path) -> None:
    inputs = make_inputs([[(3, 4)]])
    pruner = fastdrive.load(save_pruner(tmp_path / "recon", tiny_model))
    with fastdrive.prune(tiny_model, pruner, percent=50) as applied:
        answer = tiny_model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 3
    assert (applied.prompts, applied.tokens, applied.kept) == (1, 12, 6)


def test_a_pruner_trained_on_another_encoder_is_refused(tiny_model: Model, tmp_path: Path) -> None:
    pruner = fastdrive.load(save_pruner(tmp_path / "recon", tiny_model, encoder="another"))
    with (
        pytest.raises(DataError, match="trained on the tokens of encoder another"),
        fastdrive.prune(tiny_model, pruner, percent=50),
    ):
        tiny_model.generate(**make_inputs([[(3, 4)]]), max_new_tokens=1)


@pytest.mark.process  # makes a store, which takes seconds
@pytest.mark.filterwarnings("default")  # MLflow's own
def test_the_champion_of_the_registry_is_the_folder_that_was_registered(
    tiny_model: Model, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    folder = save_pruner(tmp_path / "recon", tiny_model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, tmp_path)}")
    client = MlflowClient()
    client.create_registered_model("reconpruner")
    version = client.create_model_version("reconpruner", folder.as_uri())
    client.set_registered_model_alias("reconpruner", "champion", version.version)
    champion, local = fastdrive.load("models:/reconpruner@champion"), fastdrive.load(folder)
    tokens = torch.randn(1, 12, 24)
    (theirs, _), (ours, _) = champion._trained, local._trained
    assert torch.equal(theirs(tokens, (3, 4)), ours(tokens, (3, 4)))
    with pytest.raises(DataError, match="models:/reconpruner@challenger"):
        fastdrive.load("models:/reconpruner@challenger")


def test_a_method_without_training_is_loaded_by_its_name() -> None:
    assert fastdrive.load("fastv", layer=3).layer == 3
    with pytest.raises(ParamsError, match="did you mean 'layer'"):
        fastdrive.load("fastv", layers=3)


def test_a_pruner_trained_by_mask_prediction_is_loaded_as_one(tiny_model: Model, tmp_path: Path) -> None:
    folder = save_pruner(tmp_path / "mask", tiny_model, objective="mask_prediction")
    assert type(fastdrive.load(folder)).__module__ == "stages.pruning.mask_prediction"


def test_a_model_in_bfloat16_takes_the_pruner_that_was_trained_in_float32(tiny_model: Model, tmp_path: Path) -> None:
    pruner = fastdrive.load(save_pruner(tmp_path / "recon", tiny_model))
    inputs = make_inputs([[(3, 4)]])
    with fastdrive.prune(tiny_model.to(torch.bfloat16), pruner, percent=50) as applied:
        tiny_model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert applied.kept == 6
    with torch.no_grad():
        tiny_model.model.visual.patch_embed.proj.weight[0, 0, 0, 0, 0] += 1
    with pytest.raises(DataError, match="encoder"), fastdrive.prune(tiny_model, pruner, percent=50):
        tiny_model.generate(**inputs, max_new_tokens=1)


def test_options_that_would_change_nothing_and_missing_ones_are_refused(tiny_model: Model, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="no options for a trained pruner, got layer"):
        fastdrive.load(save_pruner(tmp_path / "recon", tiny_model), layer=3)
    with pytest.raises(ParamsError, match="seed.*random_keep"):
        fastdrive.load("random_keep")


def test_an_address_without_a_pruner_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"divprune.*got '.*nowhere'.*dvc repro train_pruner"):
        fastdrive.load(tmp_path / "nowhere")


def test_a_damaged_folder_is_refused_when_it_is_loaded(tiny_model: Model, tmp_path: Path) -> None:
    folder = save_pruner(tmp_path / "recon", tiny_model)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DataError, match="model.safetensors"):
        fastdrive.load(folder)


def test_a_stored_pruner_cannot_name_code(tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\nclass Pruner: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    facts = {"plugin": "evil:Pruner", "method": "evil:Pruner", "name": "evil", "objective": "evil:Pruner"}
    folder = save_pruner(tmp_path / "recon", tiny_model, **facts)
    assert type(fastdrive.load(folder)).__module__ == "stages.pruning.recon"
