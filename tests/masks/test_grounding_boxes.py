import pytest
import torch
from torch import Tensor

from stages.masks.grounding.boxes import Rules, name_boxes, phrase_spans, select, suppress, to_pixels, within_limits

RULES = Rules(0.35, 0.25, 0.8, 4.0, (1.0, 0.5), 100)
# [CLS] road . traffic light . car . [SEP]: separators are 101, 102 and 5
IDS = torch.tensor([101, 7, 5, 8, 9, 5, 10, 5, 102])
SPANS = phrase_spans(IDS, [101, 102, 5])
SIZE_PX = (200, 100)


def scores(**tokens: float) -> Tensor:
    """One query: scores of the words that are named, 0 of the others."""
    row = torch.zeros(1, len(IDS))
    for name, value in tokens.items():
        row[0, {"cls": 0, "road": 1, "traffic": 3, "light": 4, "car": 6}[name]] = value
    return row


def test_a_phrase_is_the_tokens_between_two_separators() -> None:
    assert [row.nonzero().flatten().tolist() for row in SPANS] == [[1], [3, 4], [6]]


def test_a_phrase_that_holds_a_full_stop_reads_as_two() -> None:
    assert len(phrase_spans(torch.tensor([101, 7, 5, 8, 102]), [101, 102, 5])) == 2


def test_the_phrase_with_the_highest_mean_names_a_box_and_its_best_token_scores_it() -> None:
    phrase, score = name_boxes(scores(traffic=0.9, light=0.1, car=0.6), SPANS, 0.25)
    assert phrase.tolist() == [2]  # 0.6 is more than (0.9 + 0.1) / 2
    assert score.tolist() == pytest.approx([0.9])


def test_a_separator_names_nothing() -> None:
    assert name_boxes(scores(cls=1.0, road=0.2), SPANS, 0.25)[1].tolist() == [0.0]


def test_a_phrase_without_a_token_above_the_text_threshold_cannot_name_a_box() -> None:
    tokens = scores(traffic=0.5, light=0.0, car=0.26)
    assert name_boxes(tokens, SPANS, 0.25)[0].tolist() == [2]
    assert name_boxes(tokens, SPANS, 0.3)[0].tolist() == [1]


def test_boxes_are_cut_at_the_edges_of_the_image() -> None:
    corners = to_pixels(torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.0, 0.9, 0.2, 0.4]]), SIZE_PX)
    torch.testing.assert_close(corners, torch.tensor([[50.0, 25, 150, 75], [0, 70, 20, 100]]))


def test_a_box_that_is_too_thin_or_too_large_for_its_class_is_dropped() -> None:
    corners = torch.tensor([[0.0, 0, 200, 100], [0, 0, 200, 100], [0, 0, 3.9, 50], [0, 0, 4, 4]])
    kept = within_limits(corners, torch.tensor([0, 1, 0, 1]), RULES, SIZE_PX)
    assert kept.tolist() == [True, False, False, True]


def test_only_boxes_of_one_class_suppress_each_other_and_the_best_comes_first() -> None:
    corners = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [50, 50, 60, 60]])
    kept = suppress(corners, torch.tensor([0.5, 0.6, 0.4, 0.9]), torch.tensor([0, 0, 1, 0]), 0.8)
    assert kept.tolist() == [3, 1, 2]  # 90 / 100 of box 0 is box 1; box 2 is of another class


def test_an_image_keeps_the_best_boxes_above_the_threshold() -> None:
    tokens = torch.cat([scores(road=0.3), scores(car=0.5), scores(traffic=0.9, light=0.9), scores(car=0.7)])
    boxes = torch.tensor([[0.5, 0.5, 1, 1], [0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]])
    classes = torch.tensor([0, 1, 1])
    found = select(tokens, boxes, SPANS, classes, RULES, SIZE_PX)
    assert found.phrases.tolist() == [1, 2, 2]
    assert found.classes.tolist() == [1, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
    one = select(tokens, boxes, SPANS, classes, Rules(0.35, 0.25, 0.8, 4.0, (1.0, 0.5), 1), SIZE_PX)
    torch.testing.assert_close(one.boxes_xyxy, torch.tensor([[90.0, 45, 110, 55]]))


def test_an_image_in_which_nothing_is_found_has_no_boxes() -> None:
    found = select(scores(), torch.full((1, 4), 0.5), SPANS, torch.tensor([0, 1, 1]), RULES, SIZE_PX)
    assert found.boxes_xyxy.shape == (0, 4)
