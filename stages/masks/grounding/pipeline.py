"""Both models in a row: images of a batch -> boxes and class maps. One way back to the host for all of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from stages.masks.base import CLASSES
from stages.masks.grounding.boxes import Found, Rules, select
from stages.masks.grounding.dino import Detector
from stages.masks.grounding.sam import Segmenter


@dataclass(frozen=True)
class Pipeline:
    """The detector finds boxes by phrases, the rules choose, the segmenter makes masks of them."""

    detector: Detector
    segmenter: Segmenter
    class_of_phrase: Int[Tensor, " P"]
    rules: Rules

    def find(self, images: UInt8[Tensor, "B 3 H W"]) -> list[Found]:
        """The boxes of each image."""
        tokens, boxes = self.detector.find(images)
        size_px = (images.shape[-1], images.shape[-2])
        spans = self.detector.spans
        return [
            select(scores, places, spans, self.class_of_phrase, self.rules, size_px)
            for scores, places in zip(tokens, boxes, strict=True)
        ]

    def annotate(self, images: UInt8[Tensor, "B 3 H W"]) -> tuple[list[Found], UInt8[Tensor, "B H W"]]:
        """The boxes of each image, and the class maps, which alone leave the device."""
        found = self.find(images)
        maps = self.segmenter.class_maps(images, [one.boxes_xyxy for one in found], [one.classes for one in found])
        return found, maps.cpu()


def flat_phrases(phrases: Mapping[str, Sequence[str]], device: torch.device) -> tuple[list[str], Int[Tensor, " P"]]:
    """All phrases in the order of CLASSES, and the index of each one's class."""
    pairs = [(phrase, index) for index, name in enumerate(CLASSES) for phrase in phrases.get(name, ())]
    return [phrase for phrase, _ in pairs], torch.tensor([index for _, index in pairs], device=device)
