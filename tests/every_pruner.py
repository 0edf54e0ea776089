"""Every module of stages/pruning, ready to be asked: with weights, with a truth, with attention to look at."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import token_views
import torch
from PIL import Image
from token_views import rows

from stages.backbone.attention import VisionFacts
from stages.backbone.qwen import DecoderShape
from stages.pruning import base, checkpoint
from stages.pruning.base import Pruner, ScoringPruner
from stages.pruning.recon import ReconPruner
from stages.pruning.view import Grid, TokenView

WIDTH = 24
METHODS = base.available()
RULERS = {"oracle", "inverse", "masked_text_attention"}  # they alone may look up the truth
LAYERED = {"fastv": 1, "text_attention": 1, "masked_text_attention": 1, "tfps": 1, "sparsevlm": 0}  # of 2 layers
SHAPE = DecoderShape(width=WIDTH, heads=2, kv_heads=1, mlp=32, rope_theta=10.0, mrope_section=(2, 2, 2))
TRAINED = {
    "recon": {"objective": "reconstruction", "adversarial": True},
    "foreground_only": {"objective": "reconstruction", "adversarial": False},
    "mask_prediction": {"objective": "mask_prediction", "adversarial": True},
}
IMAGES = 6  # sample_data tokens with a truth


@cache
def folder() -> Path:
    """Checkpoints of trained methods, and the truth of the rulers: class maps of noise."""
    root = Path(mkdtemp())
    torch.manual_seed(0)
    for name, learned in TRAINED.items():
        checkpoint.save(root / name, ReconPruner(SHAPE), {"layer": asdict(SHAPE), "encoder": "encoder", **learned})
    (root / "oracle" / "scene-0").mkdir(parents=True)
    for i in range(IMAGES):
        classes = np.random.default_rng(i).integers(0, 6, (40, 60), np.uint8)
        Image.fromarray(classes).save(root / "oracle" / "scene-0" / f"front{i}.png")
    return root


@cache
def load(name: str) -> Pruner:
    """The pruner `name`, for tokens of WIDTH and a language model of two layers. A new one needs no entry here."""
    options: dict[str, Any] = {
        "random_keep": {"seed": 1},
        "oracle": {"oracle_root": str(folder() / "oracle"), "fit": "stretch"},
        "inverse": {"oracle_root": str(folder() / "oracle"), "fit": "stretch"},
        **{method: {"checkpoint": str(folder() / method)} for method in TRAINED},
    }.get(name, {"layer": LAYERED[name]} if name in LAYERED else {})
    return base.load(name, options)


def make_view(B: int, grids: tuple[Grid, ...] = ((4, 6),), seed: int = 0) -> TokenView:
    """Random tokens of B prompts with images of `grids`, and all else that a pruner may ask for."""
    view = token_views.make_view(B, grids, seed, WIDTH)
    return replace(view, sources=tuple(f"front{i % IMAGES}" for i in range(B * len(grids))))


def row(view: TokenView, i: int) -> TokenView:
    """One prompt of a batch."""
    return rows(view, slice(i, i + 1))


def permuted(view: TokenView, order: torch.Tensor) -> TokenView:
    """The same tokens in another order, all that is known of each moved along; for methods that know no places."""
    attention: Callable[[int], torch.Tensor] | None = view.attention
    assert view.vision is not None
    assert view.inputs is not None
    assert attention is not None
    return replace(
        view,
        tokens=view.tokens[:, order],
        vision=VisionFacts(view.vision.importance[:, order], view.vision.features[:, order]),
        inputs=view.inputs[:, order],
        attention=lambda n: attention(n)[..., order],
    )


def ranking(name: str) -> bool:
    """Does the method rank tokens once, whatever is to stay?"""
    return isinstance(load(name), ScoringPruner)
