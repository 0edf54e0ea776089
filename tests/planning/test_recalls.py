from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from stages.backbone.tokens import recall
from stages.planning.intervals import auc
from stages.planning.samples import PlannedSample
from stages.planning.scoring import AUCS, mean_shares, sides, token_aucs, token_recalls

CLASSES = np.zeros((20, 20), np.uint8)  # a grid of 2 x 2 tokens of 10 x 10 pixels
CLASSES[10:, :10] = 1  # the lower left is road
CLASSES[10:16, 10:] = 1  # the lower right is road by 60 %
CLASSES[:2, :10] = 2  # 20 % of the upper left is a vehicle
CLASSES[:1, 10:] = 5  # 10 % of the upper right is a barrier
SIDES = sides(CLASSES, (2, 2))


def planned(kept: list[int]) -> PlannedSample:
    return PlannedSample("t", np.zeros((6, 2)), True, len(kept), 4, (2, 2), np.array(kept, np.int64))


def test_objects_need_15_percent_of_a_token_and_foreground_half_of_it() -> None:
    foreground, objects = SIDES
    assert objects.tolist() == [True, False, False, False]
    assert foreground.tolist() == [True, False, True, True]


def test_recall_is_the_share_of_wanted_tokens_that_are_kept() -> None:
    kept = torch.tensor([[True, True, False, False], [False, False, False, True]])
    wanted = torch.tensor([[True, False, True, False], [False, False, False, False]])
    assert recall(kept, wanted).nan_to_num(-1).tolist() == [0.5, -1]


def test_recalls_of_a_plan() -> None:
    assert token_recalls(planned([1, 2]), SIDES) == {
        "foreground_recall": pytest.approx(1 / 3),
        "object_recall": 0.0,
    }
    assert token_recalls(planned([0, 1, 2, 3]), SIDES) == {"foreground_recall": 1.0, "object_recall": 1.0}


def test_what_is_not_there_has_no_recall() -> None:
    assert token_recalls(planned([0]), sides(np.minimum(CLASSES, 1), (2, 2)))["object_recall"] is None
    assert token_recalls(planned([0]), None) == {"foreground_recall": None, "object_recall": None}


@pytest.mark.parametrize(
    ("scores", "chance"),
    [
        ([4, 1, 3, 2], 1.0),  # the three foreground tokens first
        ([1, 4, 3, 2], 0.0),
        ([4, 2.5, 3, 2], 2 / 3),
        ([1, 1, 1, 1], 0.5),  # ties are half won
        ([2, 2, 3, 1], 0.5),  # one half won, one won, one lost
    ],
)
def test_the_auc_is_the_share_of_pairs_that_are_in_order(scores: list[float], chance: float) -> None:
    assert auc(np.array(scores, float), np.array([True, False, True, True])) == pytest.approx(chance)


def test_the_auc_is_mann_and_whitneys() -> None:
    draw = np.random.default_rng(0)
    scores, wanted = draw.integers(0, 20, 300).astype(np.float32), draw.random(300) < 0.3
    u = mannwhitneyu(scores[wanted], scores[~wanted]).statistic
    assert auc(scores, wanted) == pytest.approx(u / (wanted.sum() * (~wanted).sum()))


def test_aucs_of_a_plan_are_of_foreground_and_of_objects_over_all_else() -> None:
    ranked = replace(planned([0, 1]), scores=np.array([2, 1, 4, 3], np.float32))  # object, background, road, road
    assert token_aucs(ranked, SIDES) == {"foreground_auc": 1.0, "object_auc": pytest.approx(1 / 3)}


def test_a_plan_without_scores_or_truth_and_an_image_of_road_alone_have_no_auc() -> None:
    ranked = replace(planned([0, 1]), scores=np.ones(4, np.float32))
    assert token_aucs(planned([0, 1]), SIDES) == token_aucs(ranked, None) == dict.fromkeys(AUCS)
    assert token_aucs(ranked, sides(np.ones((20, 20), np.uint8), (2, 2))) == dict.fromkeys(AUCS)


def test_the_mean_leaves_out_images_without_objects() -> None:
    recalls = {"a": 1.0, "b": None, "c": 0.5}
    rows = [{"scene": scene, "object_recall": value} for scene, value in recalls.items()]
    row = mean_shares(rows, 500, 0)
    assert (row["object_recall"], row["object_recall_n"]) == (0.75, 2)
    assert (row["object_recall_low"], row["object_recall_high"]) == (0.5, 1.0)  # two scenes: both, or one twice
    assert row["foreground_auc"] is row["foreground_auc_low"] is None
    assert row["foreground_auc_n"] == 0
