import pytest
from token_views import check_choice, check_cost, make_view

from stages.backbone.tokens import shares
from stages.core.errors import ParamsError
from stages.pruning import divprune
from stages.pruning.base import Cut
from stages.pruning.tfps import Pruner

CAMERAS = ((2, 3), (4, 4), (3, 6))


@pytest.mark.parametrize(
    ("sizes", "K", "wanted"),
    [
        ([10, 10], 10, [5, 5]),
        ([10, 10, 10], 10, [4, 3, 3]),
        ([6, 16, 18], 10, [2, 4, 4]),  # 1.5, 4, 4.5: of equal remainders the earlier
        ([1, 99], 2, [1, 1]),  # .02 and 1.98
        ([1, 1, 98], 3, [1, 1, 1]),
        ([5, 5, 5], 2, [1, 1, 0]),
        ([7], 3, [3]),
        ([4, 6], 10, [4, 6]),
    ],
)
def test_cameras_share_k_in_proportion_to_their_tokens(sizes, K, wanted):
    assert shares(sizes, K) == wanted


def test_no_camera_gets_more_than_it_has_and_together_they_get_k():
    for sizes in ([6, 16, 18], [1, 1, 30], [9] * 6, [1, 2, 3, 4, 100]):
        for K in range(1, sum(sizes) + 1):
            split = shares(sizes, K)
            assert sum(split) == K
            assert all(0 <= share <= size for share, size in zip(split, sizes, strict=True))
            assert min(split) >= 1 or len(sizes) > K


def test_one_camera_is_pruned_as_divprune_prunes():
    view = make_view()
    assert Pruner().select(view, 12).indices.tolist() == divprune.Pruner().select(view, 12).indices.tolist()


def test_each_camera_is_pruned_by_itself():
    view = make_view(grids=CAMERAS)
    kept = Pruner().select(view, 10).indices[0]
    alone = divprune.Pruner().select(view.images()[1], 4).indices[0]
    assert kept[2:6].tolist() == (alone + 6).tolist()


def test_its_choice_holds_to_the_contract():
    assert Pruner(layer=3).cuts(40, 10, 28) == (Cut(3, 10),)
    for K in (1, 2, 10, 40):
        check_choice(Pruner(), K, make_view(grids=CAMERAS))
    check_cost(Pruner(layer=0), 12)
    with pytest.raises(ParamsError, match="pruners.tfps"):
        Pruner(layer=-1)
