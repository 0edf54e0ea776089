"""The phases of a request are those of the driver's own answer, and can be repeated."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from one_frame import make_frame

from stages.pruning.base import Cut, Kept, Pruner
from stages.vla.phases import NEVER, Request, Variant, phases, request
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


class RandomTower:
    """A driver whose vision tower draws six tokens."""

    def __init__(self, model) -> None:
        self.model, self.seen = model, 0

    def images(self, frames):
        return torch.zeros(len(frames), 3, 56, 84, dtype=torch.uint8)

    def ask(self, frames):
        return Prompt(torch.tensor([[1, 2]] * len(frames)), torch.tensor([[3, 4, 5]] * len(frames)))

    def view(self, images, keys, prompt, *, watched=False):
        self.seen += 1
        tokens = torch.randn(1, 6, 24, generator=torch.Generator().manual_seed(0))
        return token_view(tokens, ((2, 3),), (prompt.before.shape[1],), keys, "encoder")


@pytest.fixture
def asked(tiny_model) -> Request:
    return request(RandomTower(tiny_model), make_frame(Path("none.png")), answer_tokens=4)


@torch.inference_mode()
def test_each_phase_gives_what_the_host_gives(asked):
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
    assert torch.equal(calls["end_to_end"](), wanted)


@torch.inference_mode()
def test_decoding_again_starts_from_the_prompt_and_not_from_the_last_answer(asked):
    answer = asked.calls(First(), 3)["decode"]
    assert torch.equal(answer(), answer())


@torch.inference_mode()
def test_a_pruner_inside_the_model_is_asked_again_of_what_it_was_shown_there(asked):
    calls = asked.calls(Inside(), 3)
    ((tokens, _),) = calls["choose"]()
    assert tokens.shape == (1, 3, 24)
    assert not torch.equal(tokens, asked.see(Inside()).tokens[:, :3])  # a layer has read them
    assert calls["prefill"]().kept.tolist() == [[0, 1, 2]]


@torch.inference_mode()
def test_vision_and_preparation_are_measured_once_since_no_pruner_changes_them(asked):
    found = phases(asked, {"0": Variant(First(), 0), "a/50": Variant(First(), 50)})
    assert list(found["vision"]) == list(found["preprocess"]) == ["0"]
    assert list(found["prefill"]) == list(found["choose"]) == list(found["end_to_end"]) == ["0", "a/50"]


@torch.inference_mode()
def test_end_to_end_sees_the_image_anew(asked):
    serve = asked.calls(First(), 3)["end_to_end"]
    before = asked.driver.seen
    serve()
    assert asked.driver.seen == before + 1
