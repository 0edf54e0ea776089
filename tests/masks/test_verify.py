"""verify: whole sets pass, damage is named, odd masks are named, the sheet is drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from synthetic_root import JUDGED, TRAIN, VERSION
from test_mask_set import SHARD, make_set

from stages.core.errors import DataError
from stages.core.params import Params
from stages.masks import mask_set, verify
from stages.masks.base import Mask
from stages.masks.job import Job, opened, split_of_scene


def test_a_whole_set_passes_and_its_counts_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify.main(verify.parse([str(make_set(tmp_path)), "--alone"]))
    out = capsys.readouterr().out
    assert "train        CAM_FRONT              3 images" in out
    assert "3 masks, every hash as written, no camera lacks; 0 with an odd share" in out


@pytest.mark.parametrize(("where", "named"), [(0, "as a whole"), (530, r"mask aaaa in .*; .* as a whole")])
def test_a_flipped_bit_anywhere_is_named(tmp_path: Path, where: int, named: str) -> None:
    folder = make_set(tmp_path)
    data = bytearray((folder / SHARD).read_bytes())
    data[where] ^= 1
    (folder / SHARD).write_bytes(data)
    with pytest.raises(DataError, match=rf"faults: .*{named}.*dvc repro generate_masks"):
        verify.check(folder)


def test_a_damaged_class_map_is_named(tmp_path: Path) -> None:
    mask = Mask(np.ones((3, 4), bool), (), np.zeros((0, 4), np.float32), np.ones((3, 4), np.uint8))
    rows = mask_set.write_shard(tmp_path / "work" / SHARD, [("aaaa", mask)])
    mask_set.publish(tmp_path / "work", tmp_path / "masks", [{**rows[0], "shard": SHARD}], {})
    data = bytearray((tmp_path / "masks" / SHARD).read_bytes())
    data[rows[0]["classes_offset"]] ^= 1
    (tmp_path / "masks" / SHARD).write_bytes(data)
    with pytest.raises(DataError, match="class map aaaa in"):
        verify.check(tmp_path / "masks")
    with pytest.raises(DataError, match="mask aaaa in"):
        mask_set.MaskSet(tmp_path / "masks").classes("aaaa")


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


def test_the_sheet_shows_the_images_of_a_data_set(published: Params, capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("nuscenes/samples").glob("CAM*/*"):
        cv2.imwrite(str(path), np.zeros((90, 160, 3), np.uint8))
    verify.main(verify.parse([]))
    assert "36 masks, every hash as written, none lacks" in capsys.readouterr().out
    page = cv2.imread(str(verify.SHEET))
    assert page is not None
    assert page.shape == (6 * (180 + verify.LABEL_PX), 6 * 320, 3)


SPLITS = ("synth_train", "synth_val")
Rows = list[dict[str, Any]]


@pytest.fixture
def all_rows(job: Job) -> Rows:
    """A row of each image of the small root."""
    scenes, split_of = opened(job.root, VERSION), split_of_scene(opened(job.root, VERSION), SPLITS)
    return [
        {"token": camera.token, "sample": token, "scene": scene, "split": split_of[scene], "camera": name}
        for scene in split_of
        for token in scenes.tokens_of_scene(scene)
        for name, camera in scenes.frame(token).cameras.items()
    ]


def faults(job: Job, rows: Rows) -> list[str]:
    split_of = split_of_scene(opened(job.root, VERSION), SPLITS)
    return list(verify.against(opened(job.root, VERSION), split_of, rows))


def test_a_set_of_every_image_lacks_nothing(job: Job, all_rows: Rows) -> None:
    assert faults(job, all_rows) == []
    assert list(verify.between_cameras(all_rows)) == []


def test_a_scene_a_key_frame_and_an_image_that_lack_are_named(job: Job, all_rows: Rows) -> None:
    assert faults(job, [row for row in all_rows if row["scene"] == TRAIN]) == [
        f"no mask of {JUDGED} (synth_val, 14 key frames)"
    ]
    sample = all_rows[0]["sample"]
    six = "CAM_FRONT, CAM_FRONT_RIGHT, CAM_BACK_RIGHT, CAM_BACK, CAM_BACK_LEFT, CAM_FRONT_LEFT"
    assert faults(job, all_rows[6:]) == [f"no mask of {six} in sample {sample} of {TRAIN}"]
    lost = [f"no mask of CAM_FRONT_RIGHT in sample {sample} of {TRAIN}"]
    assert faults(job, [all_rows[0], *all_rows[2:]]) == lost
    assert list(verify.between_cameras([all_rows[0], *all_rows[2:]])) == lost


def test_what_is_named_otherwise_or_of_no_scene_is_a_fault(job: Job, all_rows: Rows) -> None:
    (fault,) = faults(job, [{**all_rows[0], "split": "synth_val"}, *all_rows[1:]])
    assert fault == f"{all_rows[0]['token']} as of {TRAIN} (synth_val): {TRAIN} (synth_train)"
    assert faults(job, [*all_rows, {**all_rows[0], "sample": "other"}]) == [
        "1 masks of sample other, of no scene of the splits"
    ]


def test_a_camera_that_the_data_set_lacks_is_no_fault(
    job: Job, all_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = opened(job.root, VERSION)
    stock: Callable[[str], Any] = scenes.frame

    def frame(token: str) -> Any:
        found = stock(token)
        found.cameras.pop("CAM_FRONT_RIGHT")
        return found

    monkeypatch.setattr(scenes, "frame", frame)
    assert faults(job, [all_rows[0], *all_rows[2:]]) == []


def test_verify_refuses_a_set_without_an_image(published: Params) -> None:
    rows = [{**row, "phrases": [], "boxes": []} for row in mask_set.MaskSet().rows]
    (work,) = Path("runs/masks").iterdir()
    mask_set.publish(work, mask_set.FOLDER, rows[1:], {})
    with pytest.raises(DataError, match="no mask of CAM_FRONT in sample"):
        verify.main(verify.parse(["--sheet", "none"]))
