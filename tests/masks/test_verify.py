"""verify: whole sets pass, damage is named, odd masks are named, the sheet is drawn."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from synthetic_root import TRAIN, VERSION
from test_mask_set import SHARD, make_set

from stages.core.errors import DataError
from stages.core.params import Params
from stages.masks import mask_set, verify
from stages.masks.job import Job, opened, split_of_scene


def test_a_set_passes_alone_and_a_flipped_bit_anywhere_is_named(
    published: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_set(tmp_path / "other")
    verify.main(verify.parse([str(folder), "--alone"]), published)
    out = capsys.readouterr().out
    assert "train        CAM_FRONT              3 images" in out
    assert "3 masks, every hash as written, none lacks; 0 with an odd share" in out
    data = bytearray((folder / SHARD).read_bytes())
    data[0] ^= 1
    (folder / SHARD).write_bytes(data)
    with pytest.raises(DataError, match=rf"{SHARD} with sha256.*dvc repro generate_masks"):
        verify.check(folder)


def row(token: str, camera: str, share: float) -> dict[str, object]:
    return {"token": token, "camera": camera, "foreground_share": share}


def test_shares_far_from_their_cameras_median_are_named_farthest_first() -> None:
    rows = [row(f"f{i}", "CAM_FRONT", 0.4 + 0.001 * i) for i in range(20)]
    rows += [row(f"b{i}", "CAM_BACK", 0.1 + 0.001 * i) for i in range(20)]
    rows += [row("odd", "CAM_BACK", 0.4), row("less", "CAM_FRONT", 0.3), row("empty", "CAM_BACK", 0.0)]
    assert [found["token"] for found in verify.outliers(rows)] == ["empty", "odd", "less"]
    assert verify.outliers(rows[:40]) == []


def test_a_camera_whose_shares_reach_far_up_has_no_odd_ones_there() -> None:
    rows = [row(str(i), "CAM_BACK_RIGHT", share) for i, share in enumerate(0.02 * 1.2 ** np.arange(20))]
    assert verify.outliers(rows) == []  # 0.02 to 0.64, each a fifth more than the one before
    assert [found["token"] for found in verify.outliers([*rows, row("full", "CAM_BACK_RIGHT", 1.0)])] == ["full"]


def test_the_sheet_shows_the_images_of_a_data_set_and_a_set_that_lacks_one_is_refused(
    published: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in Path("nuscenes/samples").glob("CAM*/*"):
        cv2.imwrite(str(path), np.zeros((90, 160, 3), np.uint8))
    verify.main(verify.parse([]), published)
    assert "36 masks, every hash as written, none lacks" in capsys.readouterr().out
    page = cv2.imread(str(verify.SHEET))
    assert page is not None
    assert page.shape == (6 * (180 + verify.LABEL_PX), 6 * 320, 3)
    rows = [{**row, "phrases": [], "boxes": []} for row in mask_set.MaskSet().rows]
    (work,) = Path("runs/masks").iterdir()
    mask_set.publish(work, mask_set.FOLDER, rows[1:], {})
    with pytest.raises(DataError, match="no mask of CAM_FRONT in sample"):
        verify.main(verify.parse(["--sheet", "none"]), published)


def test_key_frames_and_cameras_that_lack_and_masks_named_otherwise_are_faults(job: Job) -> None:
    scenes = opened(job.root, VERSION)
    split_of = split_of_scene(scenes, ("synth_train", "synth_val"))
    every: list[dict[str, Any]] = [
        {"token": camera.token, "sample": token, "scene": scene, "split": split, "camera": name}
        for scene, split in split_of.items()
        for token in scenes.tokens_of_scene(scene)
        for name, camera in scenes.frame(token).cameras.items()
    ]
    assert verify.faults_of(every, scenes, split_of) == verify.faults_of(every, None, {}) == []
    sample, first = every[0]["sample"], every[0]
    lost = [f"no mask of CAM_FRONT_RIGHT in sample {sample}"]
    assert verify.faults_of([first, *every[2:]], scenes, split_of) == lost
    assert verify.faults_of([first, *every[2:]], None, {}) == lost
    assert verify.faults_of(every[6:], scenes, split_of) == [f"no mask of sample {sample} of {TRAIN} (synth_train)"]
    odd = [{**row, "split": "old"} if row["sample"] == sample else row for row in every]
    assert f"masks of sample {sample} as of {TRAIN} (old)" in verify.faults_of(odd, scenes, split_of)
