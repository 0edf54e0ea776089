"""Every method, its own code and the real host run on the meta device: torch counts what we state.

At the true shapes of Qwen2.5-VL-3B and 7B, of an image of 144 tokens: some methods take a step a token. A new pruner is
tested by existing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch

from stages.backbone.qwen import Model, decoder_shape
from stages.backbone.tokens import keep_count
from stages.core.params import read_params
from stages.efficiency.counted import at_cut, at_shape, checked, count, meta_model, random_view
from stages.efficiency.flops import PAPER_MODEL, PAPER_MODEL_7B, account
from stages.pruning import base
from stages.pruning.base import Cut, Kept, Pruner
from stages.vla.cutting import Cutter
from stages.vla.prefill import Chosen, Prompt, prefill

pytestmark = pytest.mark.process

GRID, N, BEFORE, L = (12, 12), 144, 20, 100
MODELS = {"3b": PAPER_MODEL, "7b": PAPER_MODEL_7B}
PROFILE = read_params(PAPER_MODEL.parent / "params" / "paper.yaml").pruners
RULERS = ("oracle", "inverse")  # they look the truth up in files, and multiply nothing
METHODS = [*(name for name in base.available() if name not in ("none", *RULERS)), "sparsevlm_in_three_stages"]


def load(name: str) -> Pruner:
    if name == "sparsevlm_in_three_stages":
        return base.load("sparsevlm", {"schedule": "layer_average"})
    return base.load(name, PROFILE.get(name, {}))


@dataclass(frozen=True)
class Whole:
    """A model without numbers, and what torch counts in its vision tower."""

    model: Model
    vision: int
    watch: int


@cache
def whole(name: str) -> Whole:
    model = meta_model(MODELS[name]).to(torch.bfloat16).eval()
    parts = checked(meta_model(MODELS[name]), GRID, 36, L)
    vision = ("patch_embed", "vision_linears", "vision_window_attention", "vision_full_attention", "merger")
    return Whole(model, int(sum(parts[p]["counted"] for p in vision)), int(parts["watch"]["counted"]))


@pytest.fixture(autouse=True)
def _without_numbers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host reads one verdict from the device when all is on its way; on meta there is none."""
    monkeypatch.setattr(Cutter, "check", lambda self: None)
    with torch.inference_mode():
        yield


def prompt() -> Prompt:
    return Prompt(*(torch.zeros(1, n, dtype=torch.int64, device="meta") for n in (BEFORE, L - BEFORE)))


@cache
def counted_prefill(name: str, K: int) -> int:
    """Reading a prompt that was pruned before the language model, whoever chose."""
    model = whole(name).model
    view = random_view(decoder_shape(model), GRID, L)
    kept = Kept(torch.arange(K, device="meta")[None])
    return sum(count(lambda: prefill(model, view, Chosen(kept), K, prompt())))


def counted(name: str, pruner: Pruner, K: int) -> int:
    """Choosing, reading and the output head at the last position."""
    model = whole(name).model
    shape = decoder_shape(model)
    chooses, view = at_shape(pruner, shape), random_view(shape, GRID, L)
    view = replace(view, positions=view.positions + BEFORE, inputs=None, attention=None)
    if tuple(pruner.cuts(N, K, len(model.model.language_model.layers))) != (Cut(0, K),):
        return sum(count(lambda: prefill(model, view, chooses, K, prompt())))
    return sum(count(lambda: chooses.select(at_cut(view, Cut(0, K), N), K))) + counted_prefill(name, K)


@pytest.mark.parametrize(("model", "percent"), [("3b", 75), pytest.param("7b", 25, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS)
def test_a_pruned_request_costs_what_torch_counts(model: str, method: str, percent: int) -> None:
    pruner, about = load(method), whole(model)
    row = account(about.model.config, GRID, L, [percent], pruner)["rows"][1]
    found = counted(model, pruner, keep_count(N, percent)) + about.watch * pruner.needs_vision
    assert found == pytest.approx(row["flops"]["without_vision"], rel=1e-3)
    assert found + about.vision == pytest.approx(row["flops"]["with_vision"], rel=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_an_unpruned_request_costs_what_torch_counts(model: str) -> None:
    row = account(whole(model).model.config, GRID, L, [], base.load("none", {}))["rows"][0]
    assert counted_prefill(model, N) == row["flops"]["without_vision"]
    assert counted_prefill(model, N) + whole(model).vision == row["flops"]["with_vision"]


def test_a_method_that_states_half_of_its_cost_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    pruner = load("recon")
    stated = type(pruner).flops
    monkeypatch.setattr(type(pruner), "flops", lambda self, *given: stated(self, *given) // 2)
    row = account(whole("3b").model.config, GRID, L, [75], pruner)["rows"][1]
    assert counted("3b", pruner, 36) > 1.01 * row["flops"]["without_vision"]
