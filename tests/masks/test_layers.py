"""Where classes overlap: the class in sight and the hidden ones share the bits of one pixel."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.masks import shards, writing
from stages.masks.base import CLASSES, Mask

ROAD, VEHICLE, HUMAN, SIGN, BARRIER = (1 << i for i in range(5))
CLASSES_SEEN = np.array([[0, 1, 2, 5]], np.uint8)  # nothing, road, vehicle, barrier
LAYERS = np.array([[0, ROAD, ROAD | VEHICLE, 31]], np.uint8)


def kept(folder: Path, classes: NDArray[np.uint8], layers: NDArray[np.uint8] | None) -> shards.MaskSet:
    mask = Mask(classes > 0, (), np.zeros((0, 4), np.float32), classes, layers)
    rows = writing.write_shard(folder / "work/all.tar", [("aaaa", mask)]).rows
    facts = {"sample": "s", "scene": "s", "camera": "CAM_FRONT", "split": "train", "shard": "all.tar"}
    shards.publish(folder / "work", folder / "masks", [rows[0] | facts], {})
    return shards.MaskSet(folder / "masks")


def test_classes_in_sight_and_all_layers_come_back(tmp_path: Path) -> None:
    masks = kept(tmp_path, CLASSES_SEEN, LAYERS)
    np.testing.assert_array_equal(masks.classes("aaaa"), CLASSES_SEEN)
    np.testing.assert_array_equal(masks.layers("aaaa"), LAYERS)
    np.testing.assert_array_equal(masks.mask("aaaa"), CLASSES_SEEN > 0)


def test_every_set_of_classes_with_any_of_them_in_sight_comes_back(tmp_path: Path) -> None:
    pairs = [(0, 0), *((seen + 1, some) for some in range(32) for seen in range(5) if some >> seen & 1)]
    classes, layers = (np.array([values], np.uint8) for values in zip(*pairs, strict=True))
    masks = kept(tmp_path, classes, layers)
    np.testing.assert_array_equal(masks.classes("aaaa"), classes)
    np.testing.assert_array_equal(masks.layers("aaaa"), layers)


def test_where_nothing_is_hidden_the_bytes_are_those_of_the_class_map_alone(tmp_path: Path) -> None:
    classes = np.arange(6, dtype=np.uint8)[None].repeat(4, 0)
    plain = writing.png_of_classes(classes)
    assert plain == writing.png_of_classes(classes, shards.only(classes))
    # as they were before layers were kept
    assert hashlib.sha256(plain).hexdigest() == "a00ba40ce9560c0f5ec488aafebd046285b0641530e3843545588eb99dc00104"
    np.testing.assert_array_equal(kept(tmp_path, classes, None).layers("aaaa"), shards.only(classes))
    assert shards.only(np.arange(6, dtype=np.uint8)).tolist() == [0, ROAD, VEHICLE, HUMAN, SIGN, BARRIER]
    assert len(CLASSES) == 5
