"""Any pruner in the pipeline's own host: the same answers as by gathering first, and nothing lost on the way."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from every_pruner import METHODS, load, make_view
from reference.families.qwen_lm_tiny import language_of

from stages.backbone.qwen import Model
from stages.core.errors import DataError, ParamsError
from stages.pruning import base
from stages.pruning.view import TokenView
from stages.vla.cutting import cuts_inside
from stages.vla.driving import applied
from stages.vla.host import Prompt, decode, prefill, token_view
from stages.vla.inside import images_view, prefill_by

GRID, N = (4, 6), 24
BEFORE, AFTER = torch.tensor([[4, 7]]), torch.tensor([[5, 9, 11]])


def make_prompt(B: int, images: int = 1) -> Prompt:
    between = tuple(torch.tensor([[8]] * B) for _ in range(images - 1))
    return Prompt(BEFORE.expand(B, -1), AFTER.expand(B, -1), between)


def placed(view: TokenView) -> TokenView:
    """The view with positions after two text tokens."""
    whole = token_view(view.tokens, GRID, 2, view.keys, view.encoder)
    return TokenView(**{**vars(view), "positions": whole.positions})


@torch.no_grad()
@pytest.mark.parametrize("name", METHODS)
def test_with_nothing_to_prune_every_method_gives_the_same_bits(tiny_model: Model, name: str) -> None:
    view = placed(make_view(2, (GRID,)))
    whole = prefill(tiny_model, view, base.everything(view), N, make_prompt(2), "none")
    ours = prefill_by(tiny_model, view, load(name), N, make_prompt(2))
    assert torch.equal(ours.logits, whole.logits)
    assert (ours.pruned, ours.next_position) == (0, whole.next_position)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_every_method_leaves_k_tokens_to_the_last_layer(tiny_model: Model, name: str) -> None:
    view, pruner = placed(make_view(2, (GRID,))), load(name)
    read = prefill_by(tiny_model, view, pruner, 6, make_prompt(2))
    assert read.cache.get_seq_length(1) == 5 + 6
    assert (read.pruned, read.kept.shape) == (18, (2, 6))
    cut = pruner.cuts(N, 6, 2)[0]
    assert read.cache.get_seq_length(0) == read.length == 5 + (6 if cut.layer == 0 else N)
    assert bool((read.kept.sort(dim=1).values.diff(dim=1) > 0)[read.kept.sort(dim=1).values[:, 1:] >= 0].all())


@torch.no_grad()
@pytest.mark.parametrize(
    "name", [name for name in METHODS if name != "none" and load(name).cuts(N, 6, 2)[0].layer == 0]
)
def test_cutting_before_the_first_layer_is_gathering_first(tiny_model: Model, name: str) -> None:
    view, pruner = placed(make_view(2, (GRID,))), load(name)
    view = TokenView(**{**vars(view), "text": tiny_model.get_input_embeddings()(AFTER.expand(2, -1))})
    gathered = prefill(tiny_model, view, pruner.select(view, 6), 6, make_prompt(2), name)
    hooked = prefill_by(tiny_model, view, pruner, 6, make_prompt(2))
    assert torch.equal(gathered.logits, hooked.logits)
    assert torch.equal(gathered.kept, hooked.kept)
    assert torch.equal(decode(tiny_model, gathered, 3, (-1,)), decode(tiny_model, hooked, 3, (-1,)))


@torch.no_grad()
@pytest.mark.parametrize("name", ["fastv", "text_attention", "sparsevlm", "tfps"])
def test_a_batch_reads_as_its_singles(tiny_model: Model, name: str) -> None:
    view = placed(make_view(2, (GRID,)))
    together = prefill_by(tiny_model, view, load(name), 6, make_prompt(2))
    for i in range(2):
        single = TokenView(view.tokens[i : i + 1], view.grids, view.positions[:, i : i + 1], view.keys[i : i + 1], "")
        alone = prefill_by(tiny_model, single, load(name), 6, make_prompt(1))
        torch.testing.assert_close(together.logits[i : i + 1], alone.logits, atol=2e-5, rtol=2e-5)
        assert torch.equal(together.kept[i : i + 1], alone.kept)


@torch.no_grad()
def test_fastv_at_a_layer_that_the_model_does_not_have_reads_everything_and_the_driver_refuses_it(
    tiny_model: Model,
) -> None:
    view, late = placed(make_view(1, (GRID,))), base.load("fastv", {"layer": 2})
    whole = prefill(tiny_model, view, base.everything(view), N, make_prompt(1), "none")
    read = prefill_by(tiny_model, view, late, 6, make_prompt(1))
    assert torch.equal(read.logits, whole.logits)
    assert read.pruned == 0
    with pytest.raises(ParamsError, match="of the 2 that the language model has"):
        applied(read, late, 6, 2)


@torch.no_grad()
@pytest.mark.parametrize("per_image", [False, True])
def test_several_cameras_are_read_from_one_prompt(tiny_model: Model, per_image: bool) -> None:
    grids = ((4, 6), (2, 2), (4, 5))
    tokens = torch.randn(2, 48, 24, generator=torch.Generator().manual_seed(0))
    view = images_view(tokens, grids, (2, 1, 1, 3), ("a", "b"), "encoder")
    read = prefill_by(tiny_model, view, base.load("divprune", {}), 12, make_prompt(2, 3), per_image=per_image)
    assert read.cache.get_seq_length(1) == 7 + 12
    assert read.next_position == 7 + 6 + 2 + 5
    by_camera = torch.bincount(torch.bucketize(read.kept[0], torch.tensor([24, 28, 48]), right=True), minlength=3)
    assert by_camera.sum() == 12
    assert (by_camera.tolist() == [6, 1, 5]) or not per_image


@torch.no_grad()
def test_dropping_before_the_first_layer_is_masking_those_keys_to_2e_6() -> None:
    """On the weights of the reference case; NVIDIA's TensorRT-Edge-LLM states the same invariant."""
    with np.load(Path(__file__).parents[1] / "cases" / "qwen_lm_tiny_predrop.npz") as file:
        case = {name: file[name] for name in file.files}
    language = language_of(case, json.loads(str(case["meta_json"])))
    embeds, positions = torch.from_numpy(case["inputs_embeds"])[None], torch.from_numpy(case["position_ids"])[:, None]
    dropped = sorted({*case["visual_positions"].tolist()} - {*case["visual_positions"][case["keep_visual"]].tolist()})
    stays = torch.ones(embeds.shape[1], dtype=torch.bool)
    stays[dropped] = False
    masked = language(inputs_embeds=embeds, position_ids=positions, attention_mask=stays.long()[None])
    short = language(inputs_embeds=embeds[:, stays], position_ids=positions[:, :, stays])
    difference = (masked.last_hidden_state[:, stays] - short.last_hidden_state).abs().max()
    assert float(difference) <= 2e-6


@torch.no_grad()
def test_tokens_that_are_no_numbers_are_refused_in_both_places(tiny_model: Model) -> None:
    view = placed(make_view(1, (GRID,)))
    view.tokens[0, 3] = torch.nan
    for name in ("divprune", "fastv", "sparsevlm"):
        with pytest.raises(DataError, match="NaN or infinity"):
            prefill_by(tiny_model, view, load(name), 6, make_prompt(1))
    with pytest.raises(DataError, match="NaN or infinity"):
        prefill(tiny_model, view, load("divprune").select(view, 6), 6, make_prompt(1), "divprune")


def test_a_grid_that_does_not_match_the_tokens_is_refused(tiny_model: Model) -> None:
    view = placed(make_view(1, (GRID,)))
    wrong = TokenView(**{**vars(view), "grids": ((4, 5),)})
    with pytest.raises(DataError, match="wanted 20 visual tokens for images of 4 x 5 tokens; got 24"):
        prefill_by(tiny_model, wrong, load("divprune"), 6, make_prompt(1))


def test_which_methods_choose_inside_is_told_by_their_cuts() -> None:
    inside = {name for name in METHODS if cuts_inside(load(name), N, 6, 2)}
    assert inside == {"fastv", "text_attention", "masked_text_attention", "sparsevlm", "tfps"}
