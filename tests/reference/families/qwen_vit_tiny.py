"""The vision tower of the installed transformers, in few calls and watched, against that of 4.51.3."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.qwen import hf
from stages.backbone.vision import Watch, grouped


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
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
    received = torch.cat([facts.importance[0] for facts in watch.of_images()]).numpy()
    np.testing.assert_allclose(received, case["pooled_attention"], rtol=1e-5)
    # Every query gives away 1 in all: the columns' sums add up to the patches, the pooled ones to the tokens
    np.testing.assert_allclose(received.sum() * 4, case["last_attn_column_sum_windowed"].sum(), rtol=1e-5)
