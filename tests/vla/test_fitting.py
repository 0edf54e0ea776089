from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.core.errors import DataError
from stages.scenes.images import read_image
from stages.vla.impromptu import capped_size, fitted_size, read_fitted, whole_tokens

BUDGET = 512 * 512


def test_the_released_budget_leaves_336_tokens_of_a_nuscenes_image() -> None:
    assert capped_size((1600, 900), BUDGET) == (682, 384)
    assert fitted_size((1600, 900), (1596, 1596), "budget", BUDGET) == (672, 392)
    assert fitted_size((1600, 900), (1596, 1596), "stretch", BUDGET) == (1596, 1596)  # 57 x 57 tokens


@pytest.mark.parametrize("size_px", [(1600, 900), (900, 1600), (700, 40), (28, 28), (10, 1999), (42, 70), (1, 1)])
def test_sides_are_those_of_the_official_processor(size_px: tuple[int, int]) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    W, H = size_px
    height, width = smart_resize(max(H, 28), max(W, 28), min_pixels=784, max_pixels=10**9)
    assert whole_tokens((max(W, 28), max(H, 28))) == (width, height)


def test_a_small_image_is_not_made_larger_than_whole_tokens() -> None:
    assert capped_size((300, 200), BUDGET) == (300, 200)
    assert fitted_size((300, 200), (84, 84), "budget", BUDGET) == (308, 196)


def test_a_strip_of_an_image_is_refused() -> None:
    with pytest.raises(DataError, match="at most 200 times"):
        whole_tokens((6000, 28))


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_other_fits_give_the_pixels_that_a_pruner_is_trained_on(fit: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    ours = read_fitted(tmp_path / "a.png", (84, 84), fit, BUDGET)
    assert np.array_equal(ours, read_image(tmp_path / "a.png", (84, 84), fit))


@pytest.mark.parametrize("data", [None, b"", b"no image"])
def test_an_image_that_is_missing_or_does_not_decode_is_refused(data: bytes | None, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"an image in .*a.png"):
        read_fitted(tmp_path / "a.png", (84, 84), "budget", BUDGET)
