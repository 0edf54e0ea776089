"""Both models in a row: images of a batch -> boxes and maps. One way back to the host for all of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from stages.masks.ahead import ahead
from stages.masks.base import CLASSES, Mask
from stages.masks.grounding.boxes import Found, Rules, select
from stages.masks.grounding.dino import Detector
from stages.masks.grounding.pixels import read_batch
from stages.masks.grounding.sam import Segmenter
from stages.scenes.base import Camera


@dataclass(frozen=True)
class Pipeline:
    """The detector finds boxes by phrases, the rules choose, the segmenter makes masks of them."""

    detector: Detector
    segmenter: Segmenter
    phrases: Sequence[str]
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

    def annotate(self, images: UInt8[Tensor, "B 3 H W"]) -> list[Mask]:
        """The masks of a batch that is on the host; of it only maps and boxes come back."""
        images = images.to(self.detector.device)
        found = self.find(images)
        maps = self.segmenter.maps(images, [one.boxes_xyxy for one in found], [one.classes for one in found])
        return [self._mask(one, *pair) for one, pair in zip(found, maps.cpu().numpy(), strict=True)]

    def stream(self, batches: Iterable[Sequence[Camera]]) -> Iterator[list[Mask]]:
        """The masks of one batch after another; the images of the next are read while the models work on this one."""
        return map(self.annotate, ahead(read_batch, batches, threads=1, most=1))

    def _mask(self, found: Found, classes: UInt8[np.ndarray, "H W"], layers: UInt8[np.ndarray, "H W"]) -> Mask:
        return Mask(
            foreground=classes > 0,
            phrases=tuple(self.phrases[i] for i in found.phrases.tolist()),
            boxes_xyxy=found.boxes_xyxy.cpu().numpy().astype(np.float32),
            classes=classes,
            layers=layers,
        )


def flat_phrases(phrases: Mapping[str, Sequence[str]], device: torch.device) -> tuple[list[str], Int[Tensor, " P"]]:
    """All phrases in the order of CLASSES, and the index of each one's class."""
    pairs = [(phrase, index) for index, name in enumerate(CLASSES) for phrase in phrases.get(name, ())]
    return [phrase for phrase, _ in pairs], torch.tensor([index for _, index in pairs], device=device)
