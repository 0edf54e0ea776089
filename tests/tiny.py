"""A Qwen2.5-VL of a few thousand weights with the toy's vocabulary: the real classes at dummy width."""

import torch

from stages.backbone.qwen import DecoderShape, Model, build_model
from stages.toy_driver.checkpoint import config

VISION = {"depth": 2, "width": 16, "mlp": 24, "heads": 2, "full_attention": [1]}
LAYER = {"width": 24, "mlp": 32, "heads": 2, "kv_heads": 1, "rope_theta": 10.0}
LANGUAGE = {**LAYER, "layers": 2, "mrope_section": [2, 2, 2]}
SHAPE = DecoderShape(**LAYER, mrope_section=(2, 2, 2))  # of a layer of such a model


def make_tiny_model(seed: int = 0) -> Model:
    """Random weights, large enough that logits differ."""
    torch.manual_seed(seed)
    model = build_model(config(VISION, LANGUAGE, positions=256))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model.eval()
