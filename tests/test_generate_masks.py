import hashlib
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root

from stages import generate_masks
from stages.core import io
from stages.core.errors import DataError, MachineError
from stages.core.params import Params, read_params
from stages.masks import recipe, shard_maker, shards, writing

KEY_FRAMES = 3
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The default parameters on two small scenes, one process, in a working directory of their own."""
    monkeypatch.chdir(tmp_path)
    shard_maker.opened.cache_clear()
    shard_maker._ready.cache_clear()
    copy_root(tmp_path / "nuscenes", KEY_FRAMES)
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    splits = {"train_split": "synth_train", "eval_split": "synth_val"}
    tree["scenes"] = {"root": "nuscenes", "version": VERSION, **splits, "oracle_root": None}
    tree["grid"]["references"] = []  # rulers want the truth
    tree["generate_masks"] |= {"images_per_shard": 100, "workers": 1}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return read_params()


def hashes() -> dict[str, str]:
    found = [*Path("data/masks").rglob("*"), Path("metrics/masks.json")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found if path.is_file()}


def test_every_image_of_both_splits_has_a_mask(params: Params) -> None:
    generate_masks.main(params)
    masks = shards.MaskSet()
    assert len(masks.tokens("synth_train")) == len(masks.tokens("synth_val")) == KEY_FRAMES * 6
    assert {row["scene"]: row["split"] for row in masks.rows} == {TRAIN: "synth_train", JUDGED: "synth_val"}
    assert all(masks.mask(row["token"]).shape == (90, 160) for row in masks.rows)
    shares = [masks.mask(row["token"]).mean() for row in masks.rows]
    np.testing.assert_allclose(shares, [row["foreground_share"] for row in masks.rows])
    metrics = io.read_json(Path("metrics/masks.json"), "make")
    assert metrics["images"]["synth_train"]["CAM_FRONT"] == KEY_FRAMES
    assert metrics["iou"] == {}
    assert len(list(recipe.WORK.iterdir())) == 1  # links to the published shards, for the next run


def test_a_second_run_and_more_workers_give_the_same_bytes(params: Params) -> None:
    generate_masks.main(params)
    first = hashes()
    assert len(first) == 3 + 2  # index, manifest, metrics, and a shard for each split
    shutil.rmtree(recipe.WORK)
    generate_masks.main(
        params.model_copy(update={"generate_masks": params.generate_masks.model_copy(update={"workers": 2})})
    )
    assert hashes() == first


def killed_at(call: int, main: Callable[[], None]) -> int:
    """Run `main` in a child that is killed (-9) in place of the `call`-th rename; returns how the child ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    rename, calls = os.replace, iter(range(sys.maxsize))

    def replace(source: str, target: str) -> None:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace  # type: ignore[assignment]
    main()
    os._exit(0)


def test_killed_at_any_write_and_run_again_the_bytes_are_the_same(params: Params) -> None:
    generate_masks.main(params)
    first = hashes()
    ends = []
    for call in range(20):
        shutil.rmtree("data/masks")  # as DVC does before it runs a stage
        shutil.rmtree(recipe.WORK)
        ends.append(killed_at(call, lambda: generate_masks.main(params)))
        if ends[-1] == 0:
            break
        with pytest.raises(DataError, match="dvc repro generate_masks"):
            shards.MaskSet()
        generate_masks.main(params)
        assert hashes() == first, f"killed at rename {call}"
    assert ends == [-signal.SIGKILL] * 7 + [0]  # shard and note of each split; metrics, index and manifest


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that are written from now on."""
    names: list[str] = []
    write = writing.write_shard
    monkeypatch.setattr(writing, "write_shard", lambda path, masks: (names.append(path.stem), write(path, masks))[1])
    return names


BOTH = ["synth_train-0000", "synth_val-0000"]


def test_a_killed_run_keeps_its_finished_shard(params: Params, made: list[str]) -> None:
    assert killed_at(2, lambda: generate_masks.main(params)) == -signal.SIGKILL  # at the second shard
    generate_masks.main(params)
    assert made == BOTH[1:]


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
    assert len(list(recipe.WORK.iterdir())) == 1  # the work of the set that was replaced is gone


def test_tasks_of_an_array_and_the_command_that_collects_give_the_same_bytes(params: Params, made: list[str]) -> None:
    generate_masks.main(params)
    first = hashes()
    for folder in ("data/masks", recipe.WORK):
        shutil.rmtree(folder)
    made.clear()
    generate_masks.main(params, "1/2")
    assert made == BOTH[1:]
    assert not Path("data/masks").exists()
    generate_masks.main(params, "0/2")
    generate_masks.main(params)
    assert (hashes(), made) == (first, BOTH[::-1])


def test_a_full_disk_stops_the_run_and_a_second_one_goes_on(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    generate_masks.main(params)
    first = hashes()
    shutil.rmtree(recipe.WORK)
    fsync, calls = os.fsync, iter(range(1000))

    def full_at_the_second_shard(descriptor: int) -> None:
        if next(calls) == 4:  # file and folder of a shard and its note come first
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_at_the_second_shard)
        with pytest.raises(MachineError, match="free some space and run the same command again"):
            generate_masks.main(params)
    generate_masks.main(params)
    assert hashes() == first


def test_a_missing_image_stops_the_run_and_nothing_is_published(params: Params) -> None:
    frame = shard_maker.opened("nuscenes", VERSION).frame(
        shard_maker.opened("nuscenes", VERSION).tokens("synth_val")[1]
    )
    frame.cameras["CAM_BACK_LEFT"].path.unlink()
    with pytest.raises(DataError, match=f"the image .* of key frame {frame.token}; got no such file"):
        generate_masks.main(params)
    assert not Path("data/masks").exists()


def test_an_error_of_a_worker_process_arrives_whole() -> None:
    error = pickle.loads(pickle.dumps(DataError(expected="a", got="b", fix="c")))
    assert (type(error), error.wanted, error.came, error.then) == (DataError, "a", "b", "c")
    assert str(error) == "wanted a; got b; next: c"
