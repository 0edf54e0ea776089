from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from one_frame import make_frame
from PIL import Image

from stages.core.errors import DataError
from stages.vla.controls import blackened, partners, with_images_of


@pytest.mark.parametrize("counts", [(3, 3), (5, 1), (1, 1, 1), (2, 4, 3)])
def test_the_other_image_is_never_of_the_same_scene(counts: tuple[int, ...]) -> None:
    scene_of = {f"{scene}-{i}": str(scene) for scene, count in enumerate(counts) for i in range(count)}
    paired = partners(scene_of)
    assert list(paired) == list(scene_of)
    assert all(scene_of[token] != scene_of[other] for token, other in paired.items())


def test_the_other_image_is_half_the_split_further_on_or_the_first_of_another_scene_from_there() -> None:
    assert partners({"a": "1", "b": "1", "c": "2", "d": "2"}) == {"a": "c", "b": "d", "c": "a", "d": "b"}
    assert partners({"a": "1", "b": "1", "c": "1", "d": "2"}) == {"a": "d", "b": "d", "c": "d", "d": "b"}


def test_a_split_of_one_scene_has_no_other_image() -> None:
    with pytest.raises(DataError, match="at least two scenes"):
        partners({"a": "scene", "b": "scene"})


def test_speed_and_future_stay_where_the_images_change() -> None:
    frame = make_frame(Path("here.png"))
    shown = with_images_of(frame, replace(make_frame(Path("there.png"), "sample-1"), speed_mps=9.0))
    assert (shown.token, shown.speed_mps) == ("sample-0", 5.0)
    assert shown.cameras["CAM_FRONT"].path == Path("there.png")


def test_a_black_image_is_black_and_of_the_same_size(tmp_path: Path) -> None:
    shown = blackened(make_frame(Path("here.png")), tmp_path)
    image = np.array(Image.open(shown.cameras["CAM_FRONT"].path))
    assert image.shape == (56, 84, 3)
    assert image.max() == 0
    assert shown.cameras["CAM_FRONT"].token == "image-0"
