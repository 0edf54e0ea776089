"""VisionZip: dominant tokens, targets, and the merged tokens. Row 0 of a case is the CLS token, which is also kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.pruning.visionzip import contextual_targets, dominant, merge, others


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    attention = torch.from_numpy(case["cls_attention"])
    hidden, metric = (torch.from_numpy(case[name][:, 1:]) for name in ("hidden", "metric"))
    N, count = attention.shape[2], meta["contextual"]
    kept = dominant(attention.sum(dim=1), meta["dominant"])
    assert (kept + 1).tolist() == case["dominant_topk"].tolist()
    np.testing.assert_array_equal(np.pad((kept + 1).numpy(), ((0, 0), (1, 0))), case["all_indices"])
    left = others(kept, N)
    places = contextual_targets(torch.arange(left.shape[1])[None], count)
    assert places[0].tolist() == case["target_indices"].tolist()
    targets = contextual_targets(left, count)
    rest = others(torch.cat([kept, targets], dim=1), N)
    merged = torch.stack([merge(metric[i], hidden[i], targets[i], rest[i]) for i in range(len(kept))]).numpy()
    np.testing.assert_allclose(merged, case["contextual_tokens"], rtol=1e-5, atol=1e-5)
    plain = np.stack(
        [tokens[indices] for tokens, indices in zip(hidden.numpy(), kept.sort().values.numpy(), strict=True)]
    )
    np.testing.assert_allclose(
        case["tokens_out"], np.concatenate([case["hidden"][:, :1], plain, merged], axis=1), rtol=1e-5, atol=1e-5
    )
