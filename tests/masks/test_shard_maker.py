import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from synthetic_root import TRAIN, VERSION

from stages.core.errors import DataError
from stages.masks import mask_set
from stages.masks.base import Mask
from stages.masks.job import Job, Part, Shard
from stages.masks.shard_maker import ShardMaker, collect, finished, opened, planned

SPLITS = ("synth_train", "synth_val")
FIRST, SECOND = (Shard("synth_train", i, (Part(TRAIN, 7 * i, 7 * i + 7),)) for i in (0, 1))


def made(job: Job, shard: Shard, work: Path | None = None) -> Any:
    """What is noted about a shard once it is made."""
    maker = ShardMaker(job, work or job.work_folder())
    assert maker(shard) == shard.name
    return finished(maker.work, shard)


def test_a_scene_is_planned_by_its_key_frames(job: Job) -> None:
    plan = planned(job, SPLITS)
    assert plan[:2] == [FIRST, SECOND]  # 14 key frames of 6 cameras, at most 50 images in a shard
    assert [shard.split for shard in plan] == ["synth_train"] * 2 + ["synth_val"] * 2


def test_rows_are_in_the_order_of_time_and_cameras(job: Job) -> None:
    rows = [row for shard in (FIRST, SECOND) for row in made(job, shard)["rows"]]
    scenes = opened(job.root, job.version)
    expected = [
        camera.token for token in scenes.tokens("synth_train") for camera in scenes.frame(token).cameras.values()
    ]
    assert [row["token"] for row in rows] == expected
    assert {row["split"] for row in rows} == {"synth_train"}


@pytest.mark.parametrize("at_once", [4])
def test_masks_do_not_depend_on_how_many_images_are_annotated_at_once(job: Job, at_once: int, tmp_path: Path) -> None:
    first = made(job, FIRST)
    batched = made(replace(job, options={"images_at_once": at_once}), FIRST, tmp_path / "batched")
    assert [batched[key] for key in ("rows", "sha256")] == [first[key] for key in ("rows", "sha256")]


def test_a_finished_shard_is_not_made_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(job, FIRST)

    def never(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(mask_set, "write_shard", never)
    assert made(job, FIRST) == first
    with pytest.raises(AssertionError, match="made again"):
        made(job, SECOND)


@pytest.mark.parametrize("suffix", ["tar", "json"])
def test_a_damaged_shard_or_note_of_a_former_run_is_made_again(job: Job, suffix: str) -> None:
    first = made(job, FIRST)
    folder = job.work_folder()
    path = folder / FIRST.name if suffix == "tar" else folder / f"{FIRST.stem}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + b"x")
    assert finished(folder, FIRST) is None
    assert made(job, FIRST) == first
    assert path.read_bytes() == whole


def test_the_class_map_of_each_image_is_kept(job: Job) -> None:
    rows = made(job, FIRST)["rows"]
    mask_set.publish(job.work_folder(), Path("data/masks"), rows, {})
    masks = mask_set.MaskSet(Path("data/masks"))
    for row in rows[:6]:
        classes = masks.classes(row["token"])
        assert classes is not None
        np.testing.assert_array_equal(classes > 0, masks.mask(row["token"]))
    assert {int(value) for row in rows for value in np.unique(masks.classes(row["token"]))} >= {0, 1, 2}


def test_agreement_with_the_truth_is_summed_by_camera(job: Job) -> None:
    frames = [opened(job.root, VERSION).frame(token) for token in opened(job.root, VERSION).tokens("synth_train")]
    for frame in frames:
        for camera in frame.cameras.values():
            path = Path("oracle", frame.scene, f"{camera.token}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones((90, 160), np.uint8)).save(path)  # all road
    with_truth = replace(job, oracle_root="oracle")
    note = made(with_truth, FIRST)
    (overlap,) = collect(with_truth.work_folder(), [FIRST]).overlaps
    front = overlap["CAM_FRONT"]
    assert front[0, 1] == front[1, 1] == 7 * 90 * 160  # the union with an image that is all road
    share = np.mean([row["foreground_share"] for row in note["rows"] if row["camera"] == "CAM_FRONT"])
    assert front[0, 0] == round(share * 7 * 90 * 160)
    path.unlink()
    with pytest.raises(DataError, match=f"the true class map {path}.*dvc repro make_world"):
        made(with_truth, SECOND)


def damages() -> dict[str, Any]:
    def shifted(held: Any) -> Any:
        held["of"]["rows"][0]["offset"] += 512
        return held

    return {"offset": shifted, "list": lambda _: [1]}


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_note_is_no_note(job: Job, damage: str) -> None:
    first = made(job, FIRST)
    path = job.work_folder() / f"{FIRST.stem}.json"
    whole = path.read_bytes()
    path.write_text(json.dumps(damages()[damage](json.loads(whole))))
    assert finished(job.work_folder(), FIRST) is None
    assert made(job, FIRST) == first
    assert path.read_bytes() == whole


def test_the_note_is_of_what_was_written_and_not_of_what_another_process_put_there(
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, other = mask_set.write_shard, [("aaaa", Mask(np.ones((3, 4), bool), (), np.zeros((0, 4), np.float32)))]

    def overtaken(path: Path, masks: Any) -> mask_set.Written:
        ours = write(path, masks)
        write(path, other)
        return ours

    maker = ShardMaker(job, job.work_folder())
    with monkeypatch.context() as patch:
        patch.setattr(mask_set, "write_shard", overtaken)
        maker(FIRST)
    assert finished(maker.work, FIRST) is None
    rows = made(job, FIRST)["rows"]
    mask_set.publish(maker.work, Path("data/masks"), rows, {})
    assert mask_set.MaskSet(Path("data/masks")).mask(rows[-1]["token"]).shape == (90, 160)
