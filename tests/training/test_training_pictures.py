from pathlib import Path

import pytest

from stages.core.errors import ParamsError
from stages.training.data import Picture, check_splits, held_out, pictures_of

PICTURES = [Picture(f"token{i}", f"scene-{i % 2}", Path(f"{i}.jpg")) for i in range(5)]


def test_held_out_scenes_are_whole_and_never_trained_on() -> None:
    train, kept = held_out(PICTURES, 1, seed=5)
    assert {p.scene for p in train}.isdisjoint({p.scene for p in kept})
    assert sorted([*train, *kept], key=lambda p: p.token) == PICTURES
    assert held_out(PICTURES, 1, seed=5) == (train, kept)
    with pytest.raises(ParamsError, match="fewer held-out scenes than the 2"):
        held_out(PICTURES, 2, seed=5)


def test_the_images_of_a_split_are_all_cameras_of_its_key_frames() -> None:
    class Frames:
        def tokens(self, split: str) -> list[str]:
            return [f"{split}-a", f"{split}-b"]

        def frame(self, token: str) -> object:
            camera = type("Camera", (), {"token": f"{token}-front", "path": Path("x.jpg")})
            return type("Frame", (), {"scene": "scene-1", "cameras": {"CAM_FRONT": camera}})

    assert pictures_of(Frames(), "train") == [
        Picture("train-a-front", "scene-1", Path("x.jpg")),
        Picture("train-b-front", "scene-1", Path("x.jpg")),
    ]


def test_images_of_the_evaluation_split_and_of_other_splits_are_refused() -> None:
    split_of = {picture.token: "train" for picture in PICTURES[1:]}  # the first has no mask: others say so
    check_splits(PICTURES, split_of, "train", "val")
    with pytest.raises(ParamsError, match=r"2 of 5 others \(first: token1 of scene-1, split val\).*other_splits: true"):
        check_splits(PICTURES, split_of | {"token1": "val", "token3": "mini"}, "train", "val")
    with pytest.raises(ParamsError, match="5 of 5 others"):
        check_splits(PICTURES, split_of, "train", "train")
