"""DivPrune against the official code's outputs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.pruning.divprune import cosine_distance, greedy_order


@pytest.mark.parametrize("name", ["divprune_gauss_n16_d8_r25", "divprune_gauss_n64_d32_r50"])
def test_the_greedy_order_is_the_official_one(name: str) -> None:
    case = np.load(Path("tests/cases") / f"{name}.npz")
    K = json.loads(str(case["meta_json"]))["num_keep"]
    order = greedy_order(cosine_distance(torch.from_numpy(case["features"])), K)
    assert order.tolist() == case["order"].tolist()


def test_exact_duplicates_never_repeat_an_index() -> None:
    case = np.load("tests/cases/divprune_quirk_duplicates.npz")  # the official code gives [1, 2, 0, 3, 1, 1]
    order = greedy_order(cosine_distance(torch.from_numpy(case["features"])), 6).tolist()
    assert len(set(order)) == 6
    assert order[:4] == [1, 2, 0, 3]


def test_scaling_a_token_changes_nothing() -> None:
    tokens = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    scaled = tokens * torch.linspace(0.5, 3, 20)[:, None]
    assert greedy_order(cosine_distance(tokens), 8).tolist() == greedy_order(cosine_distance(scaled), 8).tolist()
