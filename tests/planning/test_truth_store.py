import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import plain_truth
import pytest
from stages.planning.columns import table_of
from stages.planning.truth_store import INDEX, Known, TruthStore, clear, publish, write_scene

from stages.core import io
from stages.core.errors import DataError
from stages.planning.base import KeyFrame

ROAD = np.zeros((1000, 1000), bool)
ROAD[480:520] = True


def known(token: str, scene: str, steps: int = 6) -> Known:
    truth = plain_truth.truth(np.ones((6, 2)), drivable=ROAD, known_steps=steps, token=token, scene=scene)
    return Known(truth, "curve", np.full((4, 3), 2, np.uint8))


def write(folder: Path, *scenes: list[Known]) -> Path:
    frames = [frame for each in scenes for frame in write_scene(folder, each[0].truth.scene, each)]
    publish(folder, frames, {"split": "val", "drawn": False})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "truths", [known("b0", "b"), known("b1", "b", steps=2)], [known("a0", "a")])


def test_key_frames_come_back_in_the_order_of_the_split(folder: Path) -> None:
    store = TruthStore("val", folder)
    assert store.key_frames == (KeyFrame("b0", "b", True), KeyFrame("b1", "b", False), KeyFrame("a0", "a", True))
    found = list(store.known())
    assert [(one.truth.token, one.truth.scene, one.event) for one in found] == [
        ("b0", "b", "curve"), ("b1", "b", "curve"), ("a0", "a", "curve"),
    ]  # fmt: skip
    assert found[1].truth.valid.tolist() == [True] * 2 + [False] * 4
    assert np.isnan(found[1].truth.future_m[2:]).all()
    assert found[0].truth.drivable is not None
    assert found[0].classes is not None
    assert (found[0].truth.drivable == ROAD).all()
    assert found[0].classes.tolist() == [[2, 2, 2]] * 4


def test_a_drivable_area_of_a_million_cells_takes_a_few_kilobytes(folder: Path) -> None:
    assert (folder / "scenes/b.parquet").stat().st_size < 30_000


def test_a_folder_without_its_manifest_is_refused(folder: Path) -> None:
    (folder / io.MANIFEST).unlink()
    with pytest.raises(DataError, match=r"without its manifest \(an interrupted run\?\).*dvc repro prepare_truths"):
        TruthStore("val", folder)
    clear(folder)
    with pytest.raises(DataError, match="no such folder"):
        TruthStore("val", folder)


def test_truths_of_another_split_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="truths of split train .* those of val; next: run `dvc repro prepare_truths`"):
        TruthStore("train", folder)


def test_a_token_in_two_shards_is_refused_when_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"each key frame once .* 1 twice \(first: x in a and b\)"):
        write(tmp_path, [known("x", "a")], [known("x", "b")])
    assert not (tmp_path / io.MANIFEST).exists()


def test_a_token_in_two_shards_is_refused_when_read(folder: Path) -> None:
    double = [KeyFrame("a0", "b", True), KeyFrame("a0", "a", True)]
    io.write_parquet(folder / INDEX, table_of(double, KeyFrame))
    io.write_manifest(folder, [*folder.rglob("*.parquet")], {"split": "val", "drawn": False})
    with pytest.raises(DataError, match=r"1 twice \(first: a0 in b and a\); next: run `dvc repro prepare_truths`"):
        TruthStore("val", folder)


def test_a_shard_with_the_key_frames_of_another_is_refused(folder: Path) -> None:
    shutil.copy(folder / "scenes/a.parquet", folder / "scenes/b.parquet")
    io.write_manifest(folder, [*folder.rglob("*.parquet")], {"split": "val", "drawn": False})
    with pytest.raises(DataError, match=r"the 2 key frames of b in .*scenes/b.parquet; got 1 others \(first: a0\)"):
        list(TruthStore("val", folder).known())


def test_a_damaged_shard_is_refused(folder: Path) -> None:
    path = folder / "scenes/b.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"scenes/b.parquet with sha256 .*dvc repro prepare_truths"):
        list(TruthStore("val", folder).known())


def test_truths_with_other_fields_are_to_be_made_again(folder: Path) -> None:
    path = folder / "scenes/a.parquet"
    io.write_parquet(path, table_of([known("a0", "a").truth.agents], plain_truth.Agents))
    io.write_manifest(folder, [*folder.rglob("*.parquet")], {"split": "val", "drawn": False})
    with pytest.raises(DataError, match=r"the fields of Known in .*others \(made by other code\?\).*prepare_truths"):
        list(TruthStore("val", folder).known())


def test_equal_truths_make_equal_bytes(folder: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", [known("b0", "b"), known("b1", "b", steps=2)], [known("a0", "a")])
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
    assert len(paths) == 4
    assert all((folder / path).read_bytes() == (other / path).read_bytes() for path in paths)


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    bare = known("a0", "a")
    bare = Known(replace(bare.truth, drivable=None), None, None)
    (found,) = TruthStore("val", write(tmp_path, [bare])).known()
    assert found.truth.drivable is found.event is found.classes is None
