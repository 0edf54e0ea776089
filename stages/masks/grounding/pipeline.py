"""Both models in a row: images of a batch -> boxes and maps, copied back to the host once."""

import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from stages.core.errors import MachineError
from stages.masks.base import CLASSES, Mask, prefetch
from stages.masks.grounding.boxes import Found, Rules, select
from stages.masks.grounding.dino import Detector
from stages.masks.grounding.pixels import read_batch
from stages.masks.grounding.sam import Segmenter
from stages.scenes.base import Camera

log = logging.getLogger(__name__)


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
        """The masks of a batch that is on the host."""
        images = images.to(self.detector.device)
        found = self.find(images)
        maps = self.segmenter.maps(images, [one.boxes_xyxy for one in found], [one.classes for one in found])
        return [self._mask(one, *pair) for one, pair in zip(found, maps.cpu().numpy(), strict=True)]

    def stream(self, batches: Iterable[Sequence[Camera]]) -> Iterator[list[Mask]]:
        """The masks of one batch after another; the images of the next are read while the models work on this one."""
        return map(self.annotate, prefetch(read_batch, batches, threads=1, waiting=1))

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


def chosen_device(device: str) -> torch.device:
    """The device of this process: of several GPUs each local process takes another. Raises MachineError without it."""
    count = torch.cuda.device_count()
    if device == "auto" and not count:
        log.warning("grounded_sam: no GPU is seen here, so it works on the CPU, some hundred times slower")
    if device == "cpu" or (device == "auto" and not count):
        return torch.device("cpu")
    number = int(device[5:]) if device.startswith("cuda:") else _gpu_of_process(count)
    if number >= count:
        raise MachineError(
            expected=f"GPU {number} (annotators.grounded_sam.device: {device})",
            got=f"{count} GPUs that torch sees here",
            fix="set device: auto or cpu, or look at CUDA_VISIBLE_DEVICES and the driver with nvidia-smi",
        )
    return torch.device("cuda", number)


def _gpu_of_process(count: int) -> int:
    """The GPU of this process: workers of a pool have a number from 1 behind their name, others take the first."""
    number = multiprocessing.current_process().name.rpartition("-")[2]
    return (int(number) - 1) % count if number.isdecimal() and count else 0
