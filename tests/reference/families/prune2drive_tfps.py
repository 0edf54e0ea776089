"""T-FPS of Prune2Drive: the greedy order within one camera."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from stages.backbone.mrope import image_positions
from stages.pruning.base import TokenView
from stages.pruning.divprune import cosine_distance, greedy_order
from stages.pruning.tfps import Pruner


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    features, K = torch.from_numpy(case["features"]), meta["k"]
    assert greedy_order(cosine_distance(features), K).tolist() == case["order"].tolist()
    grid = (1, len(features))
    view = TokenView(features[None], (grid,), image_positions(grid, 1), ("case",), "encoder")
    assert Pruner().select(view, K).indices[0].tolist() == sorted(case["order"].tolist())
