"""Tokens dropped before and inside real Qwen2.5-VL decoder layers, through the hooks that the host puts on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.qwen import Cache, hf
from stages.pruning.base import Kept, Pruner, TokenView
from stages.pruning.fastv import Pruner as FastV
from stages.vla.cutting import Cutter, Group
from stages.vla.reading import Reading, hooked


class Listed(Pruner):
    """Keeps the tokens of a list."""

    def __init__(self, kept: list[int]) -> None:
        self.kept = kept

    def select(self, view: TokenView, K: int) -> Kept:
        return Kept(torch.tensor([self.kept]))


@torch.no_grad()
def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
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


def read(language: Any, pruner: Pruner, prompt: tuple[Any, Any], case: Mapping[str, NDArray]) -> tuple[Any, Any, Any]:
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


def language_of(case: Mapping[str, NDArray], meta: dict[str, Any]) -> Any:
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
