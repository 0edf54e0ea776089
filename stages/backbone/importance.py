"""What the last full-attention block of the vision tower thinks of each token, without its S x S attention.

Qwen2.5-VL has no CLS token. The authors of VisPruner (issue 1 of their repository) take the attention that a token
receives from all others, merged 2 x 2 as the tokens are; research/pruning.md 1.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK_ROWS = 256  # 256 rows x 12,996 columns x 16 heads in fp32 are 213 MB, held twice; all rows would be 10.8 GB


@dataclass(frozen=True)
class VisionFacts:
    """What the last full-attention block of the vision tower knows of each merged token."""

    importance: Float[Tensor, "B N"]  # attention received: mean over heads, sum over queries, mean of its four patches
    features: Float[Tensor, "B N C"]  # its keys before rotation: mean over heads, mean of its four patches


def attention_received(
    query: Float[Tensor, "heads S d"], key: Float[Tensor, "heads S d"], scaling: float, block_rows: int = BLOCK_ROWS
) -> Float[Tensor, " S"]:
    """Column sums of the softmax attention over all queries, mean over heads, in fp32; `block_rows` rows at a time."""
    received = torch.zeros(key.shape[1], device=key.device)
    columns = key.float().transpose(1, 2)
    for rows in query.split(block_rows, dim=1):
        received += ((rows.float() @ columns) * scaling).softmax(dim=-1).sum(dim=1).mean(dim=0)
    return received


def of_units(patches: Float[Tensor, "S ..."], unit: int, index: Int[Tensor, " M"]) -> Float[Tensor, "M ..."]:
    """Means over the `unit` patches of each merged token, from window order (`index`) back to reading order."""
    means = patches.unflatten(0, (-1, unit)).mean(dim=1)
    return torch.empty_like(means).index_copy_(0, index, means)


def batched(facts: Sequence[VisionFacts]) -> VisionFacts:
    """Records of equal-sized images as one batch."""
    return VisionFacts(torch.cat([f.importance for f in facts]), torch.cat([f.features for f in facts]))
