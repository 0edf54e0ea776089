"""A capture is believed when one replay of it has left what a plain run leaves."""

from collections.abc import Callable

import pytest
import torch
from tiny_fast import N, make_kept, make_model, make_prompt, make_view

from stages.backbone.qwen import decoder_shape
from stages.efficiency.traced import trace
from stages.errors import MachineError
from stages.pruning.recon import ReconPruner
from stages.vla.fast.host import FastHost
from stages.vla.fast.runner import Eager, Runner, Step, proven
from stages.vla.fast.scorer import FastScorer
from stages.vla.fast.serving import Serving
from stages.vla.fast.vision import GraphTower
from stages.vla.fast.workspace import FastOptions


class Sum:
    """The sum of three numbers."""

    def __init__(self) -> None:
        self.total = torch.zeros(1)

    def __call__(self) -> None:
        self.total = torch.tensor([6.0])

    def left(self) -> torch.Tensor:
        return self.total

    def spoil(self) -> None:
        self.total.fill_(torch.nan)


def by_replay(step: Step) -> Runner:
    """As on a GPU, with calls for replays."""
    for _ in range(3):
        step()
    proven(step, Eager)
    return Eager(step)


def test_a_replay_that_does_nothing_is_refused() -> None:
    with pytest.raises(MachineError, match="another result from a Sum on cpu"):
        proven(Sum(), lambda step: lambda: None)


def test_so_is_one_that_leaves_another_number() -> None:
    def other(step: Step) -> Callable[[], None]:
        def replay() -> None:
            step.left().fill_(5.0)

        return replay

    with pytest.raises(MachineError, match="vla.host to eager"):
        proven(Sum(), other)


def test_a_replay_that_does_the_work_comes_back() -> None:
    step = Sum()
    proven(step, Eager)()
    assert step.total.tolist() == [6]


def test_checking_a_step_changes_no_token() -> None:
    model, view, kept, prompt = make_model("groups of two"), make_view(2), make_kept(2, N), make_prompt(2)
    plain, checked = FastHost(model), FastHost(model, FastOptions(runner=by_replay, captures_after=0))
    told = [host.decode(host.prefill(view, kept, N, prompt, "test"), 9, (-1,)) for host in (plain, checked)]
    assert torch.equal(*told)


def test_a_step_of_an_answer_that_is_not_run_is_noticed() -> None:
    def empty(step: Step) -> Runner:
        step()
        proven(step, lambda step: lambda: None)
        return Eager(step)

    host = FastHost(make_model("groups of two"), FastOptions(runner=empty, captures_after=9))
    read = host.prefill(make_view(1), make_kept(1, 6), 6, make_prompt(1), "test")
    with pytest.raises(MachineError, match="from a Tell"):
        host.decode(read, 5, (-1,))


def test_no_step_that_is_captured_reads_a_number_back_to_the_host() -> None:
    found = list[tuple[str, dict[str, int]]]()

    def watched(step: Step) -> Runner:
        step()
        found.append((type(step).__name__, trace(step).waits))
        return Eager(step)

    model, view, prompt = make_model("groups of two"), make_view(1), make_prompt(1)
    host = FastHost(model, FastOptions(runner=watched, captures_after=0))
    host.decode(host.prefill(view, make_kept(1, 6), 6, prompt, "test"), 5, (-1,))
    network = ReconPruner(decoder_shape(model)).eval().requires_grad_(False)
    Serving(host, FastScorer(network, torch.float32, torch.device("cpu")), 6, view, prompt)
    GraphTower(model, runner_of=watched).encode(torch.zeros(1, 3, 140, 168, dtype=torch.uint8))
    assert found == [("Read", {}), ("Tell", {}), ("Read", {}), ("Encode", {})]
