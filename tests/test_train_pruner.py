import hashlib
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root
from tiny import make_tiny_model

from stages import files, train_pruner
from stages.backbone.tower import load_vision
from stages.errors import DataError, ParamsError
from stages.masks import shards
from stages.masks.base import Mask
from stages.params import Params, read_params
from stages.pruning import base
from stages.scenes.nuscenes import open_scenes
from stages.spool import Run
from stages.vla.toy_text import write_tokenizer

KEY_FRAMES = 2
REPOSITORY = Path(__file__).parents[1]
SMALL = {"steps": 4, "batch_size": 4, "decoder_layers": 1, "decoder_width": 12, "pixels_per_token": 4, "threads": 1}
SMALL |= {"warmup_steps": 1, "ssim_window_px": 5, "held_out_scenes": 1, "checkpoint_every_s": 1e-9}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def write_inputs() -> None:
    """Two scenes of random images with the lower half as foreground, and a tiny driver."""
    copy_root(Path("nuscenes"), KEY_FRAMES)
    files.write_json(Path("nuscenes") / VERSION / "splits.json", {"both": [TRAIN, JUDGED]})
    random, scenes = np.random.default_rng(0), open_scenes("nuscenes", VERSION)
    foreground = np.arange(90)[:, None].repeat(160, 1) >= 45
    mask = Mask(foreground, ("road",), np.array([[0, 45, 160, 90]], np.float32))
    rows = []
    for frame in map(scenes.frame, scenes.tokens("both")):
        for camera in frame.cameras.values():
            image = random.integers(0, 80, (90, 160, 3), np.uint8) + (foreground[..., None] * 120).astype(np.uint8)
            cv2.imwrite(str(camera.path), image)
            rows.append({"token": camera.token, "sample": frame.token, "scene": frame.scene, "camera": camera.channel})
    members = shards.write_shard(Path("work/shards/all.tar"), [(row["token"], mask) for row in rows])
    notes = {"shard": "shards/all.tar", "split": "both"}
    shards.publish(Path("work"), shards.FOLDER, [a | b | notes for a, b in zip(rows, members, strict=True)], {})
    Path("models/driver").mkdir(parents=True)
    make_tiny_model().save_pretrained("models/driver")
    write_tokenizer(Path("models/driver"))


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Four steps on 12 images, in a working directory of their own."""
    monkeypatch.chdir(tmp_path)
    write_inputs()
    return write_params()


def write_params(**changes: object) -> Params:
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["scenes"] |= {"root": "nuscenes", "version": VERSION, "train_split": "both", "oracle_root": None}
    tree["grid"]["references"] = []  # rulers want the truth
    tree["vla"] |= {"checkpoint": "models/driver", "size_px": [84, 56]}
    tree["train_pruner"] |= SMALL | changes
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return read_params()


def hashes() -> dict[str, str]:
    found = [*Path("models/recon").iterdir(), *Path("results").rglob("*"), Path("metrics/train_pruner.json")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found) if path.is_file()}


def test_it_leaves_a_pruner_that_the_tables_can_load(params: Params) -> None:
    train_pruner.main(params)
    tower = load_vision(Path("models/driver"))
    pruner = base.load("recon", {"checkpoint": "models/recon"})
    tokens = tower.encode(torch.zeros(1, 3, 56, 84, dtype=torch.uint8))
    positions = torch.zeros(3, 1, 6, dtype=torch.int64)
    view = base.TokenView(tokens, ((2, 3),), positions, ("image",), tower.fingerprint)
    base.check_kept(pruner.select(view, 2), view.tokens, 2, "recon")
    config = files.read_json(Path("models/recon/config.json"), "make")
    assert config["encoder"] == tower.fingerprint
    assert config["held_out_scenes"] in ([TRAIN], [JUDGED])
    assert config["view"] == {"fit": "stretch", "size_px": [84, 56]}


def test_it_leaves_history_examples_and_metrics(params: Params) -> None:
    train_pruner.main(params)
    files.read_manifest(train_pruner.RESULTS, "make")
    lines = (train_pruner.RESULTS / "history.csv").read_text().splitlines()
    assert lines[0].startswith("step,split,loss,loss_fore,loss_back,keep_share,auc,auc_row_prior")
    assert [line.split(",")[:2] for line in lines[1:4]] == [["0", "held_out"], ["1", "train"], ["1", "held_out"]]
    pictures = sorted(train_pruner.RESULTS.glob("example_*.png"))
    assert len(pictures) == 4 * 5
    assert {cv2.imread(str(picture)).shape for picture in pictures} == {(56, 84, 3)}
    metrics = files.read_json(train_pruner.METRICS, "make")
    assert metrics["images"] == metrics["held_out_images"] == KEY_FRAMES * 6
    assert metrics["held_out"]["auc_row_prior"] == 1.0
    assert set(metrics["train"]) == {"loss", "loss_fore", "loss_back", "keep_share"}
    assert not list(Path("runs/train_pruner").iterdir())


def test_a_second_run_gives_the_same_bytes(params: Params) -> None:
    train_pruner.main(params)
    first = hashes()
    train_pruner.main(params)
    assert hashes() == first


@pytest.mark.parametrize("moment", ["in step 3", "while writing the examples"])
def test_a_run_stopped_anywhere_ends_with_the_same_bytes(
    params: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    train_pruner.main(params)
    whole = hashes()
    with monkeypatch.context() as patch:
        place = (Run, "metrics", stop_in_step_3) if moment == "in step 3" else (train_pruner, "write_examples", stop)
        patch.setattr(*place)
        with pytest.raises(KeyboardInterrupt):
            train_pruner.main(params)
    caplog.set_level(logging.INFO)
    train_pruner.main(params)
    assert "resumed at step_000000" in caplog.text
    assert hashes() == whole


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def stop_in_step_3(run: Run, values: dict[str, float], step: int | None = None) -> None:
    if step == 3:
        raise KeyboardInterrupt


def test_a_changed_learning_rate_starts_anew(
    params: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(train_pruner, "write_examples", stop)
        with pytest.raises(KeyboardInterrupt):
            train_pruner.main(params)
    caplog.set_level(logging.INFO)
    train_pruner.main(write_params(pruner_lr=1e-4))
    assert "fresh start" in caplog.text
    assert "differ from those of" in caplog.text


def test_images_without_masks_stop_it_before_it_trains(params: Params) -> None:
    rows = shards.MaskSet().rows
    whole = [{**row, "phrases": [], "boxes": []} for row in rows[:-3]]
    shards.publish(Path("work"), shards.FOLDER, whole, {})
    with pytest.raises(DataError, match=r"mask.*dvc repro generate_masks"):
        train_pruner.main(params)
    assert not Path("models/recon").exists()


def test_a_missing_driver_is_told_with_the_command(params: Params) -> None:
    Path("models/driver/config.json").unlink()
    with pytest.raises(DataError, match="dvc repro train_driver"):
        train_pruner.main(params)


def test_too_many_held_out_scenes_are_refused(params: Params) -> None:
    with pytest.raises(ParamsError, match="held_out_scenes"):
        train_pruner.main(write_params(held_out_scenes=2))
