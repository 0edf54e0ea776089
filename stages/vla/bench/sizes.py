"""What is measured: the shapes of the paper's model and request, or small ones that a CPU runs in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages.backbone.qwen import Model, build_model
from stages.efficiency.shapes import PAPER_MODEL
from stages.files import read_json

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Sizes:
    """A model and a request."""

    name: str
    grid: tuple[int, int]  # (h, w) tokens of the image
    text: tuple[int, int]  # tokens before and after it
    percents: tuple[int, ...]  # pruned
    batch: int  # of the batched decode
    told: int  # answer tokens in one timed call

    @property
    def size_px(self) -> tuple[int, int]:
        """W, H of the image."""
        h, w = self.grid
        return 28 * w, 28 * h


TRUE = Sizes("3b", (57, 57), (15, 85), (25, 50, 75), 64, 16)  # 1596 x 1596: 3,249 tokens, and 100 of text
SMALL = Sizes("small", (6, 8), (3, 7), (25, 50, 75), 4, 4)

SMALL_CONFIG: dict[str, Any] = {
    "text_config": {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "bos_token_id": None,
        "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    },
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
        "window_size": 112,
    },
    "image_token_id": 60,
    "video_token_id": 61,
    "vision_start_token_id": 62,
    "vision_end_token_id": 63,
    "tie_word_embeddings": True,
}


def config_of(sizes: Sizes) -> Mapping[str, Any]:
    """The model's config.json."""
    if sizes.name == SMALL.name:
        return SMALL_CONFIG
    config: Mapping[str, Any] = read_json(ROOT / PAPER_MODEL, f"git checkout {PAPER_MODEL}")
    return config


def random_model(config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> Model:
    """Weights drawn on the device in `dtype`: nothing is downloaded, and nothing is held in fp32 meanwhile."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = build_model(dict(config))
    finally:
        torch.set_default_dtype(usual)
    return model.eval().requires_grad_(False)
