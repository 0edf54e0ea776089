"""Images as they are read: whole, and as large as their record says."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.core.errors import DataError
from stages.masks.grounding.pixels import read_batch
from stages.scenes.base import Camera

SIZE_PX = (64, 36)


def camera(path: Path, size_px: tuple[int, int] = SIZE_PX) -> Camera:
    return Camera("CAM_FRONT", f"token-{path.stem}", path, size_px, np.eye(3), np.eye(4))


def photo(path: Path) -> Path:
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8))
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_whole_image_comes_as_red_green_blue(tmp_path: Path, suffix: str) -> None:
    path = photo(tmp_path / f"a.{suffix}")
    (image,) = read_batch([camera(path)])
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), cv2.imread(str(path))[..., ::-1])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("zeros", [0, 900], ids=["cut off", "never filled"])
def test_an_image_that_ends_too_soon_is_named(tmp_path: Path, suffix: str, zeros: int) -> None:
    path = photo(tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[:-900] + bytes(zeros))
    with pytest.raises(DataError, match=rf"a\.{suffix} .sample_data token-a., got \d+ bytes that"):
        read_batch([camera(path)])


def test_an_image_of_another_size_than_its_record_is_refused_and_not_stretched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image of 128 x 72 in .*a\.jpg .sample_data token-a., got one of 64 x 36"):
        read_batch([camera(photo(tmp_path / "a.jpg"), (128, 72))])


@pytest.mark.parametrize(("held", "came"), [(b"", "0 bytes"), (b"<html>", "6 bytes"), (None, "No such file")])
def test_what_is_no_image_is_named(tmp_path: Path, held: bytes | None, came: str) -> None:
    if held is not None:
        (tmp_path / "a.jpg").write_bytes(held)
    with pytest.raises(DataError, match=rf"sample_data token-a., got {came}"):
        read_batch([camera(tmp_path / "a.jpg")])
