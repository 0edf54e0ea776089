"""SAM: boxes of an image -> masks by class, and which class is in sight. The package's own model.

Images in a batch, all boxes of an image in one call, no synchronisation with the host.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from stages.masks.base import CLASSES
from stages.masks.grounding.inputs import Source, fill, resized

_PLACE = "the list of model checkpoints in the README of github.com/facebookresearch/segment-anything"
SOURCES = {
    "vit_h": Source("sam_vit_h_4b8939.pth", _PLACE),
    "vit_l": Source("sam_vit_l_0b3195.pth", _PLACE),
    "vit_b": Source("sam_vit_b_01ec64.pth", _PLACE),
}

# Where masks overlap, the later class is in sight: what stands on the road is in front of it, and the smaller thing was
# found because it can be seen. The layers keep what it hides.
ORDER = ("road", "vehicle", "barrier", "human", "sign")


def build(size: str) -> nn.Module:
    """The model of a size with random weights."""
    from segment_anything import sam_model_registry

    model: nn.Module = sam_model_registry[size]()
    return model.eval()


def load(size: str, weights: Mapping[str, Tensor]) -> nn.Module:
    """The model with the weights of a checkpoint. Raises DataError when they are not exactly its own."""
    return fill(build(size), weights, f"SAM {size}", ())


class Segmenter:
    """The model on one device."""

    def __init__(self, model: nn.Module, device: torch.device, bf16: bool) -> None:
        self.model = cast(Any, model.to(device))  # its attributes are the package's
        self.device, self.bf16 = device, bf16

    @torch.inference_mode()
    def maps(
        self,
        images: UInt8[Tensor, "B 3 H W"],
        boxes_xyxy: Sequence[Float[Tensor, "_ 4"]],
        classes: Sequence[Int[Tensor, " _"]],
    ) -> UInt8[Tensor, "B 2 H W"]:
        """Class in sight and layers as bits, from the boxes of each image in its pixels; without: 0."""
        maps = images.new_zeros((len(images), 2, *images.shape[-2:]))
        busy = [i for i, found in enumerate(boxes_xyxy) if len(found)]
        if busy:
            features = self.features(images[busy])
            for row, image in enumerate(busy):
                masks = self.masks(features[row : row + 1], boxes_xyxy[image], images.shape[-2:])
                layers = by_class(masks, classes[image])
                maps[image] = torch.stack([in_sight(layers), as_bits(layers)])
        return maps

    def features(self, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Features of a batch from the image encoder."""
        inputs = self.model.preprocess(resized(images, self._inner_px(images.shape[-2:])))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            features: Tensor = self.model.image_encoder(inputs)
        return features

    def masks(
        self, features: Float[Tensor, "1 C h w"], boxes_xyxy: Float[Tensor, "M 4"], size: Sequence[int]
    ) -> Bool[Tensor, "M H W"]:
        """One mask per box, at `size` = (H, W) of the image."""
        inner_px = self._inner_px(size)
        scale = boxes_xyxy.new_tensor([inner_px[0] / size[1], inner_px[1] / size[0]]).repeat(2)
        # Prompts in full precision: bf16 has three digits, and a corner of a box needs four.
        sparse, dense = self.model.prompt_encoder(points=None, boxes=boxes_xyxy * scale, masks=None)
        places = self.model.prompt_encoder.get_dense_pe()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            low, _ = self.model.mask_decoder(
                image_embeddings=features,
                image_pe=places,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,  # a box leaves no doubt about the part that is meant
            )
        logits = self.model.postprocess_masks(low.float(), inner_px[::-1], tuple(size))[:, 0]
        masks: Tensor = logits > self.model.mask_threshold
        return masks

    def _inner_px(self, size: Sequence[int]) -> tuple[int, int]:
        """W, H of an image of (H, W) pixels within SAM's square."""
        from segment_anything.utils.transforms import ResizeLongestSide

        H, W = ResizeLongestSide.get_preprocess_shape(size[0], size[1], self.model.image_encoder.img_size)
        return W, H


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
