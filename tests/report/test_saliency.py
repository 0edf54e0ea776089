"""The histogram of training: written by the trainer, read by the report."""

import numpy as np
import torch

from stages.report.figures import svg
from stages.report.saliency import COLUMN, saliency_chart, saliency_pictures, shares
from stages.training.evaluation import SALIENCY, histogram


def test_the_report_reads_the_column_that_training_writes() -> None:
    assert COLUMN == SALIENCY


def test_scores_fall_into_equal_parts_of_their_sigmoid() -> None:
    counts = [int(count) for count in histogram(torch.tensor([[-100.0, 100.0], [0.01, 100.0]])).split()]
    assert len(counts) == 16
    assert (counts[0], counts[8], counts[15], sum(counts)) == (1, 1, 2, 4)


def test_a_column_per_training_step_of_shares() -> None:
    history = [
        {"split": "held_out", "step": 0.0, COLUMN: None},
        {"split": "train", "step": 1.0, COLUMN: "3 1"},
        {"split": "train", "step": 2.0, COLUMN: "0 4"},
    ]
    steps, found = shares(history)
    assert steps == [1, 2]
    np.testing.assert_allclose(found, [[0.75, 0], [0.25, 1]])
    pictures = [saliency_pictures("recon", history)[0].data for _ in range(2)]
    assert pictures[0] == pictures[1]
    assert saliency_chart(history) is not None
    assert svg(saliency_chart(history)).startswith(b"<?xml")


def test_an_older_history_has_no_picture() -> None:
    assert saliency_pictures("recon", [{"split": "train", "step": 1.0}]) == []
