"""New scenes cost new masks alone: what an earlier set has of the very same is taken over, byte for byte."""

import hashlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root

from stages import generate_masks, make_world
from stages.core.params import Params, read_params
from stages.masks import nuscenes_geometry, shard_maker
from stages.masks.base import Mask
from stages.masks.keys import Keys, digest
from stages.masks.nuscenes_geometry import Annotator
from stages.masks.recipe import WORK, Recipe
from stages.scenes.base import Camera, Frame

IMAGES = 3 * 6  # of a scene


@pytest.fixture
def annotated(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many images of each scene the annotator has worked on."""
    count: Counter[str] = Counter()
    annotate = Annotator.annotate

    def counted(self: Annotator, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]:
        count.update(frame.scene for frame, _ in images)
        return annotate(self, images)

    monkeypatch.setattr(nuscenes_geometry.Annotator, "annotate", counted)
    return count


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Masks of one scene of three key frames; a second one stands in no split yet."""
    monkeypatch.chdir(tmp_path)
    copy_root(tmp_path / "nuscenes", 3)
    tree = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    tree["scenes"] = {"root": "nuscenes", "version": VERSION, "train_split": "old", "eval_split": "new"}
    tree["scenes"]["oracle_root"] = None
    tree["grid"]["references"] = []  # rulers want the truth
    tree["generate_masks"] |= {"images_per_shard": 1000, "workers": 1}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return splits(old=[TRAIN], new=[])


def splits(**scenes: list[str]) -> Params:
    """The data set of now."""
    Path("nuscenes", VERSION, "splits.json").write_text(json.dumps(scenes))
    return read_params()


def run(params: Params) -> dict[str, str]:
    """Run the stage as a new process would; the hashes of what it leaves."""
    shard_maker.opened.cache_clear()
    shard_maker._ready.cache_clear()
    shutil.rmtree("data/masks", ignore_errors=True)  # as DVC does
    generate_masks.main(params)
    found = [*Path("data/masks").rglob("*"), Path("metrics/masks.json")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found if path.is_file()}


def test_a_new_scene_costs_its_own_images_and_the_bytes_are_those_of_a_fresh_run(
    params: Params, annotated: Counter[str]
) -> None:
    run(params)
    assert annotated == {TRAIN: IMAGES}
    grown = splits(old=[TRAIN, JUDGED], new=[])  # both in one shard, which is made anew
    found = run(grown)
    assert annotated == {TRAIN: IMAGES, JUDGED: IMAGES}
    shutil.rmtree(WORK)
    assert run(grown) == found
    assert annotated == {TRAIN: 2 * IMAGES, JUDGED: 2 * IMAGES}


def test_a_scene_that_moves_to_the_other_split_and_shards_of_another_size_cost_nothing(
    params: Params, annotated: Counter[str]
) -> None:
    run(splits(old=[TRAIN], new=[JUDGED]))
    annotated.clear()
    turned = splits(old=[JUDGED], new=[TRAIN])
    smaller = turned.model_copy(
        update={"generate_masks": turned.generate_masks.model_copy(update={"images_per_shard": 12})}
    )
    found = run(smaller)
    assert not annotated
    shutil.rmtree(WORK)
    assert run(smaller) == found


def edit(name: str, change: Any) -> None:
    path = Path("nuscenes", name)
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


def test_a_changed_box_costs_the_key_frames_that_see_it(params: Params, annotated: Counter[str]) -> None:
    run(splits(old=[TRAIN, JUDGED], new=[]))
    annotated.clear()
    samples = json.loads(Path("nuscenes", VERSION, "sample.json").read_text())
    edit(f"{VERSION}/sample_annotation.json", lambda held: _widen(held, samples[0]["token"]))
    found = run(params := splits(old=[TRAIN, JUDGED], new=[]))
    assert annotated == {TRAIN: 6}
    shutil.rmtree(WORK)
    assert run(params) == found


def _widen(annotations: list[dict[str, Any]], sample: str) -> None:
    next(record for record in annotations if record["sample_token"] == sample)["size"][0] += 0.5


@pytest.mark.parametrize("damage", ["tar", "note", "gone"])
def test_what_is_damaged_of_the_earlier_set_is_made_again(params: Params, annotated: Counter[str], damage: str) -> None:
    run(params)
    (work,) = WORK.iterdir()
    (tar,), (note,) = work.glob("shards/*.tar"), work.glob("*.json")
    path = note if damage == "note" else tar
    data = bytearray(path.read_bytes())
    data[700] ^= 1  # in the tar: a byte of the first mask
    path.unlink() if damage == "gone" else path.write_bytes(data)
    annotated.clear()
    found = run(grown := splits(old=[TRAIN, JUDGED], new=[]))
    assert annotated == {TRAIN: 1 if damage == "tar" else IMAGES, JUDGED: IMAGES}
    shutil.rmtree(WORK)
    assert run(grown) == found


def test_another_option_takes_nothing(params: Params, annotated: Counter[str]) -> None:
    run(params)
    run(params.model_copy(update={"annotators": {"nuscenes_geometry": {"range_m": 30.0}}}))
    assert annotated == {TRAIN: 2 * IMAGES}


def test_an_annotator_that_does_not_say_what_it_reads_takes_nothing_from_another_data_set(
    recipe: Recipe,
) -> None:
    class Silent:
        images_at_once = 1

        def annotate(self, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]:
            return []

    scenes = shard_maker.opened(recipe.root, recipe.version)
    frame = scenes.frame(scenes.tokens_of_scene(TRAIN)[0])
    camera = frame.cameras["CAM_FRONT"]
    silent, telling = Keys(recipe, Silent()).of(frame, camera), Keys(recipe, Annotator(scenes)).of(frame, camera)
    Path(recipe.root, VERSION, "splits.json").write_text("{}")
    assert Keys(recipe, Silent()).of(frame, camera) != silent
    assert Keys(recipe, Annotator(scenes)).of(frame, camera) == telling


def test_the_key_of_an_image_follows_all_that_an_annotator_is_handed(recipe: Recipe) -> None:
    scenes = shard_maker.opened(recipe.root, recipe.version)
    frame = scenes.frame(scenes.tokens_of_scene(TRAIN)[0])
    front, back = frame.cameras["CAM_FRONT"], frame.cameras["CAM_BACK"]

    def key(frame: Frame, camera: Camera, recipe: Recipe = recipe) -> str:
        return Keys(recipe, Annotator(scenes)).of(frame, camera)

    turned = replace(front, intrinsic=front.intrinsic + np.eye(3) * 1e-9)
    others = [
        key(frame, back),
        key(replace(frame, cameras=frame.cameras | {"CAM_FRONT": turned}), turned),
        key(replace(frame, boxes=replace(frame.boxes, categories=("animal", *frame.boxes.categories[1:]))), front),
        key(frame, front, replace(recipe, options={"range_m": 30.0})),
    ]
    assert len({key(frame, front), *others}) == 5
    assert key(frame, front, replace(recipe, images_per_shard=7)) == key(frame, front)


def test_values_that_look_alike_are_told_apart() -> None:
    values = ["1", 1, 1.0, True, None, ["1"], [["1"]], ["1", "2"], ["12"], {"1": "2"}, np.array([1]), np.array([1.0])]
    assert len({digest(value) for value in [*values, np.array([[1]])]}) == len(values) + 1


def test_a_run_that_was_killed_while_it_took_masks_ends_with_the_same_bytes(
    params: Params, annotated: Counter[str]
) -> None:
    found, (work,) = run(splits(old=[TRAIN, JUDGED], new=[])), WORK.iterdir()
    for file in ("shards/old-0000.tar", "old-0000.json"):  # killed before it was written
        run(splits(old=[TRAIN], new=[]))  # what was there before the scene came
        assert not work.exists()
        grown = splits(old=[TRAIN, JUDGED], new=[])
        annotated.clear()
        assert killed_at(file, lambda: run(grown)) == -signal.SIGKILL  # noqa: B023
        assert run(grown) == found
        assert annotated == {JUDGED: IMAGES}


def killed_at(name: str, main: Callable[[], object]) -> int:
    """Run `main` in a child that is killed (-9) in place of the rename to a file so named; how the child ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    rename = os.replace

    def replace(source: str, target: Path) -> None:
        if str(target).endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace  # type: ignore[assignment]
    main()
    os._exit(0)


def test_a_drawn_world_that_grows_by_a_scene_costs_that_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, annotated: Counter[str]
) -> None:
    """Its maps, tables and manifest change, its first validation scene becomes one of training; the truth is held."""
    monkeypatch.chdir(tmp_path)
    tree = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    tree["make_world"] |= {"train_scenes": 1, "val_scenes": 1, "samples_per_scene": 8, "size_px": [112, 56]}
    tree["make_world"] |= {"workers": 1}
    tree["generate_masks"] |= {"images_per_shard": 1000, "workers": 1}

    def drawn(train_scenes: int) -> dict[str, str]:
        tree["make_world"]["train_scenes"] = train_scenes
        Path("params.yaml").write_text(yaml.safe_dump(tree))
        make_world.main(read_params())
        return run(read_params())

    drawn(1)
    first = set(annotated)
    assert list(annotated.values()) == [8 * 6] * 2
    found = drawn(2)
    (new,) = set(annotated) - first
    assert annotated == dict.fromkeys([*first, new], 8 * 6)
    assert json.loads(Path("metrics/masks.json").read_text())["iou"]["camera"]["mean"]["scenes"] == 3
    shutil.rmtree(WORK)
    assert run(read_params()) == found
