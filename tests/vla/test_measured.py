"""A request taken apart: its phases are those of the driver's own answer; what is set side by side in its record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from one_frame import make_frame

from stages.pruning.base import Cut, Kept, Pruner
from stages.vla.base import QwenDriver
from stages.vla.measured import NEVER, Request, of_ceiling, phases
from stages.vla.prefill import Prompt, decode, prefill, token_view


@dataclass(frozen=True)
class First(Pruner):
    """Keeps the first tokens."""

    def select(self, view, K):
        return Kept(torch.arange(K)[None])


@dataclass(frozen=True)
class Inside(First):
    """Keeps the first tokens after a layer has read all."""

    def cuts(self, N, K, layers):
        return (Cut(1, K),)


class RandomTower(QwenDriver):
    """A driver whose vision tower draws six tokens."""

    def __init__(self, model) -> None:
        self.model, self.seen = model, 0

    def images(self, frames):
        return torch.zeros(len(frames), 3, 56, 84, dtype=torch.uint8)

    def ask(self, frames):
        return Prompt(torch.tensor([[1, 2]] * len(frames)), torch.tensor([[3, 4, 5]] * len(frames)))

    def read_answer(self, text):
        raise NotImplementedError

    def view(self, images, keys, prompt, sources=(), *, watched=False):
        self.seen += 1
        tokens = torch.randn(1, 6, 24, generator=torch.Generator().manual_seed(0))
        return token_view(tokens, ((2, 3),), (prompt.before.shape[1],), keys, "encoder")


@pytest.fixture
def asked(tiny_model) -> Request:
    return Request(RandomTower(tiny_model), make_frame(Path("none.png")), answer_tokens=4)


@torch.inference_mode()
def test_each_phase_gives_what_the_host_gives_and_can_be_repeated(asked):
    calls = asked.calls(First(), 3)
    view = asked.see(First())
    prefilled = prefill(asked.driver.model, view, First(), 3, asked.prompt)
    assert list(calls) == ["preprocess", "vision", "choose", "prefill", "decode", "end_to_end"]
    assert torch.equal(calls["prefill"](), prefilled.logits)
    ((tokens, positions),) = calls["choose"]()
    assert torch.equal(tokens, view.tokens[:, :3])
    assert torch.equal(positions, view.positions[:, :, :3])
    wanted = decode(asked.driver.model, prefilled, 4, (NEVER,))
    assert wanted.shape == (1, 4)
    before = asked.driver.seen
    assert torch.equal(calls["end_to_end"](), wanted)
    assert asked.driver.seen == before + 1  # the image anew
    assert torch.equal(calls["decode"](), wanted)
    assert torch.equal(calls["decode"](), wanted)


@torch.inference_mode()
def test_a_pruner_inside_the_model_is_asked_again_of_what_it_was_shown_there(asked):
    calls = asked.calls(Inside(), 3)
    ((tokens, _),) = calls["choose"]()
    assert tokens.shape == (1, 3, 24)
    assert not torch.equal(tokens, asked.see(Inside()).tokens[:, :3])  # a layer has read them
    assert calls["prefill"]().kept.tolist() == [[0, 1, 2]]


@torch.inference_mode()
def test_vision_and_preparation_are_measured_once_since_no_pruner_changes_them(asked):
    found = phases(asked, {"0": (First(), 0), "a/50": (First(), 50)})
    assert list(found["vision"]) == list(found["preprocess"]) == ["0"]
    assert list(found["prefill"]) == list(found["choose"]) == list(found["end_to_end"]) == ["0", "a/50"]


FLOPS = {"vision": 1000, "watch": 0, "pruner": 50, "llm": 300, "lm_head_last": 20, "decode_token": 40}


def timed(**vision_ms: float) -> dict[str, Any]:
    """Medians in ms by phase and variant."""
    found = {
        "vision": vision_ms or {"0": 5.0, "again": 5.5},
        "choose": {"0": 0.1, "50": 2.0, "again": 0.1},
        "prefill": {"0": 30.0, "50": 12.0, "again": 31.0},
        "decode": {"0": 8.0, "50": 8.0, "again": 8.0},
    }
    return {
        phase: {"timings": {key: {"median_ms": ms, "per_token_ms": ms / 2} for key, ms in part.items()}}
        for phase, part in found.items()
    }


def test_each_phase_is_set_against_the_ceiling_that_bounds_it() -> None:
    ceiling = {"matmul_flops_per_s": 2e5, "copy_bytes_per_s": 1e6}
    reached = of_ceiling(timed(), "50", FLOPS, ceiling, 500, inside=False)
    assert reached == pytest.approx(
        {"vision_flops": 1, "prefill_flops": 320 / 2400, "decode_flops": 0.05, "decode_bytes": 0.125}
    )
    assert of_ceiling(timed(), "50", FLOPS, ceiling, 500, inside=True)["prefill_flops"] == pytest.approx(370 / 2400)
