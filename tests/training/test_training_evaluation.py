import pytest
import torch
from tiny_pruner import GRID, make_module, make_options, make_samples

from stages.training.evaluation import evaluate, final_figures, foreground_auc, foreground_recall
from stages.training.model import losses


def test_auc_is_the_share_of_rightly_ordered_pairs() -> None:
    foreground = torch.tensor([[True, True, False, False]])
    for scores, wanted in (([4, 3, 2, 1], 1.0), ([1, 2, 3, 4], 0.0), ([4, 1, 3, 2], 0.5), ([5, 5, 5, 1], 0.75)):
        assert foreground_auc(torch.tensor([scores]).float(), foreground).tolist() == [wanted]
    assert foreground_auc(torch.zeros(2, 4), foreground & torch.tensor([[False], [True]])).tolist() == [0.5]


def test_recall_is_the_share_of_foreground_that_survives_the_pruning() -> None:
    foreground = torch.tensor([[True, True, False, False], [False, False, False, False]])
    scores = torch.tensor([[4.0, 1.0, 3.0, 2.0]] * 2)
    assert [float(foreground_recall(scores, foreground, percent)[0]) for percent in (25, 50, 75)] == [0.5, 0.5, 0.5]
    assert float(foreground_recall(scores.flip(1), foreground, 50)[0]) == 0.5
    assert foreground_recall(scores, foreground, 50)[1].isnan()


def test_means_over_images_do_not_depend_on_the_batches() -> None:
    module, samples = make_module(make_options()), make_samples(7)
    whole = evaluate(module, samples, make_options(), 7)
    parts = evaluate(module, samples, make_options(), 3)
    assert parts == pytest.approx(whole, abs=1e-5)


def test_evaluation_measures_what_training_minimises() -> None:
    options = make_options(alpha=0.25)
    module, samples = make_module(options), make_samples(4)
    (batch,) = samples.batches([range(4)])
    rebuilt = module(batch.tokens, GRID)
    total, fore, back = losses(rebuilt, batch, options)
    measured = evaluate(module, samples, options, 4)
    assert measured["loss"] == pytest.approx(float(total.detach()), abs=1e-6)
    assert measured["loss"] == pytest.approx(0.25 * measured["loss_fore"] + 0.75 * measured["loss_back"], abs=1e-6)
    assert measured["keep_share"] == pytest.approx(float(rebuilt.keep.detach().mean()), abs=1e-6)


def test_the_row_prior_knows_nothing_but_rows() -> None:
    samples = make_samples(4)
    samples._all.share.copy_((torch.arange(24) >= 12).float())
    assert evaluate(make_module(make_options()), samples, make_options(), 4)["auc_row_prior"] == 1.0


def test_final_figures_are_the_last_evaluation_and_the_mean_of_the_last_steps() -> None:
    measured = {"loss_fore": 1.0, "loss_back": None, "keep_share": 0.5, "auc": 0.9, "auc_row_prior": 0.8}
    measured |= {"recall_25": 0.9, "recall_50": 0.7, "recall_75": 0.4}
    rows = [{"step": i, "split": "train", "loss": float(i), **measured} for i in range(4)]
    rows += [{"step": i, "split": "held_out", "loss": 10.0 * i, **measured} for i in range(2)]
    figures = final_figures(rows, step=1, last=2)
    assert figures["train"] == {"loss": 2.5, "loss_fore": 1.0, "loss_back": None, "keep_share": 0.5}
    assert figures["held_out"] == {"loss": 10.0, **measured}
