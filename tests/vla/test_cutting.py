"""Sequences that get shorter, on numbers that one can follow by eye."""

import torch
from every_pruner import make_view

from stages.pruning.base import Kept
from stages.pruning.view import TokenView
from stages.vla.cutting import Group, Sequences, shortened

# text text IMG IMG IMG text IMG IMG text text
VISUAL = torch.tensor([[2, 3, 4, 6, 7]])


def make_sequences() -> tuple[Group, Sequences]:
    hidden = torch.arange(10.0).view(1, 10, 1)
    positions = torch.arange(10).expand(3, 1, 10)
    view = TokenView(hidden[:, VISUAL[0]], ((1, 3), (1, 2)), positions[:, :, VISUAL[0]], ("",), "")
    group = Group(slice(None), view, VISUAL, 2, torch.arange(5)[None])
    return group, Sequences(hidden, positions, torch.ones(1, 10, dtype=torch.bool))


def test_text_between_images_stays_in_its_place() -> None:
    group, whole = make_sequences()
    group, after = shortened(group, whole, Kept(torch.tensor([[1, 3, 4]])))
    assert after.hidden[0, :, 0].tolist() == [0, 1, 3, 5, 6, 7, 8, 9]
    assert after.positions[0, 0].tolist() == [0, 1, 3, 5, 6, 7, 8, 9]
    assert group.visual[0].tolist() == [2, 4, 5]
    assert group.origin[0].tolist() == [1, 3, 4]


def test_merged_tokens_follow_the_last_image_with_their_own_positions() -> None:
    group, whole = make_sequences()
    kept = Kept(torch.tensor([[0]]), torch.tensor([[[70.0], [80.0]]]), torch.tensor([[[6, 7]]] * 3))
    group, after = shortened(group, whole, kept)
    assert after.hidden[0, :, 0].tolist() == [0, 1, 2, 5, 70, 80, 8, 9]
    assert after.positions[1, 0].tolist() == [0, 1, 2, 5, 6, 7, 8, 9]
    assert group.visual[0].tolist() == [2, 4, 5]
    assert group.origin[0].tolist() == [0, -1, -1]


def test_a_second_cut_counts_from_what_the_first_has_left() -> None:
    group, whole = make_sequences()
    group, after = shortened(group, whole, Kept(torch.tensor([[1, 3, 4]])))
    group, after = shortened(group, after, Kept(torch.tensor([[0, 2]])))
    assert after.hidden[0, :, 0].tolist() == [0, 1, 3, 5, 7, 8, 9]
    assert group.origin[0].tolist() == [1, 4]


def test_the_views_of_the_images_hold_what_the_whole_holds() -> None:
    view = make_view(2, ((2, 3), (1, 2)))
    first, second = view.images()
    assert first.grid == (2, 3)
    assert torch.equal(torch.cat([first.tokens, second.tokens], dim=1), view.tokens)
    assert first.sources == ("front0", "front2")
    assert second.keys == ("image0/1", "image1/1")
    assert torch.equal(second.attention(2), view.attention(2)[..., 6:])
