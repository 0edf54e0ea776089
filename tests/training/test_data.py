from pathlib import Path

import pytest
import torch

from stages.core.errors import DataError, ParamsError
from stages.training.data import (
    Batch,
    EncodedSamples,
    Picture,
    check_splits,
    draw,
    first_tokens,
    held_out,
    pooled,
)


def samples_of(count: int, names: tuple[str, ...] = ()) -> EncodedSamples:
    """Images of 2 tokens of width 3; every number of image i is i."""
    rows = torch.arange(count)
    tokens, share = rows.float().view(-1, 1, 1).expand(-1, 2, 3), rows.float().view(-1, 1).expand(-1, 2)
    pixels = rows.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 1, 2)
    return EncodedSamples(Batch(tokens, pixels, pixels, share), (1, 2), names)


def test_pooling_takes_the_mean_of_each_square() -> None:
    image = torch.arange(3 * 56 * 28).remainder(200).view(1, 3, 56, 28).to(torch.uint8)
    small = pooled(image, (2, 1), 2)
    assert small.shape == (1, 3, 4, 2)
    assert int(small[0, 1, 3, 0]) == round(float(image[0, 1, 42:, :14].float().mean()))


def test_images_in_memory_come_in_the_order_that_is_asked() -> None:
    one, two = samples_of(5).batches([[4, 0], [2, 2, 3]])
    assert one.tokens[:, 0, 0].tolist() == one.fore[:, 0, 0, 0].tolist() == [4, 0]
    assert two.share[:, 1].tolist() == two.back[:, 2, 0, 1].tolist() == [2, 2, 3]


def test_every_epoch_draws_every_image_once_in_an_order_of_its_own_also_across_steps() -> None:
    drawn = [index for step in range(3) for index in draw(6, 7, step, 4)]
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == list(range(6))
    assert drawn[:6] != drawn[6:]
    assert draw(6, 7, 1, 4) == drawn[4:8]
    assert draw(6, 8, 1, 4) != drawn[4:8]
    small = draw(3, 7, 0, 9)  # a batch larger than the set
    assert sorted(small[:3]) == sorted(small[3:6]) == sorted(small[6:]) == [0, 1, 2]


def test_statistics_come_from_images_all_over_the_set() -> None:
    assert first_tokens(samples_of(5), 3)[:, 0].tolist() == [0, 0, 2, 2, 4, 4]
    assert first_tokens(samples_of(70)).shape == (140, 3)


def test_an_image_without_finite_tokens_is_named_before_it_spoils_the_statistics_of_all() -> None:
    (batch,) = samples_of(5).batches([range(5)])
    batch.tokens[3, 1] = torch.nan
    with pytest.raises(DataError, match="finite visual tokens.*, got .* for 1 of 5: image 3"):
        first_tokens(EncodedSamples(batch, (1, 2)))


PICTURES = [Picture(f"token{i}", f"scene-{i % 2}", Path(f"{i}.jpg")) for i in range(5)]


def test_held_out_scenes_are_whole_and_never_trained_on() -> None:
    train, kept = held_out(PICTURES, 1, seed=5)
    assert {p.scene for p in train}.isdisjoint({p.scene for p in kept})
    assert sorted([*train, *kept], key=lambda p: p.token) == PICTURES
    assert held_out(PICTURES, 1, seed=5) == (train, kept)
    with pytest.raises(ParamsError, match="fewer held-out scenes than the 2"):
        held_out(PICTURES, 2, seed=5)


def test_images_of_the_evaluation_split_and_of_other_splits_are_refused() -> None:
    split_of = {picture.token: "train" for picture in PICTURES[1:]}  # the first has no mask: others say so
    check_splits(PICTURES, split_of, "train", "val")
    with pytest.raises(ParamsError, match=r"2 of 5 others \(first: token1 of scene-1, split val\).*other_splits: true"):
        check_splits(PICTURES, split_of | {"token1": "val", "token3": "mini"}, "train", "val")
    with pytest.raises(ParamsError, match="5 of 5 others"):
        check_splits(PICTURES, split_of, "train", "train")
