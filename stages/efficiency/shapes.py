"""The widths and depths of a Qwen2.5-VL model that its arithmetic and its weights depend on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Facts of the Hub's config.json files; `Qwen2_5_VLConfig()` is another model. Impromptu-VLA comes in both sizes;
# the paper runs the 3B one.
PAPER_MODEL = Path("infra/qwen2_5_vl_3b.json")
PAPER_MODEL_7B = Path("infra/qwen2_5_vl_7b.json")


@dataclass(frozen=True)
class VisionShape:
    """The vision tower up to and with the 2x2 merger."""

    depth: int
    width: int
    mlp_width: int
    patch_px: int
    patch_values: int  # numbers in one patch: channels x frames x patch_px^2
    merge: int  # side of the square of patches that becomes one token
    window_px: int
    full_blocks: tuple[int, ...]  # blocks that attend over the whole image; the others within windows
    out_width: int  # D

    @property
    def window_tokens(self) -> int:
        """Side of a window in merged tokens."""
        return self.window_px // self.patch_px // self.merge


@dataclass(frozen=True)
class LanguageShape:
    """The decoder: grouped-query attention, gated MLP, an output head that costs the same tied or not."""

    layers: int
    width: int  # D
    heads: int
    key_value_heads: int
    head_width: int
    mlp_width: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Entries of the seven matrices of one layer."""
        attention = 2 * self.width * self.head_width * (self.heads + self.key_value_heads)
        return attention + 3 * self.width * self.mlp_width

    @property
    def layer_parameters(self) -> int:
        """Matrices, biases of q, k and v, and two norms: all that one layer learns."""
        biases = self.head_width * (self.heads + 2 * self.key_value_heads)
        return self.layer_weights + biases + 2 * self.width


@dataclass(frozen=True)
class ModelShape:
    """Vision tower and decoder of one model."""

    vision: VisionShape
    language: LanguageShape

    @property
    def pruner_parameters(self) -> int:
        """ReconPruner on this model: one decoder layer, the query (D), the scorer (D + 1); Eq. 1-2."""
        return self.language.layer_parameters + 2 * self.language.width + 1


def model_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shapes in a Qwen2.5-VL `config.json` that keeps `text_config` and `vision_config` apart."""
    return ModelShape(_vision_shape(config["vision_config"]), _language_shape(config["text_config"]))


def _vision_shape(config: Mapping[str, Any]) -> VisionShape:
    return VisionShape(
        depth=config["depth"],
        width=config["hidden_size"],
        mlp_width=config["intermediate_size"],
        patch_px=config["patch_size"],
        patch_values=config["in_channels"] * config["temporal_patch_size"] * config["patch_size"] ** 2,
        merge=config["spatial_merge_size"],
        window_px=config["window_size"],
        full_blocks=tuple(config["fullatt_block_indexes"]),
        out_width=config["out_hidden_size"],
    )


def _language_shape(config: Mapping[str, Any]) -> LanguageShape:
    heads = config["num_attention_heads"]
    return LanguageShape(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=heads,
        key_value_heads=config["num_key_value_heads"],
        head_width=config.get("head_dim") or config["hidden_size"] // heads,
        mlp_width=config["intermediate_size"],
        vocabulary=config["vocab_size"],
    )
