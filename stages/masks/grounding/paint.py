"""Masks of boxes by class, and which class is in sight. Pure torch, no synchronisation with the host."""

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from stages.masks.base import CLASSES

# Where masks overlap, the later class is in sight: what stands on the road is in front of it, and the smaller thing was
# found because it can be seen. The layers keep what it hides.
ORDER = ("road", "vehicle", "barrier", "human", "sign")


def by_class(masks: Bool[Tensor, "M H W"], classes: Int[Tensor, " M"]) -> Bool[Tensor, "C H W"]:
    """The union of the masks of each of CLASSES. `classes` holds indices into CLASSES."""
    return torch.stack([(masks & (classes == index)[:, None, None]).any(0) for index in range(len(CLASSES))])


def in_sight(layers: Bool[Tensor, "C H W"]) -> UInt8[Tensor, "H W"]:
    """Pixel -> 1 + index into CLASSES of what is in sight, 0 where there is no mask: above 0 is the union of all."""
    seen = layers.new_zeros(layers.shape[1:], dtype=torch.uint8)
    for name in ORDER:
        index = CLASSES.index(name)
        seen = torch.where(layers[index], seen.new_tensor(index + 1), seen)
    return seen


def as_bits(layers: Bool[Tensor, "C H W"]) -> UInt8[Tensor, "H W"]:
    """Pixel -> bit i is set where the layer of CLASSES[i] is."""
    values = 1 << torch.arange(len(layers), dtype=torch.uint8, device=layers.device)
    return (layers * values[:, None, None]).sum(0, dtype=torch.uint8)
