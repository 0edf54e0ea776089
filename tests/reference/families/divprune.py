"""DivPrune: the greedy order is exact in fp32; where it repeats an index on duplicates, ours must not."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.pruning.divprune import cosine_distance, greedy_order


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    distance = cosine_distance(torch.from_numpy(case["features"]))
    order = greedy_order(distance, meta["num_keep"]).numpy()
    if "distance" in case:
        np.testing.assert_allclose(distance.numpy()[: len(case["distance"])], case["distance"], atol=2e-6)
    if len(set(case["order"].tolist())) < len(case["order"]):
        check_duplicates(case, order)
    else:
        assert order.tolist() == case["order"].tolist()
        assert sorted(order.tolist()) == case["keep_sorted"].tolist()


def check_duplicates(case: Mapping[str, NDArray], order: NDArray) -> None:
    """Unique indices; as many first picks as there are distinct vectors are one of each, in the official order."""
    distinct = len(np.unique(case["features"], axis=0))
    official = case["order"]
    assert len(set(order.tolist())) == len(order) == len(official)
    first = min(distinct, len(order))
    np.testing.assert_array_equal(case["features"][order[:first]], case["features"][official[:first]])
    # The official code repeats an index from there on: a case that does not is damaged
    assert set(official[first:].tolist()) <= set(official[:first].tolist())
    if "keep_sorted" in case:
        assert sorted(set(official.tolist())) == sorted(set(case["keep_sorted"].tolist()))
