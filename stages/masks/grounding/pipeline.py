"""Both models in a row: images of a batch -> boxes that are worth a mask -> maps, copied back to the host once.

Letters: Q queries, T tokens of the caption, P phrases, M boxes. A phrase is named by the tokens that are its own.
"""

import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from stages.core.errors import MachineError
from stages.masks.base import CLASSES, Mask, prefetch
from stages.masks.grounding.dino import Detector
from stages.masks.grounding.inputs import read_batch
from stages.masks.grounding.sam import Segmenter
from stages.scenes.base import Camera

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rules:
    """Which boxes are kept."""

    box_threshold: float  # a box is kept when a token of a phrase scores more
    text_threshold: float  # a phrase can name a box when one of its tokens scores more
    nms_iou: float  # of two boxes of one class that overlap more, the lower score goes
    smallest_box_px: float  # the shorter side of a box is at least this
    largest_box_shares: tuple[float, ...]  # by class, of the image's area
    most_boxes: int  # of an image, the highest scores


@dataclass(frozen=True)
class Detections:
    """The boxes of one image, highest score first."""

    boxes_xyxy: Float[Tensor, "M 4"]  # pixels of the image
    phrases: Int[Tensor, " M"]  # number of the phrase that names the box
    classes: Int[Tensor, " M"]  # index into CLASSES of that phrase
    scores: Float[Tensor, " M"]


@dataclass(frozen=True)
class Pipeline:
    """The detector finds boxes by phrases, the rules choose, the segmenter makes masks of them."""

    detector: Detector
    segmenter: Segmenter
    phrases: Sequence[str]
    class_of_phrase: Int[Tensor, " P"]
    rules: Rules

    def find(self, images: UInt8[Tensor, "B 3 H W"]) -> list[Detections]:
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
        detections = self.find(images)
        boxes, classes = [each.boxes_xyxy for each in detections], [each.classes for each in detections]
        maps = self.segmenter.maps(images, boxes, classes)
        return [self._mask(each, *pair) for each, pair in zip(detections, maps.cpu().numpy(), strict=True)]

    def stream(self, batches: Iterable[Sequence[Camera]]) -> Iterator[list[Mask]]:
        """The masks of one batch after another; the images of the next are read while the models work on this one."""
        return map(self.annotate, prefetch(read_batch, batches, threads=1, waiting=1))

    def _mask(
        self, detections: Detections, classes: UInt8[np.ndarray, "H W"], layers: UInt8[np.ndarray, "H W"]
    ) -> Mask:
        return Mask(
            foreground=classes > 0,
            phrases=tuple(self.phrases[i] for i in detections.phrases.tolist()),
            boxes_xyxy=detections.boxes_xyxy.cpu().numpy().astype(np.float32),
            classes=classes,
            layers=layers,
        )


def name_boxes(
    tokens: Float[Tensor, "Q T"], spans: Bool[Tensor, "P T"], text_threshold: float
) -> tuple[Int[Tensor, " Q"], Float[Tensor, " Q"]]:
    """The phrase of each query, and its score; 0 where no phrase has a token above `text_threshold`.

    Score is the best token's, as the package's own demo takes it; the phrase is the one with the highest mean, because
    in "traffic light" and "traffic sign" the best token may be the common one.
    """
    best = tokens[:, None].masked_fill(~spans, 0).amax(-1)  # Q P
    mean = tokens @ spans.T.to(tokens.dtype) / spans.sum(-1)
    named = best > text_threshold
    phrase = mean.masked_fill(~named, -1).argmax(-1)
    return phrase, best.amax(-1).masked_fill(~named.any(-1), 0)


def to_pixels(boxes: Float[Tensor, "M 4"], size_px: tuple[int, int]) -> Float[Tensor, "M 4"]:
    """Centre, width and height as shares of the image -> x0, y0, x1, y1 in pixels, cut at the edges of W, H."""
    scale = boxes.new_tensor([*size_px, *size_px])
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], 1) * scale
    return torch.minimum(corners.clamp(min=0), scale)


def within_limits(
    boxes: Float[Tensor, "M 4"], classes: Int[Tensor, " M"], rules: Rules, size_px: tuple[int, int]
) -> Bool[Tensor, " M"]:
    """Neither too thin nor too large for their class."""
    sides = boxes[:, 2:] - boxes[:, :2]
    largest = boxes.new_tensor(rules.largest_box_shares)[classes] * (size_px[0] * size_px[1])
    return (sides.amin(1) >= rules.smallest_box_px) & (sides.prod(1) <= largest)


def suppress(
    boxes: Float[Tensor, "M 4"], scores: Float[Tensor, " M"], classes: Int[Tensor, " M"], iou: float
) -> Int[Tensor, " K"]:
    """Indices that are kept, highest score first; only boxes of one class suppress each other."""
    from torchvision.ops import batched_nms

    kept: Tensor = batched_nms(boxes, scores, classes, iou)
    return kept


def select(
    tokens: Float[Tensor, "Q T"],
    boxes: Float[Tensor, "Q 4"],
    spans: Bool[Tensor, "P T"],
    class_of_phrase: Int[Tensor, " P"],
    rules: Rules,
    size_px: tuple[int, int],
) -> Detections:
    """The boxes of one image of W, H pixels, from scores of tokens in [0, 1] and boxes as centre, width and height."""
    phrases, scores = name_boxes(tokens, spans, rules.text_threshold)
    corners, classes = to_pixels(boxes, size_px), class_of_phrase[phrases]
    near = (scores > rules.box_threshold) & within_limits(corners, classes, rules, size_px)
    corners, phrases, classes, scores = corners[near], phrases[near], classes[near], scores[near]
    kept = suppress(corners, scores, classes, rules.nms_iou)[: rules.most_boxes]
    return Detections(corners[kept], phrases[kept], classes[kept], scores[kept])


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
