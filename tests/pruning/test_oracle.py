"""The ruler's two ends on class maps that one can check by eye."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.backbone.tokens import image_positions
from stages.core.errors import DataError
from stages.pruning import base
from stages.pruning.base import TokenView
from stages.pruning.oracle import need_ranks


def cells(*rows: list[int]) -> np.ndarray:
    """A class map of one colour per token, 10 x 10 pixels each."""
    return np.kron(np.array(rows, np.uint8), np.ones((10, 10), np.uint8))


def order(classes: np.ndarray, grid: tuple[int, int]) -> list[int]:
    return need_ranks(torch.from_numpy(classes), grid).argsort(descending=True).tolist()


def view(grid: tuple[int, int], sources: tuple[str, ...]) -> TokenView:
    N = grid[0] * grid[1]
    return TokenView(
        torch.zeros(len(sources), N, 4), (grid,), image_positions(grid, len(sources)), sources, "e", sources
    )


def ruler(name: str, root: Path, fit: str = "stretch") -> base.Pruner:
    return base.load(name, {"oracle_root": str(root), "fit": fit})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sky and a car above, road and grass below."""
    (tmp_path / "scene-7").mkdir()
    Image.fromarray(cells([0, 2], [1, 0])).save(tmp_path / "scene-7" / "front.png")
    return tmp_path


def test_objects_are_ranked_by_their_share_and_come_before_all_road() -> None:
    classes = cells([0, 0], [1, 1])
    classes[:10, 2:10] = 3  # 80 % pedestrian
    classes[:2, 10:] = 4  # 20 % light
    classes[10:11, :10] = 5  # 10 % barrier on the lower left, the rest of it road
    assert order(classes, (2, 2)) == [0, 1, 2, 3]


def test_the_edge_of_the_road_counts_as_road_and_a_trace_of_it_does_not() -> None:
    classes = cells([0, 0], [0, 0])
    classes[10:12, 10:] = 1  # 20 % road on the lower right
    classes[10:11, :4] = 1  # 4 % on the lower left
    assert order(classes, (2, 2)) == [3, 0, 1, 2]


def test_of_equal_road_the_middle_columns_come_first_and_their_upper_cells() -> None:
    assert order(cells([1, 1, 1, 1], [1, 1, 1, 1]), (2, 4)) == [1, 2, 5, 6, 0, 3, 4, 7]


def test_the_inverse_is_the_reverse(root: Path) -> None:
    best, worst = (ruler(name, root).score(view((2, 2), ("front",)))[0] for name in ("oracle", "inverse"))
    assert best.argsort().tolist() == worst.argsort(descending=True).tolist()
    assert ruler("oracle", root).select(view((2, 2), ("front",)), 2).indices.tolist() == [[1, 2]]
    assert ruler("inverse", root).select(view((2, 2), ("front",)), 2).indices.tolist() == [[0, 3]]


def test_a_padded_image_has_its_truth_in_the_upper_left(root: Path) -> None:
    kept = ruler("oracle", root, "pad").select(view((2, 4), ("front",)), 2)  # 20 x 20 pixels in a frame of 2 : 1
    assert kept.indices.tolist() == [[1, 4]]


def test_a_truth_that_is_missing_damaged_or_not_asked_for_is_told(root: Path) -> None:
    with pytest.raises(DataError, match=r"back\.png.*0 such files.*dvc repro make"):
        ruler("oracle", root).select(view((2, 2), ("back",)), 2)
    with pytest.raises(DataError, match="sample_data tokens of 1 images"):
        ruler("inverse", root).select(replace(view((2, 2), ("front",)), sources=()), 2)
    (root / "scene-7" / "front.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot identify"):
        ruler("oracle", root).select(view((2, 2), ("front",)), 2)
