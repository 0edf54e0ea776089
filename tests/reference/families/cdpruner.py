"""CDPruner: relevance, scaled over the whole batch as the published code does, and the greedy order."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.pruning.cdpruner import greedy_map, kernel, relevance


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    image, text = torch.from_numpy(case["image_embeds"]), torch.from_numpy(case["text_embeds"])
    weights = relevance(image, text)
    np.testing.assert_allclose(weights, case["relevance"], rtol=1e-5, atol=2e-6)
    assert len(case["order"]) == len(case["features"]) == len(weights)
    for i, official in enumerate(case["order"].tolist()):
        order = greedy_map(kernel(torch.from_numpy(case["features"][i]), weights[i]), len(official))
        assert order.tolist() == official
        if "mask" in case:
            assert sorted(order.tolist()) == case["mask"][i].nonzero()[0].tolist()
