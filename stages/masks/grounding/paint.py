"""Masks of boxes into one class map. Pure torch, no synchronisation with the host."""

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from stages.masks.base import CLASSES

# Where masks overlap, the later class is seen: what stands on the road is in front of it, and the smaller thing was
# found because it is in sight. Background is 0.
ORDER = ("road", "vehicle", "barrier", "human", "sign")


def class_map(masks: Bool[Tensor, "M H W"], classes: Int[Tensor, " M"]) -> UInt8[Tensor, "H W"]:
    """Pixel -> 1 + index into CLASSES, 0 where no mask is. `classes` holds indices into CLASSES.

    Its pixels above 0 are the union of all masks.
    """
    if not len(masks):
        return masks.new_zeros(masks.shape[1:], dtype=torch.uint8)
    ranks = torch.tensor([1 + ORDER.index(name) for name in CLASSES], dtype=torch.uint8, device=masks.device)
    seen = (masks * ranks[classes][:, None, None]).amax(0)
    numbers = torch.tensor([0, *(1 + CLASSES.index(name) for name in ORDER)], dtype=torch.uint8, device=masks.device)
    return numbers[seen.long()]
