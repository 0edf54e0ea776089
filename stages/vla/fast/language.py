"""Qwen2.5-VL's language model as functions of a stock model's weights: what a graph can hold.

Decoder layers after Qwen2.5 (RMSNorm, biased q, k and v, grouped-query attention, SwiGLU), positions after M-RoPE;
tests hold the logits against transformers. No module runs, so nothing asks for a mask, a cache object or a device's
number on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stages.backbone.qwen import Model
from stages.vla.fast.pointwise import PLAIN, Pointwise

Matrices = tuple[Tensor, ...]  # side by side; one where they are fused


class Layer(NamedTuple):
    """Weights of one decoder layer."""

    norm: Tensor
    qkv: Matrices
    qkv_bias: Matrices
    out: Tensor
    norm_after: Tensor
    gate_up: Matrices
    down: Tensor

    def of(self, device: torch.device, dtype: torch.dtype) -> "Layer":
        """The same weights elsewhere, in another precision."""
        moved = (_moved(part, device, dtype) for part in self)
        return Layer(*moved)


def _moved(part: "Tensor | Matrices", device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(part, tuple):
        return tuple(one.detach().to(device, dtype) for one in part)
    return part.detach().to(device, dtype)


@dataclass(frozen=True)
class Language:
    """Weights and facts of a language model. Whatever is not fused is the stock model's own memory."""

    layers: tuple[Layer, ...]
    norm: Tensor
    eps: float
    heads: int
    kv_heads: int
    head_width: int
    inverse_frequencies: Float[Tensor, " half"]  # fp32, half a head
    axes: Int[Tensor, " half"]  # which of t, h, w turns each pair
    angle_scaling: float
    pointwise: Pointwise = PLAIN

    @property
    def scaling(self) -> float:
        """Of attention."""
        return float(self.head_width**-0.5)

    def cache_shape(self, B: int, places: int) -> tuple[int, int, int, int, int]:
        """Of the keys, and of the values."""
        return (len(self.layers), B, self.kv_heads, places, self.head_width)


def fused_or_not(parts: Matrices, fused: bool) -> Matrices:
    """One matrix for all outputs, in memory of its own; or the matrices as they are."""
    return (torch.cat(parts),) if fused else parts


def layer_weights(layer: Any, *, fused: bool) -> Layer:
    """The weights of a stock decoder layer."""
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    return Layer(
        norm=layer.input_layernorm.weight,
        qkv=fused_or_not(tuple(part.weight for part in projections), fused),
        qkv_bias=fused_or_not(tuple(part.bias for part in projections), fused),
        out=attention.o_proj.weight,
        norm_after=layer.post_attention_layernorm.weight,
        gate_up=fused_or_not((mlp.gate_proj.weight, mlp.up_proj.weight), fused),
        down=mlp.down_proj.weight,
    )


def axes_of(section: list[int], device: torch.device) -> Int[Tensor, " half"]:
    """Which axis turns each rotary pair: sections of pairs for t, h, w in turn."""
    return torch.tensor([i % 3 for i, pairs in enumerate(section) for _ in range(pairs)], device=device)


@torch.no_grad()
def language_of(model: Model, *, fused: bool = True, pointwise: Pointwise = PLAIN) -> Language:
    """The language model of a stock Qwen2.5-VL. `fused` costs memory: 3.6 GB at 3B in bf16."""
    stock, config = model.model.language_model, model.config.get_text_config()
    rotary = stock.rotary_emb
    device = stock.norm.weight.device
    return Language(
        layers=tuple(layer_weights(layer, fused=fused) for layer in stock.layers),
        norm=stock.norm.weight,
        eps=config.rms_norm_eps,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_width=config.hidden_size // config.num_attention_heads,
        inverse_frequencies=rotary.inv_freq.to(device, torch.float32),
        axes=axes_of(list(config.rope_parameters["mrope_section"]), device),
        angle_scaling=float(rotary.attention_scaling),
        pointwise=pointwise,
    )


Angles = tuple[Tensor, Tensor]  # cosines and sines, B L d each


def angles_of(language: Language, positions: Int[Tensor, "3 B L"], dtype: torch.dtype) -> Angles:
    """Rotary angles of M-RoPE ids, computed in fp32."""
    turned_by = positions.index_select(0, language.axes).permute(1, 2, 0).float()  # B L half
    angles = turned_by * language.inverse_frequencies
    both = torch.cat([angles, angles], dim=-1)
    return (both.cos() * language.angle_scaling).to(dtype), (both.sin() * language.angle_scaling).to(dtype)


def project(hidden: Tensor, matrices: Matrices, biases: Matrices | None = None) -> Tensor:
    """The outputs of all matrices side by side."""
    given = biases or (None,) * len(matrices)
    parts = [F.linear(hidden, matrix, bias) for matrix, bias in zip(matrices, given, strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer; q, k, v (B heads L d) -> (B heads l d), l is L or 1


def run_layers(
    language: Language,
    hidden: Float[Tensor, "B L D"],
    angles: Angles,
    attend: Attend,
    last: Int[Tensor, "1"] | None = None,
) -> Float[Tensor, "B l D"]:
    """The residual stream after all layers and the last norm: of all positions, or of `last` where it is given.

    Then `attend` answers for that one alone in the last layer.
    """
    ops, layers, eps = language.pointwise, language.layers, language.eps
    normed = ops.norm(hidden, layers[0].norm, eps)
    for i, layer in enumerate(layers):
        mixed = attend(i, *_queries_keys_values(language, layer, normed, angles))
        mixed = mixed.transpose(1, 2).flatten(2)
        if last is not None and i == len(layers) - 1:
            hidden = hidden.index_select(1, last)
        hidden, normed = ops.add_norm(hidden, F.linear(mixed, layer.out), layer.norm_after, eps)
        update = F.linear(ops.gate(project(normed, layer.gate_up)), layer.down)
        following = layers[i + 1].norm if i + 1 < len(layers) else language.norm
        hidden, normed = ops.add_norm(hidden, update, following, eps)
    return normed


def run_layer(
    language: Language,
    layer: Layer,
    hidden: Float[Tensor, "B L D"],
    angles: Angles,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Float[Tensor, "B L D"]:
    """One layer by itself: `hidden` after it, with no norm behind."""
    ops, eps = language.pointwise, language.eps
    mixed = attend(*_queries_keys_values(language, layer, ops.norm(hidden, layer.norm, eps), angles))
    update = F.linear(mixed.transpose(1, 2).flatten(2), layer.out)
    hidden, normed = ops.add_norm(hidden, update, layer.norm_after, eps)
    return hidden + F.linear(ops.gate(project(normed, layer.gate_up)), layer.down)


def _queries_keys_values(
    language: Language, layer: Layer, normed: Float[Tensor, "B L D"], angles: Angles
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys rotated, values as they are; heads before positions."""
    heads, kv_heads = language.heads, language.kv_heads
    parts = project(normed, layer.qkv, layer.qkv_bias).unflatten(-1, (-1, language.head_width))
    turned = language.pointwise.turn(parts[:, :, : heads + kv_heads], *angles)
    query, key = turned.split([heads, kv_heads], dim=2)
    return query.transpose(1, 2), key.transpose(1, 2), parts[:, :, heads + kv_heads :].transpose(1, 2)
