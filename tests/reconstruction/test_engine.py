import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_pruner import GRID, make_module, make_options, make_samples

from stages.errors import MachineError, ParamsError
from stages.params import TrainPruner
from stages.reconstruction import engine, resume
from stages.reconstruction.data import Batch, EncodedSamples
from stages.reconstruction.engine import Trainer
from stages.reconstruction.evaluation import Row

SCRIPT = Path(__file__).parent / "train_tiny.py"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def ignore(values: dict[str, float], step: int) -> None:
    """Record nothing."""


def train(
    folder: Path, options: TrainPruner, record: Callable[[dict[str, float], int], None] = ignore
) -> tuple[dict[str, torch.Tensor], list[Row]]:
    """Train, or go on training, in this process; weights and history."""
    torch.set_num_threads(1)
    trainer = Trainer(make_module(options), options, folder)
    trainer.resume(resume.newest(folder))
    history = trainer.run(make_samples(10), make_samples(4, seed=1), record)
    return trainer.module.state_dict(), history


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stop_at(last: int) -> Callable[[dict[str, float], int], None]:
    """A record that ends the run as Ctrl-C does, in step `last`."""

    def record(values: dict[str, float], step: int) -> None:
        if step == last:
            raise KeyboardInterrupt

    return record


def test_every_zero_stage_takes_the_same_steps(tmp_path: Path) -> None:
    runs = [train(tmp_path / str(stage), make_options(zero_stage=stage, steps=3)) for stage in (0, 1, 2)]
    for weights, history in runs[1:]:
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, runs[0][0][name], atol=1e-6, rtol=1e-5)
        assert [row["step"] for row in history] == [row["step"] for row in runs[0][1]]
        norms = [[row["pruner_grad_norm"], row["decoder_grad_norm"]] for row in history if row["split"] == "train"]
        wanted = [[r["pruner_grad_norm"], r["decoder_grad_norm"]] for r in runs[0][1] if r["split"] == "train"]
        torch.testing.assert_close(torch.tensor(norms), torch.tensor(wanted), atol=1e-6, rtol=1e-4)


def test_bf16_trains_under_autocast_and_keeps_fp32_weights(tmp_path: Path) -> None:
    weights, history = train(tmp_path, make_options(bf16=True, steps=2))
    exact, _ = train(tmp_path / "fp32", make_options(steps=2))
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    assert not same(weights, exact)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, exact[name], atol=0.02, rtol=0.05)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, stage: int) -> None:
    options = make_options(zero_stage=stage, checkpoint_every_s=1e-9)
    whole, history = train(tmp_path / "whole", options)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut0", options, stop_at(4))
    assert resume.newest(tmp_path / "cut0") == "step_0000003"
    again, rest = train(tmp_path / "cut0", options)
    assert same(whole, again)
    assert rest == history


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    options = make_options()
    weights, history = train(tmp_path, options)
    steps: list[int] = []
    again, rest = train(tmp_path, options, lambda values, step: steps.append(step))
    assert steps == []
    assert same(weights, again)
    assert rest == history


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    changes = {"checkpoint_every_s": 1e-9, "steps": 40}
    command = [sys.executable, str(SCRIPT), str(tmp_path / "cut"), json.dumps(changes)]
    process = subprocess.Popen(command, env=os.environ | {"PAUSE_S": "0.2"}, stderr=subprocess.DEVNULL)
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
    assert 2 < begun[0] < 40
    whole, history = train(tmp_path / "whole", options)
    assert same(whole, again)
    assert rest == history


def test_two_ranks_take_the_steps_of_one(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    runs = [{"zero_stage": stage, "steps": 4} for stage in (0, 1)]
    subprocess.run([*torchrun, str(SCRIPT), str(tmp_path / "two"), *map(json.dumps, runs)], check=True)
    for place, changes in enumerate(runs):
        two = json.loads((tmp_path / f"two{place}" / "history.json").read_text())
        _, one = train(tmp_path / f"one{place}", make_options(**changes))
        for mine, theirs in zip(two, one, strict=True):
            for name in ("loss", "loss_fore", "loss_back", "keep_share"):
                assert mine[name] == pytest.approx(theirs[name], abs=1e-4)
    train(tmp_path / "two0", make_options(**runs[0]))  # ZeRO 0 goes on with another number of ranks
    with pytest.raises(MachineError, match="wanted 2 ranks"):
        train(tmp_path / "two1", make_options(**runs[1]))


def test_it_learns_to_keep_the_foreground(tmp_path: Path) -> None:
    options = make_options(steps=120, batch_size=10, warmup_steps=10, pruner_lr=3e-3, decoder_lr=1e-2)
    history = Trainer(make_module(options), options, tmp_path).run(make_samples(200), make_samples(8, seed=1), ignore)
    evaluations = [row for row in history if row["split"] == "held_out"]
    assert [row["step"] for row in evaluations] == [0, 30, 60, 90, 120]
    assert evaluations[-1]["loss"] < 0.5 * evaluations[0]["loss"]
    assert evaluations[-1]["auc"] > 0.9


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    (batch,) = make_samples(4).batches([range(4)])
    broken = Batch(torch.full_like(batch.tokens, torch.nan), batch.fore, batch.back, batch.share)
    options = make_options()
    trainer = Trainer(make_module(options), options, tmp_path)
    with pytest.raises(ParamsError, match="finite loss at step 1; got nan"):
        trainer.run(EncodedSamples(broken, GRID), make_samples(2), ignore)
    assert not list(tmp_path.glob("step_*"))


@pytest.mark.parametrize(("bias", "knob"), [(50.0, "train_pruner.alpha"), (-50.0, "pruner_lr")])
def test_a_collapsed_mask_is_told_once_with_the_knob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bias: float, knob: str
) -> None:
    monkeypatch.setattr(engine, "COLLAPSED_STEPS", 3)
    options = make_options()
    module = make_module(options)
    torch.nn.init.constant_(module.pruner.scorer.bias, bias)
    Trainer(module, options, tmp_path).run(make_samples(10), make_samples(4, seed=1), ignore)
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert "for 3 steps" in told[0]
    assert knob in told[0]


def test_each_step_is_recorded_with_its_speed(tmp_path: Path) -> None:
    seen: dict[int, dict[str, float]] = {}
    train(tmp_path, make_options(), lambda values, step: seen.setdefault(step, {}).update(values))
    assert sorted(seen) == list(range(7))
    wanted = {"loss", "loss_fore", "loss_back", "keep_share", "images_per_s", "pruner_grad_norm", "decoder_grad_norm"}
    assert wanted | {"pruner_lr", "decoder_lr"} <= set(seen[1])
    assert "held_out_auc" in seen[0]


def test_a_machine_without_a_compiler_is_told_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Builder:
        NAME = "helper"

        def load(self, verbose: bool) -> None:
            raise RuntimeError("Unable to JIT load the helper op due to ninja not being installed.")

    accelerator = type("Accelerator", (), {"create_op_builder": lambda self, name: Builder()})()
    deepspeed = type("DeepSpeed", (), {})()
    deepspeed.accelerator = type("Module", (), {"get_accelerator": staticmethod(lambda: accelerator)})
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / "helper").mkdir()
    (tmp_path / "helper" / "lock").touch()
    with pytest.raises(MachineError, match=r"g\+\+ and ninja"):
        engine._build_helper(deepspeed)
    assert not (tmp_path / "helper" / "lock").exists()  # left by a killed build; torch would wait for it for ever
