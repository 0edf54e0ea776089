import contextlib
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from synthetic_root import JUDGED, TRAIN
from token_views import check_kept
from training_workspace import KEY_FRAMES, enter, write_params

from stages import train_pruner
from stages.backbone.qwen import load_model
from stages.backbone.vision import FastTower
from stages.core import io
from stages.core.errors import DataError, MachineError, ParamsError
from stages.core.params import Params
from stages.core.tracking import Run
from stages.masks import mask_set
from stages.pruning import base
from stages.training import engine, resume, trainer
from stages.training.token_cache import TokenCache

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which `train_pruner recon` has taken its four steps on 12 images."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        train_pruner.main(enter(folder, patch))
    return folder


@pytest.fixture
def trained(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A copy of `finished` as the working directory."""
    return enter(tmp_path, monkeypatch, like=finished)


@pytest.fixture
def params(trained: Params) -> Params:
    """Its inputs alone."""
    for folder in ("models/recon", "results", "metrics", "runs"):
        shutil.rmtree(folder)
    return trained


def hashes() -> dict[str, str]:
    found = [*Path("models/recon").iterdir(), *Path("results").rglob("*"), *Path("metrics/train_pruner").iterdir()]
    return {str(path): io.sha256(path) for path in found if path.is_file()}


def test_it_leaves_a_pruner_that_the_tables_can_load(trained: Params) -> None:
    tower = FastTower(load_model(Path("models/driver")))
    pruner = base.load("recon", {"checkpoint": "models/recon"})
    tokens = tower.encode(torch.zeros(1, 3, 56, 84, dtype=torch.uint8))
    positions = torch.zeros(3, 1, 6, dtype=torch.int64)
    view = base.TokenView(tokens, ((2, 3),), positions, ("image",), tower.fingerprint)
    check_kept(pruner.select(view, 2), view.tokens, 2)
    config = io.read_json(Path("models/recon/config.json"), "make")
    assert config["encoder"] == tower.fingerprint
    assert config["held_out_scenes"] in ([TRAIN], [JUDGED])
    assert config["view"] == {"fit": "stretch", "size_px": [84, 56]}


def test_it_leaves_history_pictures_and_metrics(trained: Params) -> None:
    results = train_pruner.RESULTS / "recon"
    io.read_manifest(results, "make")
    lines = (results / "history.csv").read_text().splitlines()
    assert lines[0].startswith("step,split,loss,loss_fore,loss_back,keep_share,auc,auc_row_prior,recall_25")
    assert [line.split(",")[:2] for line in lines[1:4]] == [["0", "held_out"], ["1", "train"], ["2", "train"]]
    assert [line.split(",")[0] for line in lines if ",held_out," in line] == ["0", "3", "4"]  # 12 images, 4 a step
    epochs = {path.stem for path in (results / "epochs").iterdir()}
    assert epochs == {f"{name}_000000{step}" for name in ("reconstruction", "kept_tokens") for step in (0, 3, 4)}
    for name, rows in {"reconstruction": 5, "kept_tokens": 4}.items():  # by 4 images
        assert cv2.imread(str(results / f"epochs/{name}_0000004.png")).shape == (rows * 56, 4 * 84, 3)
    metrics = io.read_json(train_pruner.METRICS / "recon.json", "make")
    assert metrics["images"] == metrics["held_out_images"] == KEY_FRAMES * 6
    assert metrics["held_out"]["auc_row_prior"] == 1.0
    assert set(metrics["train"]) == {"loss", "loss_fore", "loss_back", "keep_share"}
    assert not list(Path("runs/train_pruner").iterdir())


@pytest.mark.parametrize("name", ["foreground_only", "mask_prediction"])
def test_each_ablation_is_a_pruner_of_its_own_and_needs_no_image_encoded_again(
    trained: Params, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    encoded: list[torch.Tensor] = []
    monkeypatch.setattr(FastTower, "encode", lambda _, images: encoded.append(images))
    monkeypatch.setattr(sys, "argv", ["train_pruner", name])
    train_pruner.main(trained)
    assert not encoded
    base.load(name, {"checkpoint": f"models/{name}"}).read()
    with pytest.raises(DataError, match=f"trained as {name}"):
        base.load("recon", {"checkpoint": f"models/{name}"}).read()
    metrics = io.read_json(train_pruner.METRICS / f"{name}.json", "make")
    assert (metrics["held_out"]["loss_back"] is None) == (name == "foreground_only")
    strips = {
        path.stem.removesuffix("_0000004") for path in (train_pruner.RESULTS / name / "epochs").glob("*_0000004.png")
    }
    assert strips == {"kept_tokens", *(["reconstruction"] if name == "foreground_only" else [])}


def test_sigterm_before_training_ends_with_the_code_that_is_tried_again(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = signal.getsignal(signal.SIGTERM)

    def fill(*_: object, **__: object) -> None:
        with contextlib.suppress(Exception):  # as code that takes an error for one of its own
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TokenCache, "fill", fill)
    with pytest.raises(SystemExit) as ended:
        train_pruner.main(params)
    assert ended.value.code == 75
    assert signal.getsignal(signal.SIGTERM) is stock


def test_another_run_of_the_same_is_waited_for_and_then_refused(
    params: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(engine, "SAVING_S", -9.9)
    with monkeypatch.context() as patch:
        patch.setattr(train_pruner, "write_manifest", stop)
        with pytest.raises(KeyboardInterrupt):
            train_pruner.main(params)
    (folder,) = Path("runs/train_pruner").iterdir()
    with io.alone(folder / ".lock", "work"), pytest.raises(MachineError, match="to train in .* alone, got another"):
        train_pruner.main(params)
    assert "waiting for another process to train in" in caplog.text


def test_the_best_weights_are_published_on_demand(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([9.0, 1.0, 5.0])  # held out: before, at step 3, at step 4
    measure = trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate", lambda *given: measure(*given) | {"loss": next(losses)})
    saved: dict[str, bytes] = {}
    write = resume.save

    def noted(folder: Path, tag: str, *rest: Any) -> None:
        write(folder, tag, *rest)
        saved[tag] = (folder / tag / "pruner/model.safetensors").read_bytes()

    monkeypatch.setattr(resume, "save", noted)
    train_pruner.main(write_params(publish="best"))
    assert Path("models/recon/model.safetensors").read_bytes() == saved["step_0000003"] != saved["step_0000004"]


@pytest.mark.parametrize("moment", ["in step 3", "while writing the results"])
def test_a_run_stopped_anywhere_ends_with_the_same_bytes(
    trained: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    whole = hashes()
    with monkeypatch.context() as patch:
        place = (Run, "metrics", stop_in_step_3) if moment == "in step 3" else (train_pruner, "write_manifest", stop)
        patch.setattr(*place)
        with pytest.raises(KeyboardInterrupt):
            train_pruner.main(trained)
    caplog.set_level(logging.INFO)
    train_pruner.main(trained)
    assert "resumed at step_000000" in caplog.text
    assert hashes() == whole


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def stop_in_step_3(run: Run, values: dict[str, float], step: int | None = None) -> None:
    if step == 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize("changes", [{"decoder_width": 13}, {"held_out_scenes": 2}])
def test_params_that_cannot_be_are_refused_before_anything_is_encoded(params: Params, changes: dict[str, int]) -> None:
    with pytest.raises(ParamsError, match="".join(changes)):
        train_pruner.main(write_params(**changes))
    assert not list(Path("runs").rglob("*.safetensors"))


def test_images_without_masks_or_with_those_of_another_split_stop_it(params: Params) -> None:
    whole = [{**row, "phrases": [], "boxes": []} for row in mask_set.MaskSet().rows]
    mask_set.publish(Path("work"), mask_set.FOLDER, whole[:-3], {})
    with pytest.raises(DataError, match=r"mask.*dvc repro generate_masks"):
        train_pruner.main(params)
    mask_set.publish(Path("work"), mask_set.FOLDER, [row | {"split": "other"} for row in whole], {})
    with pytest.raises(ParamsError, match=r"24 of 24 others \(first: .* split other\)"):
        train_pruner.main(params)
