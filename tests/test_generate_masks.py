import json
import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import masks_workspace
import numpy as np
import pytest
from killed import killed_at
from masks_workspace import KEY_FRAMES, hashes
from synthetic_root import JUDGED, TRAIN, VERSION

from stages import generate_masks
from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params, read_params
from stages.masks import base, mask_set
from stages.masks.base import Mask
from stages.masks.job import WORK, Job, Part, Shard, make_shard
from stages.masks.nuscenes_geometry import Annotator
from stages.scenes.base import Camera, Frame


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The default parameters on two small scenes, one process, in a working directory of their own."""
    monkeypatch.chdir(tmp_path)
    return masks_workspace.write_workspace()


def test_every_image_of_both_splits_has_a_mask(params: Params) -> None:
    generate_masks.main(params)
    masks = mask_set.MaskSet()
    assert len(masks.rows) == 2 * KEY_FRAMES * 6
    assert {row["scene"]: row["split"] for row in masks.rows} == {TRAIN: "synth_train", JUDGED: "synth_val"}
    assert all(masks.mask(row["token"]).shape == (90, 160) for row in masks.rows)
    shares = [masks.mask(row["token"]).mean() for row in masks.rows]
    np.testing.assert_allclose(shares, [row["foreground_share"] for row in masks.rows])
    metrics = io.read_json(Path("metrics/masks.json"), "make")
    assert metrics["images"]["synth_train"]["CAM_FRONT"] == KEY_FRAMES
    assert metrics["iou"] == {}
    assert len(list(WORK.iterdir())) == 1  # links to the published shards, for the next run


@pytest.mark.process
def test_a_second_run_and_more_workers_give_the_same_bytes(params: Params) -> None:
    generate_masks.main(params)
    first = hashes()
    assert len(first) == 3 + 2  # index, manifest, metrics, and a shard for each split
    shutil.rmtree(WORK)
    generate_masks.main(
        params.model_copy(update={"generate_masks": params.generate_masks.model_copy(update={"workers": 2})})
    )
    assert hashes() == first


@pytest.mark.process
def test_killed_at_a_write_and_run_again_the_bytes_are_the_same(params: Params) -> None:
    for name in ("synth_train-0000.json", "index.parquet"):
        assert killed_at(name, lambda: generate_masks.main(params)) == -signal.SIGKILL
        with pytest.raises(DataError, match="dvc repro generate_masks"):
            mask_set.MaskSet()
    generate_masks.main(params)
    resumed = hashes()
    shutil.rmtree("data/masks")  # as DVC does before it runs a stage
    shutil.rmtree(WORK)
    generate_masks.main(params)
    assert hashes() == resumed


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that are written from now on."""
    names: list[str] = []
    write = mask_set.write_shard
    monkeypatch.setattr(mask_set, "write_shard", lambda path, masks: (names.append(path.stem), write(path, masks))[1])
    return names


BOTH = ["synth_train-0000", "synth_val-0000"]


def test_a_second_run_makes_nothing_and_a_damaged_shard_is_found_and_made_again(
    params: Params, made: list[str]
) -> None:
    generate_masks.main(params)
    first = hashes()
    shutil.rmtree("data/masks")  # as DVC does
    generate_masks.main(params)
    assert (hashes(), made) == (first, BOTH)
    path = Path("data/masks/shards", f"{BOTH[1]}.tar")  # a link: the work is damaged with it
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    generate_masks.main(params)
    assert (hashes(), made) == (first, [*BOTH, BOTH[1]])


def test_a_changed_threshold_makes_all_again_and_a_changed_report_nothing(params: Params, made: list[str]) -> None:
    generate_masks.main(params)
    report = params.make_report.model_copy(update={"mask_samples": 1})
    generate_masks.main(params.model_copy(update={"make_report": report}))
    assert made == BOTH
    generate_masks.main(params.model_copy(update={"annotators": {"nuscenes_geometry": {"range_m": 30.0}}}))
    assert made == BOTH * 2
    assert len(list(WORK.iterdir())) == 1  # the work of the set that was replaced is gone


def test_tasks_of_an_array_and_the_command_that_collects_give_the_same_bytes(params: Params, made: list[str]) -> None:
    generate_masks.main(params)
    first = hashes()
    for folder in ("data/masks", WORK):
        shutil.rmtree(folder)
    made.clear()
    generate_masks.main(params, "1/2")
    assert made == BOTH[1:]
    assert not Path("data/masks").exists()
    generate_masks.main(params, "0/2")
    generate_masks.main(params)
    assert (hashes(), made) == (first, BOTH[::-1])


class OnGpus(base.Annotator):
    """An annotator whose models fill a number of GPUs."""

    def __init__(self, gpus: int | None) -> None:
        self._gpus = gpus

    gpus = property(lambda self: self._gpus)  # type: ignore[assignment]

    def annotate(self, images: object) -> list[base.Mask]:
        return []


@pytest.mark.parametrize(("gpus", "workers"), [(1, 1), (32, 16), (None, 16)])
def test_each_gpu_gets_one_process_and_ray_actors_need_one(
    params: Params, gpus: int | None, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(generate_masks, "annotator_of", lambda key: OnGpus(gpus))
    monkeypatch.setattr(generate_masks, "map_shards", lambda maker, todo, count: (given.append(count), iter(()))[1])
    job = Job("nuscenes", VERSION, "nuscenes_geometry", {}, 50, None)
    maker = partial(make_shard, job)
    options = params.generate_masks.model_copy(update={"workers": 16})
    todo = [Shard("synth_train", 0, (Part(TRAIN, 0, 1),))]
    generate_masks.spread(job, maker, todo, options)
    assert given == [workers]
    ray = options.ray.model_copy(update={"gpus_per_actor": 0.0})
    if gpus is not None:
        with pytest.raises(ParamsError, match="gpus_per_actor: 1"):
            generate_masks.spread(job, maker, todo, options.model_copy(update={"engine": "ray", "ray": ray}))


IMAGES = 3 * 6  # of a scene


@pytest.fixture
def annotated(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many images of each scene the annotator has worked on."""
    count: Counter[str] = Counter()
    annotate = Annotator.annotate

    def counted(self: Annotator, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]:
        count.update(frame.scene for frame, _ in images)
        return annotate(self, images)

    monkeypatch.setattr(Annotator, "annotate", counted)
    return count


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Masks of one scene of three key frames; a second one stands in no split yet."""
    monkeypatch.chdir(tmp_path)
    masks_workspace.write_workspace("old", "new", images_per_shard=1000)
    return splits(old=[TRAIN], new=[])


def splits(**scenes: list[str]) -> Params:
    """The data set of now."""
    Path("nuscenes", VERSION, "splits.json").write_text(json.dumps(scenes))
    return read_params()


def run(params: Params) -> dict[str, str]:
    """Run the stage as a new process would; the hashes of what it leaves."""
    masks_workspace.start()
    shutil.rmtree("data/masks", ignore_errors=True)  # as DVC does
    generate_masks.main(params)
    return masks_workspace.hashes()


def test_a_new_scene_costs_its_own_images_and_the_bytes_are_those_of_a_fresh_run(
    growing: Params, annotated: Counter[str]
) -> None:
    run(growing)
    assert annotated == {TRAIN: IMAGES}
    grown = splits(old=[TRAIN, JUDGED], new=[])  # both in one shard, which is made anew
    found = run(grown)
    assert annotated == {TRAIN: IMAGES, JUDGED: IMAGES}
    shutil.rmtree(WORK)
    assert run(grown) == found
    assert annotated == {TRAIN: 2 * IMAGES, JUDGED: 2 * IMAGES}


def test_a_changed_box_costs_the_key_frames_that_see_it(growing: Params, annotated: Counter[str]) -> None:
    run(splits(old=[TRAIN, JUDGED], new=[]))
    annotated.clear()
    first = json.loads(Path("nuscenes", VERSION, "sample.json").read_text())[0]["token"]
    path = Path("nuscenes", VERSION, "sample_annotation.json")
    annotations = json.loads(path.read_text())
    next(record for record in annotations if record["sample_token"] == first)["size"][0] += 0.5
    path.write_text(json.dumps(annotations))
    run(splits(old=[TRAIN, JUDGED], new=[]))
    assert annotated == {TRAIN: 6}


@pytest.mark.parametrize("damage", ["tar", "gone"])
def test_what_is_damaged_of_the_earlier_set_is_made_again(
    growing: Params, annotated: Counter[str], damage: str
) -> None:
    run(growing)
    (work,) = WORK.iterdir()
    (path,) = work.glob("shards/*.tar")
    data = bytearray(path.read_bytes())
    data[700] ^= 1  # in the tar: a byte of the first mask
    path.unlink() if damage == "gone" else path.write_bytes(data)
    annotated.clear()
    run(splits(old=[TRAIN, JUDGED], new=[]))
    assert annotated == {TRAIN: 1 if damage == "tar" else IMAGES, JUDGED: IMAGES}
