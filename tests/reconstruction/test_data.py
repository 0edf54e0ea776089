from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import make_tiny_model

from stages.backbone.qwen import VisionTower
from stages.errors import DataError, ParamsError
from stages.reconstruction import data
from stages.reconstruction.data import Picture, View, draw, first_tokens, held_out, open_samples, pooled, read_pair

VIEW = View(size_px=(84, 56), fit="stretch", pixels_per_token=4)


@pytest.fixture
def tower() -> VisionTower:
    return VisionTower(make_tiny_model())


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    """Five random images of two scenes at twice the size of the view."""
    random = np.random.default_rng(0)
    found = [Picture(f"token{i}", f"scene-{i % 2}", tmp_path / f"{i}.png") for i in range(5)]
    for picture in found:
        cv2.imwrite(str(picture.path), random.integers(0, 255, (112, 168, 3), np.uint8))
    return found


def left_half(token: str) -> np.ndarray:
    """A mask whose left half is foreground."""
    mask = np.zeros((112, 168), bool)
    mask[:, :84] = True
    return mask


def test_both_targets_add_up_to_the_image_and_share_no_pixel(tower: VisionTower, pictures: list[Picture]) -> None:
    samples = open_samples(pictures, left_half, tower, VIEW, memory_gb=1.0)
    (batch,) = samples.batches([[3]])
    image, _ = read_pair(pictures[3].path, left_half(""), VIEW)
    whole = pooled(torch.from_numpy(image).permute(2, 0, 1)[None], (2, 3), 4)
    assert batch.fore.shape == (1, 3, 8, 12)
    assert (batch.fore.int() + batch.back.int() - whole.int()).abs().max() <= 1
    assert int(batch.fore[..., 6:].max()) == int(batch.back[..., :6].max()) == 0
    assert batch.share.tolist() == [[1.0, 0.5, 0.0] * 2]


def test_pooling_takes_the_mean_of_each_square() -> None:
    image = torch.arange(3 * 56 * 28).remainder(200).view(1, 3, 56, 28).to(torch.uint8)
    small = pooled(image, (2, 1), 2)
    assert small.shape == (1, 3, 4, 2)
    assert int(small[0, 1, 3, 0]) == round(float(image[0, 1, 42:, :14].float().mean()))


def test_kept_in_memory_or_encoded_at_each_draw_is_the_same(tower: VisionTower, pictures: list[Picture]) -> None:
    kept = open_samples(pictures, left_half, tower, VIEW, memory_gb=1.0)
    assert tower.encoded_images == 5
    streamed = open_samples(pictures, left_half, tower, VIEW, memory_gb=0.0)
    groups = [[4, 0], [2, 2]]
    for one, other in zip(kept.batches(groups), streamed.batches(groups), strict=True):
        torch.testing.assert_close(one.tokens, other.tokens, atol=1e-5, rtol=1e-5)
        assert torch.equal(one.fore, other.fore)
    assert tower.encoded_images == 9  # the four drawn, and none again from memory


def test_tokens_carry_no_graph_and_may_be_trained_on(tower: VisionTower, pictures: list[Picture]) -> None:
    (batch,) = open_samples(pictures, left_half, tower, VIEW, memory_gb=1.0).batches([[0]])
    assert not batch.tokens.requires_grad
    assert not batch.tokens.is_inference()


def test_a_missing_image_is_named(tower: VisionTower, pictures: list[Picture]) -> None:
    pictures[2].path.unlink()
    with pytest.raises(DataError, match=r"2\.png"):
        open_samples(pictures, left_half, tower, VIEW, memory_gb=1.0)


def test_a_padded_margin_is_background(pictures: list[Picture]) -> None:
    everything = np.ones((112, 168), bool)
    _, mask = read_pair(pictures[0].path, everything, View((84, 84), "pad", 4))
    assert mask[:56].all()
    assert not mask[56:].any()


def test_held_out_scenes_are_whole_and_never_trained_on(pictures: list[Picture]) -> None:
    train, kept = held_out(pictures, 1, seed=5)
    assert {p.scene for p in train}.isdisjoint({p.scene for p in kept})
    assert sorted([*train, *kept], key=lambda p: p.token) == pictures
    assert held_out(pictures, 1, seed=5) == (train, kept)
    with pytest.raises(ParamsError, match="fewer held-out scenes than the 2"):
        held_out(pictures, 2, seed=5)


def test_every_epoch_draws_every_image_once_in_an_order_of_its_own() -> None:
    drawn = [index for step in range(6) for index in draw(12, 7, step, 4)]
    first, second = drawn[:12], drawn[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_a_step_across_two_epochs_draws_the_end_of_one_and_the_start_of_the_next() -> None:
    drawn = [index for step in range(3) for index in draw(6, 7, step, 4)]
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == list(range(6))
    assert draw(6, 7, 1, 4) == drawn[4:8]
    assert draw(6, 8, 1, 4) != drawn[4:8]


def test_statistics_come_from_images_all_over_the_set(tower: VisionTower, pictures: list[Picture]) -> None:
    samples = open_samples(pictures, left_half, tower, VIEW, memory_gb=1.0)
    (batch,) = samples.batches([[0, 2, 4]])
    assert torch.equal(first_tokens(samples, 3), batch.tokens.flatten(0, 1))
    assert first_tokens(samples).shape == (5 * 6, tower.width)


def test_the_images_of_a_split_are_all_cameras_of_its_key_frames() -> None:
    class Frames:
        def tokens(self, split: str) -> list[str]:
            return [f"{split}-a", f"{split}-b"]

        def frame(self, token: str) -> object:
            camera = type("Camera", (), {"token": f"{token}-front", "path": Path("x.jpg")})
            return type("Frame", (), {"scene": "scene-1", "cameras": {"CAM_FRONT": camera}})

    assert data.pictures_of(Frames(), "train") == [
        Picture("train-a-front", "scene-1", Path("x.jpg")),
        Picture("train-b-front", "scene-1", Path("x.jpg")),
    ]
