"""How a data set is cut into shards, what the work folder and the key of an image depend on, how a shard is made."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks_workspace import SPLITS
from PIL import Image
from synthetic_root import JUDGED, TRAIN, VERSION

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.masks import base
from stages.masks.base import Mask
from stages.masks.job import (
    Job,
    Part,
    Shard,
    collect,
    finished,
    image_keys,
    make_shard,
    opened,
    plan_shards,
    planned,
    split_of_scene,
)
from stages.masks.nuscenes_geometry import Annotator
from stages.scenes.base import Camera, Frame

FIRST, SECOND = (Shard("synth_train", i, (Part(TRAIN, 7 * i, 7 * i + 7),)) for i in (0, 1))


def made(job: Job, shard: Shard) -> Any:
    """What is noted about a shard once it is made."""
    assert make_shard(job, shard) == shard.name
    return finished(job.work, shard)


def test_a_scene_is_planned_by_its_key_frames(job: Job) -> None:
    plan = planned(job, SPLITS)
    assert plan[:2] == [FIRST, SECOND]  # 14 key frames of 6 cameras, at most 50 images in a shard
    assert [shard.split for shard in plan] == ["synth_train"] * 2 + ["synth_val"] * 2


def test_agreement_with_the_truth_is_summed_by_camera(job: Job) -> None:
    frames = [opened(job.root, VERSION).frame(token) for token in opened(job.root, VERSION).tokens("synth_train")]
    for frame in frames:
        for camera in frame.cameras.values():
            path = Path("oracle", frame.scene, f"{camera.token}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones((90, 160), np.uint8)).save(path)  # all road
    with_truth = replace(job, oracle_root="oracle")
    note = made(with_truth, FIRST)
    _, (overlap,), _ = collect(with_truth.work, [FIRST])
    front = overlap["CAM_FRONT"]
    assert front[0, 1] == front[1, 1] == 7 * 90 * 160  # the union with an image that is all road
    share = np.mean([row["foreground_share"] for row in note["rows"] if row["camera"] == "CAM_FRONT"])
    assert front[0, 0] == round(share * 7 * 90 * 160)
    path.unlink()
    with pytest.raises(DataError, match=f"the true class map {path}.*dvc repro make_world"):
        made(with_truth, SECOND)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=30), st.integers(1, 400))
def test_every_key_frame_is_in_one_shard_in_the_order_of_the_scenes(
    drawn: list[tuple[bool, int]], images_per_shard: int
) -> None:
    drawn.sort(key=lambda pair: pair[0])
    split_of = {f"s{i}": "val" if held else "train" for i, (held, _) in enumerate(drawn)}
    frames = {f"s{i}": count for i, (_, count) in enumerate(drawn)}
    plan = plan_shards(split_of, frames, images_per_shard)
    planned = [(part.scene, frame) for shard in plan for part in shard.parts for frame in range(part.start, part.stop)]
    assert planned == [(scene, frame) for scene, count in frames.items() for frame in range(count)]
    assert all(split_of[part.scene] == shard.split for shard in plan for part in shard.parts)
    assert len({shard.name for shard in plan}) == len(plan)
    assert all(sum(part.images for part in shard.parts) <= max(6, 1.5 * images_per_shard) for shard in plan)


@pytest.fixture
def grounded(job: Job, tmp_path: Path) -> Job:
    """Of an annotator that looks at images and has a text encoder."""
    for name in ("config.json", "vocab.txt", "pytorch_model.bin"):
        io.write_text(tmp_path / "bert" / name, "{}")
    return replace(job, annotator="grounded_sam", options={"text_encoder": "bert"})


def test_an_image_of_another_size_counts_where_images_are_looked_at(grounded: Job, job: Job) -> None:
    folders = grounded.work, job.work
    image = sorted(Path(job.root, "samples/CAM_BACK").iterdir())[0]
    image.write_bytes(image.read_bytes() + b"0")
    assert replace(grounded).work != folders[0]  # as a new process would look
    assert replace(job).work == folders[1]


def test_whatever_shapes_the_masks_changes_the_work_folder(job: Job) -> None:
    folder = job.work
    assert replace(job).work == folder
    assert replace(job, options={"range_m": 40.0}).work != folder
    assert replace(job, options={"not_road": ["walkway"]}).work != folder
    assert replace(job, images_per_shard=51).work != folder
    table = Path(job.root, VERSION, "sample_annotation.json")
    table.write_text(table.read_text().replace("1.9", "2.0"))
    assert replace(job).work != folder


def test_the_key_of_an_image_follows_all_that_an_annotator_is_handed(job: Job) -> None:
    scenes = opened(job.root, job.version)
    frame = scenes.frame(scenes.tokens_of_scene(TRAIN)[0])
    front, back = frame.cameras["CAM_FRONT"], frame.cameras["CAM_BACK"]

    def key(frame: Frame, camera: Camera, job: Job = job) -> str:
        return image_keys(job, Annotator(scenes), [(frame, camera)])[0]

    turned = replace(front, intrinsic=front.intrinsic + np.eye(3) * 1e-9)
    others = [
        key(frame, back),
        key(replace(frame, cameras=frame.cameras | {"CAM_FRONT": turned}), turned),
        key(replace(frame, boxes=replace(frame.boxes, categories=("animal", *frame.boxes.categories[1:]))), front),
        key(frame, front, replace(job, options={"range_m": 30.0})),
    ]
    assert len({key(frame, front), *others}) == 5
    assert key(frame, front, replace(job, images_per_shard=7)) == key(frame, front)


def test_masks_of_an_annotator_that_does_not_say_what_it_reads_hang_on_the_whole_data_set(job: Job) -> None:
    class Silent(base.Annotator):
        def annotate(self, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]:
            return []

    scenes = opened(job.root, job.version)
    frame = scenes.frame(scenes.tokens_of_scene(TRAIN)[0])
    annotators = (Silent(), Annotator(scenes))
    images = [(frame, frame.cameras["CAM_FRONT"])]
    before = [image_keys(job, annotator, images) for annotator in annotators]
    Path(job.root, VERSION, "splits.json").write_text("{}")
    after = [image_keys(job, annotator, images) for annotator in annotators]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_splits_that_share_a_scene_are_refused(job: Job) -> None:
    scenes = opened("nuscenes", VERSION)
    split_of = {TRAIN: "synth_train", JUDGED: "synth_val"}
    assert split_of_scene(scenes, ("synth_train", "synth_val")) == split_of
    with pytest.raises(ParamsError, match=f"1 in both synth_val and synth_val .*{JUDGED}"):
        split_of_scene(scenes, ("synth_val", "synth_val"))
