import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.core import io
from stages.core.errors import DataError
from stages.masks import mask_set
from stages.masks.base import Mask, prefetch

SHARD = "shards/scene-0001-000.tar"
TOKENS = ("aaaa", "bbbb", "cccc")


def mask_of(token: str) -> Mask:
    foreground = np.random.default_rng(ord(token[0])).uniform(size=(30, 50)) < 0.4
    return Mask(foreground, ("vehicle", "human"), np.array([[1, 2, 3, 4], [5.5, 6, 7, 8]], np.float32))


def pairs() -> list[tuple[str, Mask]]:
    return [(token, mask_of(token)) for token in TOKENS]


def make_set(folder: Path) -> Path:
    """A published set of one shard of three masks in `folder`/masks."""
    written = mask_set.write_shard(folder / "work" / SHARD, pairs())
    facts = {"sample": "s", "scene": "scene-0001", "camera": "CAM_FRONT", "split": "train", "shard": SHARD}
    mask_set.publish(folder / "work", folder / "masks", [{**row, **facts} for row in written], {"annotator": "by hand"})
    return folder / "masks"


def test_masks_phrases_and_boxes_come_back(tmp_path: Path) -> None:
    folder = make_set(tmp_path)
    masks = mask_set.MaskSet(folder)
    assert {row["token"]: row["split"] for row in masks.rows} == dict.fromkeys(TOKENS, "train")
    assert masks.notes["annotator"] == "by hand"
    index = io.read_parquet(folder / mask_set.INDEX, "make").to_pylist()
    for row, (token, mask) in zip(index, pairs(), strict=True):
        np.testing.assert_array_equal(masks.mask(token), mask.foreground)
        assert masks.mask(token).dtype == np.bool_
        assert (row["phrases"], row["boxes"]) == (list(mask.phrases), mask.boxes_xyxy.tolist())
        assert row["foreground_share"] == pytest.approx(mask.foreground.mean())


def test_the_index_says_where_tar_finds_a_member(tmp_path: Path) -> None:
    found = mask_set.MaskSet(make_set(tmp_path))
    with tarfile.open(tmp_path / "masks" / SHARD) as tar:
        names = [name for token in TOKENS for name in (f"{token}.mask.png", f"{token}.json")]
        assert tar.getnames() == names
        for row in found.rows:
            member = tar.getmember(f"{row['token']}.mask.png")
            assert (member.offset_data, member.size) == (row["offset"], row["size"])
            assert (member.mtime, member.uid, member.uname) == (0, 0, "")
        described = json.loads(tar.extractfile("aaaa.json").read())  # type: ignore[union-attr]
    assert described == {"phrases": ["vehicle", "human"], "boxes": [[1, 2, 3, 4], [5.5, 6, 7, 8]]}


def test_a_flipped_bit_is_found_and_named(tmp_path: Path) -> None:
    folder = make_set(tmp_path)
    found = mask_set.MaskSet(folder)
    data = bytearray((folder / SHARD).read_bytes())
    data[found.row("bbbb")["offset"] + 30] ^= 4
    (folder / SHARD).write_bytes(data)
    np.testing.assert_array_equal(mask_set.MaskSet(folder).mask("aaaa"), mask_of("aaaa").foreground)
    with pytest.raises(DataError, match=rf"mask bbbb in .*{SHARD} .*other bytes .*dvc repro generate_masks"):
        mask_set.MaskSet(folder).mask("bbbb")
    with pytest.raises(DataError, match="a mask of image dddd, got none among the 3 .*dvc repro generate_masks"):
        mask_set.MaskSet(folder).mask("dddd")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    folder = make_set(tmp_path)
    (folder / io.MANIFEST).unlink()
    with pytest.raises(DataError, match="a folder without its manifest .*dvc repro generate_masks"):
        mask_set.MaskSet(folder)


def test_a_shard_has_the_same_bytes_however_many_threads_make_its_pictures(tmp_path: Path) -> None:
    many = [(f"{i:04d}", mask_of(chr(97 + i % 26))) for i in range(50)]
    written = [mask_set.write_shard(tmp_path / str(threads), many, threads) for threads in (1, 4)]
    assert written[0] == written[1]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "4").read_bytes()


def set_of_classes(folder: Path, classes: NDArray[np.uint8], layers: NDArray[np.uint8] | None) -> mask_set.MaskSet:
    mask = Mask(classes > 0, (), np.zeros((0, 4), np.float32), classes, layers)
    rows = mask_set.write_shard(folder / "work/all.tar", [("aaaa", mask)])
    mask_set.publish(folder / "work", folder / "masks", [rows[0] | {"shard": "all.tar"}], {})
    return mask_set.MaskSet(folder / "masks")


def test_every_set_of_classes_with_any_of_them_in_sight_comes_back(tmp_path: Path) -> None:
    pairs = [(0, 0), *((seen + 1, some) for some in range(32) for seen in range(5) if some >> seen & 1)]
    classes, layers = (np.array([values], np.uint8) for values in zip(*pairs, strict=True))
    masks = set_of_classes(tmp_path, classes, layers)
    np.testing.assert_array_equal(masks.classes("aaaa"), classes)
    np.testing.assert_array_equal(masks.layers("aaaa"), layers)
    np.testing.assert_array_equal(masks.mask("aaaa"), classes > 0)


def test_prefetched_results_come_in_order_and_an_error_where_its_result_would() -> None:
    drawn: list[int] = []
    items = ((drawn.append(item), item)[1] for item in (1, 2, 0, 3, 4))
    results = prefetch(lambda item: 6 // item, items, threads=2, waiting=2)
    assert next(results) == 6
    assert drawn == [1, 2, 0]
    assert next(results) == 3
    with pytest.raises(ZeroDivisionError):
        next(results)
