import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from stages.planning.truth_store import FOLDER, TruthStore
from synthetic_root import JUDGED, VERSION, copy_root

from stages import prepare_truths
from stages.core import io
from stages.core.errors import DataError
from stages.core.params import Params, read_params
from stages.planning import scene_truths
from stages.planning.truths import truth_from_frame
from stages.scenes.nuscenes import open_scenes

REPOSITORY = Path(__file__).parents[1]
COMPLETE, FRAMES = 8, 14


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own with a small nuScenes root in it."""
    monkeypatch.chdir(tmp_path)
    scene_truths.opened.cache_clear()
    return copy_root(Path("nuscenes"))


def params(oracle_root: str | None = None, workers: int = 1, split: str = "synth_val") -> Params:
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["scenes"] |= {"root": "nuscenes", "version": VERSION, "eval_split": split, "oracle_root": oracle_root}
    tree["grid"]["references"] = []  # rulers want the truth
    tree["prepare_truths"]["workers"] = workers
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return read_params()


def made() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}


def test_every_key_frame_is_as_it_was_recorded() -> None:
    prepare_truths.main(params())
    scenes, store = open_scenes("nuscenes", VERSION), TruthStore("synth_val")
    assert [frame.token for frame in store.key_frames] == scenes.tokens("synth_val")
    assert [frame.complete for frame in store.key_frames] == [True] * COMPLETE + [False] * (FRAMES - COMPLETE)
    for known in store.known():
        frame = scenes.frame(known.truth.token)
        wanted = truth_from_frame(frame, scenes.drivable_mask(frame), scenes.surroundings(frame))
        np.testing.assert_array_equal(known.truth.future_m, wanted.future_m)
        np.testing.assert_array_equal(known.truth.agents.centers_m, wanted.agents.centers_m)
        np.testing.assert_array_equal(known.truth.drivable, wanted.drivable)
        assert known.truth.agents.categories == wanted.agents.categories
        assert known.event is known.classes is None


def test_two_processes_make_the_bytes_of_one_and_so_does_a_second_run() -> None:
    prepare_truths.main(params(split="both"))
    once = made()
    prepare_truths.main(params(split="both"))
    assert made() == once
    prepare_truths.main(params(split="both", workers=2))
    assert made() == once


def test_an_interrupted_run_leaves_nothing_that_is_read_and_the_next_starts_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare_truths.main(params(split="both"))
    whole = made()
    write = scene_truths.write_scene

    def stopped(folder: Path, scene: str, *rest: object) -> object:
        if scene == JUDGED:
            raise KeyboardInterrupt
        return write(folder, scene, *rest)

    monkeypatch.setattr(scene_truths, "write_scene", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare_truths.main(params(split="both"))
    monkeypatch.setattr(scene_truths, "write_scene", write)
    assert [path.name for path in FOLDER.rglob("*.parquet")] == ["scene-0061.parquet"]
    with pytest.raises(DataError, match="without its manifest"):
        TruthStore("both")
    (FOLDER / "scenes/scene-0999.parquet").write_bytes(b"of another split")
    prepare_truths.main(params(split="both"))
    assert made() == whole


def test_a_missing_map_expansion_is_named() -> None:
    location = json.loads(Path("nuscenes", VERSION, "log.json").read_text())[-1]["location"]
    shutil.rmtree("nuscenes/maps/expansion")
    with pytest.raises(DataError, match=rf"map expansion nuscenes/maps/expansion/{location}.json; got no such file"):
        prepare_truths.main(params())
    assert not (FOLDER / io.MANIFEST).exists()


def test_scenes_without_can_bus_have_the_same_truths() -> None:
    prepare_truths.main(params())
    whole = made()
    shutil.rmtree("nuscenes/can_bus")
    scene_truths.opened.cache_clear()
    prepare_truths.main(params())
    assert made() == whole


def write_class_maps() -> None:
    scenes = open_scenes("nuscenes", VERSION)
    for i, token in enumerate(scenes.tokens("synth_val")):
        path = Path("oracle", JUDGED, f"{scenes.frame(token).cameras['CAM_FRONT'].token}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 5), i, np.uint8)).save(path)


def test_events_and_class_maps_of_a_drawn_world_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    write_class_maps()
    tokens = open_scenes("nuscenes", VERSION).tokens("synth_val")
    monkeypatch.setattr(scene_truths, "events_of", lambda root: dict.fromkeys(tokens, "curve"))
    prepare_truths.main(params("oracle"))
    found = list(TruthStore("synth_val").known())
    assert [int(one.classes.min()) for one in found if one.classes is not None] == list(range(FRAMES))
    assert {one.event for one in found} == {"curve"}


def test_a_missing_class_map_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = open_scenes("nuscenes", VERSION).tokens("synth_val")
    monkeypatch.setattr(scene_truths, "events_of", lambda root: dict.fromkeys(tokens, "curve"))
    with pytest.raises(DataError, match=r"class map nowhere/.*\.png.*dvc repro make_world"):
        prepare_truths.main(params("nowhere"))


def test_a_key_frame_without_an_event_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = open_scenes("nuscenes", VERSION).tokens("synth_val")
    monkeypatch.setattr(scene_truths, "events_of", lambda root: dict.fromkeys(tokens[1:], "free"))
    with pytest.raises(DataError, match=r"event for each of the 14 .* none for 1 .*dvc repro make_world"):
        prepare_truths.main(params("oracle"))
