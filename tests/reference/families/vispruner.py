"""VisPruner: the important tokens in rank order, the diverse ones in loop order, and settings that the code refuses."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from stages.pruning.vispruner import choose


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    if "table" in case:
        check_table(case["table"])
        return
    attention = torch.from_numpy(case["attention"])
    importance = attention if attention.ndim == 2 else attention.mean(dim=1)
    ratio = meta["important_ratio"] if "important_ratio" in meta else meta["important_ratio_nominal"]
    assert len(importance) == len(case["important"]) == len(case["diverse"])
    for i in range(len(importance)):
        official = case["important"][i].tolist(), case["diverse"][i].tolist()
        for name, found in {"mask": lambda row: row.nonzero()[0], "keep_sorted": lambda row: row}.items():
            if name in case:
                assert found(case[name][i]).tolist() == sorted([*official[0], *official[1]])
        rows = importance[i], torch.from_numpy(case["features"][i])
        important, diverse = (part.tolist() for part in choose(*rows, meta["visual_token_num"], ratio))
        assert important == official[0]
        if meta.get("robust_to_1e6_noise", True):
            assert diverse == official[1]
        else:  # rounding decides
            assert len({*diverse}) == len(official[1])
            assert len({*diverse} & {*official[1]}) >= 0.7 * len(official[1])
            assert not {*important} & {*diverse}


def check_table(table: NDArray) -> None:
    """Rows of N, K, ratio, does the official code run, and how many tokens it then keeps; ours keeps K each time."""
    random = torch.Generator().manual_seed(0)
    for row in table:
        N, K = int(row[0]), int(row[1])
        importance, features = torch.rand(N, generator=random), torch.randn(N, 16, generator=random)
        kept = torch.cat(choose(importance, features, K, float(row[2]))).tolist()
        assert len(kept) == len(set(kept)) == K, f"{N} tokens, {K} kept, ratio {row[2]}"
        assert row[4] == (K if row[3] else -1), f"{N} tokens, {K} kept, ratio {row[2]}"
