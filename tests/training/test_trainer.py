import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_pruner import GRID, make_module, make_options, make_samples, train

from stages.core.errors import ParamsError, TryAgainError
from stages.pruning import checkpoint
from stages.training import resume
from stages.training import trainer as training
from stages.training.data import Batch, EncodedSamples
from stages.training.engine import ClippedAdamW
from stages.training.evaluation import Row
from stages.training.trainer import Trainer, rate_share

SCRIPT = Path(__file__).parent / "train_tiny.py"
pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def ctrl_c(values: dict[str, float], step: int) -> None:
    if step == 4:
        raise KeyboardInterrupt


def sigterm(values: dict[str, float], step: int) -> None:
    if step == 3 and "loss" in values:
        os.kill(os.getpid(), signal.SIGTERM)


def losses_of(history: list[Row]) -> torch.Tensor:
    return torch.tensor([[row[name] for name in ("loss", "loss_fore", "loss_back", "keep_share")] for row in history])


@pytest.mark.parametrize("stage", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_every_zero_stage_takes_the_same_steps(tmp_path: Path, stage: int) -> None:
    plain, plain_history = train(tmp_path / "0", make_options(steps=3))
    weights, history = train(tmp_path / "other", make_options(zero_stage=stage, steps=3))
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, plain[name], atol=1e-6, rtol=1e-5)
    norms, wanted = (
        torch.tensor([[row["pruner_grad_norm"], row["decoder_grad_norm"]] for row in rows if row["split"] == "train"])
        for rows in (history, plain_history)
    )
    torch.testing.assert_close(norms, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.process
@pytest.mark.parametrize("stages", [(1,), pytest.param((0, 2), marks=pytest.mark.slow)])
def test_two_ranks_take_the_steps_of_one_and_each_goes_on_where_the_other_stopped(
    tmp_path: Path, stages: tuple[int, ...]
) -> None:
    runs = [{"zero_stage": stage, "steps": 6, "checkpoint_every_s": 1e-9, "checkpoints_kept": 30} for stage in stages]
    folders = [tmp_path / f"one{place}" for place in range(len(runs))]
    single = [losses_of(train(folder, make_options(**run))[1]) for folder, run in zip(folders, runs, strict=True)]
    for folder in folders:
        for step in range(4, 7):
            shutil.rmtree(folder / resume.tag_of(step))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(SCRIPT), str(tmp_path / "one"), *map(json.dumps, runs)], check=True)
    for folder, run, losses in zip(folders, runs, single, strict=True):
        history: list[Row] = json.loads((folder / "history.json").read_text())
        torch.testing.assert_close(losses_of(history), losses, atol=1e-4, rtol=0)
        shutil.rmtree(folder / resume.tag_of(6))
        _, rest = train(folder, make_options(**run))
        torch.testing.assert_close(losses_of(rest), losses, atol=1e-4, rtol=0)


def test_bf16_trains_under_autocast_and_keeps_fp32_weights(tmp_path: Path) -> None:
    weights, history = train(tmp_path, make_options(bf16=True, steps=2, zero_stage=2))
    exact, _ = train(tmp_path / "fp32", make_options(steps=2))
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    assert not same(weights, exact)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, exact[name], atol=0.02, rtol=0.05)


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"decoder_layers": 3}, 1),  # one pass through the decoder paints both branches
        ({"adversarial": False}, 1),
        ({"decoder_layers": 3, "recompute": True}, 2),
        ({"objective": "mask_prediction"}, 0),
    ],
)
def test_each_layer_attends_once_a_step(
    tmp_path: Path, attention_calls: Callable[[], list[bool]], changes: dict[str, Any], passes: int
) -> None:
    options = make_options(steps=2, **changes)
    train(tmp_path, options)
    with_gradients = sum(attention_calls())  # not those of an evaluation
    assert with_gradients == 2 * (1 + passes * options.decoder_layers)  # the pruner has one layer


@pytest.mark.parametrize(
    ("stage", "stop", "error", "every_s"),
    [(1, ctrl_c, KeyboardInterrupt, 1e-9), (0, sigterm, TryAgainError, 1e6), (2, sigterm, TryAgainError, 1e6)],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, stage: int, stop: Callable[..., None], error: type[BaseException], every_s: float
) -> None:
    options = make_options(zero_stage=stage, checkpoint_every_s=every_s)
    whole, history = train(tmp_path / "whole", options)
    with pytest.raises(error):
        train(tmp_path / "cut", options, stop)
    assert resume.newest(tmp_path / "cut") == "step_0000003"
    again, rest = train(tmp_path / "cut", options)
    assert same(whole, again)
    assert rest == history
    assert same(again, train(tmp_path / "cut", options, stop)[0])  # finished, it takes no step


@pytest.mark.process
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    changes = {"checkpoint_every_s": 1e-9, "steps": 10}
    command = [sys.executable, str(SCRIPT), str(tmp_path / "cut"), json.dumps(changes)]
    process = subprocess.Popen(command, env=os.environ | {"PAUSE_S": "0.3"}, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 500
    while resume.newest(tmp_path / "cut0") in (None, "step_0000001"):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    options = make_options(**changes)
    begun: list[int] = []
    again, rest = train(tmp_path / "cut0", options, lambda values, step: begun.append(step))
    assert 2 < begun[0] < 10
    whole, history = train(tmp_path / "whole", options)
    assert same(whole, again)
    assert rest == history


def test_the_best_checkpoint_outlives_the_last_ones(tmp_path: Path) -> None:
    options = make_options(steps=8, pruner_lr=0.5, decoder_lr=0.5, warmup_steps=0, checkpoint_every_s=1e-9)
    trainer = Trainer(make_module(options), options, tmp_path)
    history = trainer.run(make_samples(10), make_samples(4, seed=1))
    measured = {row["step"]: row["loss"] for row in history if row["split"] == "held_out" and row["step"]}
    best = min(measured, key=lambda step: measured[step])
    assert trainer.best_tag == resume.tag_of(best)
    kept = {resume.tag_of(best), resume.tag_of(7), resume.tag_of(8)}
    assert {path.name for path in tmp_path.glob("step_*")} == kept
    pruner = checkpoint.load(tmp_path / resume.tag_of(8) / "pruner", lambda _: make_module(options).pruner, "make")[0]
    assert same(pruner.state_dict(), trainer.module.pruner.state_dict())


@pytest.mark.parametrize("objective", ["reconstruction", pytest.param("mask_prediction", marks=pytest.mark.slow)])
def test_it_learns_to_keep_the_foreground(tmp_path: Path, objective: str) -> None:
    learning = {"warmup_steps": 10, "pruner_lr": 3e-3, "decoder_lr": 1e-2}
    options = make_options(objective=objective, steps=100, batch_size=10, **learning)
    epochs: list[int] = []
    trainer = Trainer(make_module(options), options, tmp_path)
    history = trainer.run(make_samples(200), make_samples(8, seed=1), epoch=epochs.append)
    evaluations = [row for row in history if row["split"] == "held_out"]
    assert [row["step"] for row in evaluations] == epochs == list(range(0, 101, 20))
    assert evaluations[-1]["loss"] < 0.5 * evaluations[0]["loss"]
    assert evaluations[-1]["auc"] > 0.9
    assert evaluations[-1]["recall_50"] > 0.9


def test_the_pruner_stands_still_while_the_decoder_learns_alone(tmp_path: Path) -> None:
    """After the last step that the decoder has for itself, and after the next one."""
    options = make_options(decoder_first_steps=3, steps=4, zero_stage=2, checkpoint_every_s=1e-9)
    before, (after, _) = make_module(options).state_dict(), train(tmp_path, options)
    alone, _ = resume.load(tmp_path, resume.tag_of(3))
    moved = {name for name, tensor in before.items() if not torch.equal(alone[name], tensor)}
    assert moved
    assert all(name.startswith("decoder.") for name in moved)
    assert not torch.equal(after["pruner.scorer.weight"], before["pruner.scorer.weight"])


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_images(tmp_path: Path) -> None:
    (batch,) = make_samples(4).batches([range(4)])
    tokens = batch.tokens.clone()
    tokens[2, 3] = torch.nan
    options = make_options()
    trainer = Trainer(make_module(options), options, tmp_path)
    broken = EncodedSamples(Batch(tokens, batch.fore, batch.back, batch.share), GRID, ["a", "b", "c", "d"])
    with pytest.raises(ParamsError, match="finite loss at step 1, got nan, from the images c. To fix: look at these"):
        trainer.run(broken, make_samples(2))
    assert not list(tmp_path.glob("step_*"))


def test_a_gradient_that_is_no_number_stops_the_run_before_anything_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make_options(batch_size=10, checkpoint_every_s=1e-9)
    trainer = Trainer(make_module(options), options, tmp_path)
    trainer.module.pruner.scorer.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(ParamsError, match=r"gradient of the pruner at step 1, got .*image .* and 2 more.*pruner_lr"):
        trainer.run(make_samples(10), make_samples(2))
    assert not list(tmp_path.glob("step_*"))


@pytest.mark.parametrize(("bias", "knob"), [(50.0, "train_pruner.alpha"), (-50.0, "pruner_lr")])
def test_a_collapsed_mask_is_told_once_with_the_knob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bias: float, knob: str
) -> None:
    monkeypatch.setattr(training, "COLLAPSED_STEPS", 3)
    options = make_options()
    module = make_module(options)
    torch.nn.init.constant_(module.pruner.scorer.bias, bias)
    Trainer(module, options, tmp_path).run(make_samples(10), make_samples(4, seed=1))
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert "for 3 steps" in told[0]
    assert knob in told[0]


def test_a_ranking_the_wrong_way_round_is_told(caplog: pytest.LogCaptureFixture) -> None:
    for auc, step in ((0.3, 0), (0.9, 8), (None, 8)):
        training.watch_ranking(auc, step)
    assert not caplog.records
    training.watch_ranking(0.17, 8)
    assert "background outranks foreground (AUC 0.17)" in caplog.text
    assert "train_pruner.decoder_first_steps" in caplog.text


def test_each_step_is_recorded_with_its_speed(tmp_path: Path) -> None:
    seen: dict[int, dict[str, float]] = {}
    train(tmp_path, make_options(), lambda values, step: seen.setdefault(step, {}).update(values))
    assert sorted(seen) == list(range(7))
    wanted = {"loss", "loss_fore", "loss_back", "keep_share", "images_per_s", "pruner_grad_norm", "decoder_grad_norm"}
    assert wanted | {"pruner_lr", "decoder_lr", "data_wait_share", "memory_gb"} <= set(seen[1])
    assert 0 <= seen[1]["data_wait_share"] < 1
    assert {"held_out_auc", "held_out_recall_50", "held_out_loss_fore", "held_out_loss_back"} <= set(seen[0])


def make_optimizer(first: torch.nn.Parameter, second: torch.nn.Parameter, *norms: float | None) -> ClippedAdamW:
    names = {"pruner": first, "decoder": second}
    groups = [
        {"name": name, "params": [parameter], "lr": 0.1, "clip_norm": norm}
        for (name, parameter), norm in zip(names.items(), norms, strict=True)
    ]
    return ClippedAdamW(groups, weight_decay=0.0, partitioned=False)


def test_each_group_has_a_limit_of_its_own() -> None:
    first, second = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    first.grad, second.grad = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0])
    make_optimizer(first, second, 2.5, None).step()
    torch.testing.assert_close(first.grad, torch.tensor([1.5, 2.0]))
    assert second.grad.tolist() == [3.0, 4.0]


def test_without_clipping_it_is_torchs_adamw() -> None:
    first, second = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    own = make_optimizer(first, second, None, None)
    same = torch.nn.Parameter(torch.ones(3))
    reference = torch.optim.AdamW([same], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        first.grad = second.grad = None
        first.grad, second.grad, same.grad = (torch.tensor([1.0, -2.0, 0.5]) for _ in range(3))
        own.step()
        reference.step()
    torch.testing.assert_close(first, same)


def test_the_rate_warms_up_and_then_falls_along_a_cosine() -> None:
    shares = [rate_share(step, 14, 4) for step in range(14)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rate_share(9, 14, 4) == pytest.approx(0.5)
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert shares[-1] < 0.05
    assert rate_share(0, 10, 0) == 1.0
    later = [rate_share(step, 20, 4, starts_at=6) for step in range(20)]
    assert later == [0.0] * 6 + shares  # the same course in the steps that are left
