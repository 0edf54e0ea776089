"""A few rows of attention beside the kernel, against the layer's own eager attention."""

from typing import Any

import pytest
import torch

from stages.backbone.attention import causal_rows, layer_rows, rotate
from stages.backbone.qwen import Cache


@torch.no_grad()
@pytest.mark.parametrize("cached", [False, True])
def test_rows_are_those_of_the_layers_eager_attention(tiny_model: Any, cached: bool) -> None:
    language = tiny_model.model.language_model
    language.set_attn_implementation("eager")
    embeds = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(7).expand(3, 2, 7)
    cache = Cache(config=language.config)
    seen: list[torch.Tensor] = []
    hook = language.layers[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    output = language(
        inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True, output_attentions=True
    )
    hook.remove()
    angles = language.rotary_emb(embeds, positions)
    keys = cache.layers[1].keys if cached else None
    rows = layer_rows(language.layers[1], seen[0], angles, torch.ones(2, 7, dtype=torch.bool), 3, keys)
    torch.testing.assert_close(rows, output.attentions[1][:, :, -3:], atol=1e-6, rtol=1e-5)


def test_a_row_sees_itself_and_what_stands_before_without_padding() -> None:
    valid = torch.tensor([[False, True, True, True]])
    assert causal_rows(valid, 2)[0].int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 1]]


def test_a_quarter_turn_moves_the_first_half_to_the_second() -> None:
    turned = rotate(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.zeros(1, 4), torch.ones(1, 4))
    assert turned.tolist() == [[-3.0, -4.0, 1.0, 2.0]]
