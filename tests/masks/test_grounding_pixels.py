"""Images as they are read."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.core.errors import DataError
from stages.masks.grounding.pixels import read_batch
from stages.scenes.base import Camera


def camera(path: Path) -> Camera:
    return Camera("CAM_FRONT", f"token-{path.stem}", path, (64, 36), np.eye(3), np.eye(4))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_whole_image_comes_as_red_green_blue(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8))
    (image,) = read_batch([camera(path)])
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), cv2.imread(str(path))[..., ::-1])


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match="a.jpg"):
        read_batch([camera(tmp_path / "a.jpg")])
