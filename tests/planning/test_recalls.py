import numpy as np
import pytest
import torch

from stages.planning.plans import PlannedSample
from stages.planning.recalls import mean_recalls, token_recalls
from stages.tokens import class_tokens, recall

CLASSES = np.zeros((20, 20), np.uint8)  # a grid of 2 x 2 tokens of 10 x 10 pixels
CLASSES[10:, :10] = 1  # the lower left is road
CLASSES[10:16, 10:] = 1  # the lower right is road by 60 %
CLASSES[:2, :10] = 2  # 20 % of the upper left is a vehicle
CLASSES[:1, 10:] = 5  # 10 % of the upper right is a barrier


def planned(kept: list[int]) -> PlannedSample:
    return PlannedSample("t", np.zeros((6, 2)), True, np.array(kept, np.int64), len(kept), 4, (2, 2))


def test_objects_need_15_percent_of_a_token_and_foreground_half_of_it() -> None:
    foreground, objects = class_tokens(torch.from_numpy(CLASSES), (2, 2))
    assert objects.tolist() == [[True, False, False, False]]
    assert foreground.tolist() == [[True, False, True, True]]


def test_recall_is_the_share_of_wanted_tokens_that_are_kept() -> None:
    kept = torch.tensor([[True, True, False, False], [False, False, False, True]])
    wanted = torch.tensor([[True, False, True, False], [False, False, False, False]])
    assert recall(kept, wanted).nan_to_num(-1).tolist() == [0.5, -1]


def test_recalls_of_a_plan() -> None:
    assert token_recalls(planned([1, 2]), CLASSES) == {
        "foreground_recall": pytest.approx(1 / 3),
        "object_recall": 0.0,
    }
    assert token_recalls(planned([0, 1, 2, 3]), CLASSES) == {"foreground_recall": 1.0, "object_recall": 1.0}


def test_what_is_not_there_has_no_recall() -> None:
    assert token_recalls(planned([0]), np.minimum(CLASSES, 1))["object_recall"] is None
    assert token_recalls(planned([0]), None) == {"foreground_recall": None, "object_recall": None}


def test_the_mean_leaves_out_images_without_objects() -> None:
    rows = [{"object_recall": 1.0}, {"object_recall": None}, {"object_recall": 0.5}]
    assert mean_recalls(rows) == {"foreground_recall": None, "object_recall": 0.75}
