"""ReconPruner's network by the fast host's functions: fused products, in the precision of the tokens."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stages.backbone.mrope import image_positions
from stages.pruning.base import ImageScoringPruner, TokenView
from stages.pruning.recon import ReconPruner
from stages.vla.fast.attention import all_to_all
from stages.vla.fast.language import Language, angles_of, axes_of, layer_weights, run_layer
from stages.vla.fast.pointwise import PLAIN, Pointwise


class FastScorer(ImageScoringPruner):
    """The scores of a trained network in one dtype; in fp32 those of the network itself."""

    def __init__(self, network: ReconPruner, dtype: torch.dtype, device: torch.device, pointwise: Pointwise = PLAIN):
        stack = network.layer
        layer: Any = stack.layers[0]
        rotary = stack.rotary
        attention = layer.self_attn
        weights = layer_weights(layer, fused=True).of(device, dtype)
        self._language = Language(
            layers=(weights,),
            norm=weights.norm,  # there is no norm behind the layer
            eps=layer.input_layernorm.variance_epsilon,
            heads=attention.num_heads,
            kv_heads=attention.num_key_value_heads,
            head_width=attention.head_dim,
            inverse_frequencies=rotary.inv_freq.to(device, torch.float32),
            axes=axes_of(list(rotary.config.rope_parameters["mrope_section"]), device),
            angle_scaling=float(rotary.attention_scaling),
            pointwise=pointwise,
        )
        # (tokens - mean) / std, as a product and a sum
        self._scale = (1 / network.std).to(device, dtype)
        self._shift = (-network.mean / network.std).to(device, dtype)
        self._query = network.query.detach().to(device, dtype)
        self._scorer = tuple(part.detach().to(device, dtype) for part in (network.scorer.weight, network.scorer.bias))

    def score_image(self, view: TokenView) -> Float[Tensor, "B N"]:
        """The query at position 0 and the tokens behind it, all seeing all; a token scores by how it fits the query."""
        language, tokens = self._language, view.tokens
        B, N, _ = tokens.shape
        ids = F.pad(image_positions(view.grid, B, tokens.device) + 1, (1, 0))
        standard = torch.addcmul(self._shift, tokens.to(self._scale.dtype), self._scale)
        hidden = torch.cat([self._query.expand(B, 1, -1), standard], dim=1)
        angles = angles_of(language, ids, hidden.dtype)
        fused = run_layer(language, language.layers[0], hidden, angles, partial(all_to_all, scaling=language.scaling))
        return F.linear(fused[:, 1:] * fused[:, :1], *self._scorer).squeeze(-1).float()
