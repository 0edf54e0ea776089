"""One check for each family of Qwen cases: positions, windows, tower and decoder are those of transformers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.qwen import Cache, hf
from stages.backbone.tokens import positions_around, text_lengths
from stages.backbone.vision import Watch, grouped, window_index
from stages.pruning.base import Kept, Pruner, TokenView
from stages.pruning.fastv import Pruner as FastV
from stages.vla.cutting import Cutter, Group, Reading, Sequences, hooked, shortened
from stages.vla.prefill import token_view, visual_places

Case = Mapping[str, NDArray]


def check_qwen_mrope(case: Case, meta: dict[str, Any]) -> None:
    """Position ids of whole and pruned prompts against transformers' get_rope_index."""
    merge = meta["merge"]
    grids = tuple((int(h) // merge, int(w) // merge) for _, h, w in case["grid_thw"])
    ids = torch.from_numpy(case["input_ids"])
    visual = torch.zeros(len(ids), dtype=torch.bool)
    visual[torch.from_numpy(case["visual_positions"])] = True
    texts = text_lengths(visual, grids)
    positions = positions_around(texts, grids)
    np.testing.assert_array_equal(positions[:, 0].numpy(), case["position_ids"])
    next_position = int(positions.max()) + 1
    assert next_position == int(case["next_position"])
    assert next_position - len(ids) == int(case["rope_delta"][0])
    _pruned(case, (texts, grids), Sequences(ids[None, :, None].double(), positions, visual[None] | True))


def _pruned(case: Case, layout: Any, whole: Sequences) -> None:
    texts, grids = layout
    places = visual_places(texts, grids)[None]
    view = token_view(whole.hidden[:, places[0]], grids, texts[:-1], ("",), "")
    np.testing.assert_array_equal(view.positions[:, 0], case["position_ids"][:, places[0]])
    group = Group(slice(None), view, places, texts[-1], torch.arange(places.shape[1])[None])
    _, after = shortened(group, whole, Kept(torch.from_numpy(case["keep_visual"]).sort().values[None]))
    np.testing.assert_array_equal(after.hidden[0, :, 0].long().numpy(), case["kept_input_ids"])
    np.testing.assert_array_equal(after.positions[:, 0].numpy(), case["kept_position_ids"])
    assert int(case["next_position"]) - after.hidden.shape[1] == int(case["delta_after_pruning"])


def check_qwen_window(case: Case, meta: dict[str, Any]) -> None:
    """Window order of the vision tower against transformers'."""
    grids = [tuple(row) for row in case["grid_thw"].tolist()]
    side = meta["window"] // meta["patch"] // meta["merge"]
    index, lengths = window_index(grids, side, meta["merge"])
    np.testing.assert_array_equal(index.numpy(), case["window_index"])
    np.testing.assert_array_equal(index.argsort().numpy(), case["reverse_index"])
    np.testing.assert_array_equal(np.cumsum([0, *lengths]), case["cu_window_seqlens"])


def check_qwen_vit_tiny(case: Case, meta: dict[str, Any]) -> None:
    """The vision tower of the installed transformers, in few calls and watched, against that of 4.51.3."""
    config = hf.Qwen2_5_VLVisionConfig(**meta["config"])
    visual = hf.Qwen2_5_VisionTransformerPretrainedModel._from_config(config, attn_implementation="sdpa").eval()
    weights = {name[3:]: torch.from_numpy(case[name]) for name in case if name.startswith("sd.")}
    visual.load_state_dict(weights)
    pixels, grids = torch.from_numpy(case["pixel_values"]), torch.from_numpy(case["grid_thw"])
    with torch.no_grad():
        stock = visual(pixels, grid_thw=grids).pooler_output
        with grouped(visual), Watch(visual) as watch:
            merged = visual(pixels, grid_thw=grids).pooler_output
    assert torch.equal(merged, stock), "not the bits of the stock tower"
    np.testing.assert_allclose(merged.numpy(), case["merged"], atol=1e-5)
    received = torch.cat([facts.importance[0] for facts in watch.images]).numpy()
    np.testing.assert_allclose(received, case["pooled_attention"], rtol=1e-5)
    # Every query gives away 1 in all: the columns' sums add up to the patches, the pooled ones to the tokens
    np.testing.assert_allclose(received.sum() * 4, case["last_attn_column_sum_windowed"].sum(), rtol=1e-5)


class Listed(Pruner):
    """Keeps the tokens of a list."""

    def __init__(self, kept: list[int]) -> None:
        self.kept = kept

    def select(self, view: TokenView, K: int) -> Kept:
        return Kept(torch.tensor([self.kept]))


@torch.no_grad()
def check_qwen_lm_tiny(case: Case, meta: dict[str, Any]) -> None:
    """Tokens dropped before and inside real Qwen2.5-VL decoder layers, through the hooks that the host puts on them."""
    language = language_of(case, meta)
    embeds, positions = torch.from_numpy(case["inputs_embeds"])[None], torch.from_numpy(case["position_ids"])[:, None]
    inside = "fastv_k" in meta
    pruner: Pruner = FastV(layer=meta["fastv_k"]) if inside else Listed(sorted(case["keep_visual"].tolist()))
    if "hidden_full" in case:
        with torch.no_grad():
            whole = language(inputs_embeds=embeds, position_ids=positions).last_hidden_state[0]
        np.testing.assert_allclose(whole.numpy(), case["hidden_full"], atol=1e-4)
    cutter, cache, hidden = read(language, pruner, (embeds, positions), case)
    tolerance = 1e-4 if inside else 1e-5
    np.testing.assert_allclose(hidden.numpy(), case["hidden_pruned"], atol=tolerance)
    assert cutter.groups[0].origin[0].tolist() == sorted(case["keep_visual"].tolist())
    if inside:
        np.testing.assert_allclose(pruner.score(cutter.shown[0][0])[0].numpy(), case["score"], atol=1e-5)
        read_by = [cache.get_seq_length(i) for i in range(len(language.layers))]
        assert read_by == case["tokens_per_layer"].tolist()
        visual = case["visual_positions"]
        kept = sorted({*range(embeds.shape[1])} - {*visual.tolist()} | {*visual[case["keep_visual"]].tolist()})
        assert kept == case["keep_sequence"].tolist()


def read(language: Any, pruner: Pruner, prompt: tuple[Any, Any], case: Case) -> tuple[Any, Any, Any]:
    embeds, positions = prompt
    places = torch.from_numpy(case["visual_positions"])[None]
    tail = embeds.shape[1] - int(places[0, -1]) - 1
    N, K = places.shape[1], len(case["keep_visual"])
    view = TokenView(embeds[:, places[0]], ((1, N),), positions[:, :, places[0]], ("",), "", text=embeds[:, -tail:])
    group = Group(slice(None), view, places, tail, torch.arange(N)[None])
    cutter = Cutter(pruner, [group], lambda n: K, len(language.layers), per_image=False)
    reading, cache = Reading(language, cutter, padded=False), Cache(config=language.config)
    with torch.no_grad(), hooked(language, lambda: reading):
        output = language(inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True)
    cutter.check()
    return cutter, cache, output.last_hidden_state[0]


def language_of(case: Case, meta: dict[str, Any]) -> Any:
    """The text model with the case's weights; its shape is read off them where meta does not give it."""
    weights = {name[3:]: torch.from_numpy(case[name]) for name in case if name.startswith("sd.")}
    shape = meta.get("config", {})
    q, k = (weights[f"layers.0.self_attn.{part}_proj.weight"].shape for part in "qk")
    heads = shape.get("heads", 4)
    head_width = q[0] // heads
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    sections = shape.get("mrope_section", [2, 3, 3])
    config = hf.Qwen2_5_VLTextConfig(
        vocab_size=weights["embed_tokens.weight"].shape[0] if "embed_tokens.weight" in weights else 1,
        hidden_size=q[1],
        intermediate_size=weights["layers.0.mlp.gate_proj.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=k[0] // head_width,
        rms_norm_eps=shape.get("rms_eps", 1e-5),
        rope_parameters={"rope_type": "default", "rope_theta": shape.get("rope_theta", 1e6), "mrope_section": sections},
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    language = hf.Qwen2_5_VLTextModel._from_config(config, attn_implementation="sdpa").eval()
    missing, unknown = language.load_state_dict(weights, strict=False)
    assert not unknown
    assert set(missing) <= {"embed_tokens.weight"}
    return language
