"""Both models in a row: images of a batch -> boxes that are worth a mask -> maps, copied back to the host once.

Letters: Q queries, T tokens of the caption, P phrases, M boxes. A phrase is named by the tokens that are its own.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from stages.core.errors import DataError, MachineError
from stages.core.shards import own_device
from stages.masks.base import Mask, prefetch
from stages.masks.grounding.models import Detector, Segmenter
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

    def annotate(self, images: UInt8[Tensor, "B 3 H W"]) -> list[Mask]:
        """Return the masks of a batch that is on the host."""
        images = images.to(self.detector.device)
        size_px = (images.shape[3], images.shape[2])
        found = [
            select(tokens, boxes, self.detector.spans, self.class_of_phrase, self.rules, size_px)
            for tokens, boxes in zip(*self.detector.find(images), strict=True)
        ]
        maps = self.segmenter.maps(images, [each.boxes_xyxy for each in found], [each.classes for each in found])
        return [self._mask(each, *pair) for each, pair in zip(found, maps.cpu().numpy(), strict=True)]

    def stream(self, batches: Iterable[Sequence[Camera]]) -> Iterator[list[Mask]]:
        """Yield the masks of one batch after another; the next images are read while the models work on these."""
        return map(self.annotate, prefetch(read_batch, batches, threads=1, waiting=1))

    def _mask(self, found: Detections, classes: UInt8[np.ndarray, "H W"], layers: UInt8[np.ndarray, "H W"]) -> Mask:
        return Mask(
            foreground=classes > 0,
            phrases=tuple(self.phrases[i] for i in found.phrases.tolist()),
            boxes_xyxy=found.boxes_xyxy.cpu().numpy().astype(np.float32),
            classes=classes,
            layers=layers,
        )


def read_batch(cameras: Sequence[Camera]) -> UInt8[Tensor, "B 3 H W"]:
    """RGB images of one size, decoded side by side (Pillow releases the interpreter's lock).

    Raises DataError when an image is missing, truncated, does not decode, or has another size than its record or the
    first of the batch.
    """
    sizes = {camera.size_px for camera in cameras}
    if len(sizes) != 1:
        got = ", ".join(f"{W} x {H}" for W, H in sorted(sizes))
        raise DataError(expected="images of one size in a batch", got=got, fix="set images_at_once: 1")
    with ThreadPoolExecutor(min(len(cameras), os.cpu_count() or 1)) as pool:
        return torch.from_numpy(np.stack(list(pool.map(_read, cameras)))).permute(0, 3, 1, 2)


def _read(camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
    """One image, whole and as large as its record says; OpenCV would paint what is cut off grey without a word."""
    W, H = camera.size_px
    try:
        data = camera.path.read_bytes()
        pixels = np.array(Image.open(BytesIO(data)).convert("RGB"))
        if data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise ValueError("a JPEG without an end marker")  # zeros after its scan began
        if pixels.shape[:2] != (H, W):
            raise ValueError(f"one of {pixels.shape[1]} x {pixels.shape[0]}")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, of a damaged PNG
        raise DataError(
            expected=f"an image of {W} x {H} in {camera.path} (sample_data {camera.token})",
            got=str(error),
            fix="fetch the file again (embedded: `dvc repro make_world`)",
        ) from error
    return pixels


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


def select(
    tokens: Float[Tensor, "Q T"],
    boxes: Float[Tensor, "Q 4"],
    spans: Bool[Tensor, "P T"],
    class_of_phrase: Int[Tensor, " P"],
    rules: Rules,
    size_px: tuple[int, int],
) -> Detections:
    """The boxes of one image of W, H pixels, from scores of tokens in [0, 1] and boxes as centre, width and height.

    They are cut at the edges; only boxes of one class suppress each other.
    """
    from torchvision.ops import batched_nms

    phrases, scores = name_boxes(tokens, spans, rules.text_threshold)
    classes, scale = class_of_phrase[phrases], boxes.new_tensor([*size_px, *size_px])
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.minimum((torch.cat([centre - half, centre + half], 1) * scale).clamp(min=0), scale)
    sides = corners[:, 2:] - corners[:, :2]
    largest = corners.new_tensor(rules.largest_box_shares)[classes] * (size_px[0] * size_px[1])
    fits = (sides.amin(1) >= rules.smallest_box_px) & (sides.prod(1) <= largest)
    near = (scores > rules.box_threshold) & fits
    corners, phrases, classes, scores = corners[near], phrases[near], classes[near], scores[near]
    kept = batched_nms(corners, scores, classes, rules.nms_iou)[: rules.most_boxes]
    return Detections(corners[kept], phrases[kept], classes[kept], scores[kept])


def chosen_device(device: str) -> torch.device:
    """The device of this process: of several GPUs each local process takes another. Raises MachineError without it."""
    count = torch.cuda.device_count()
    if device == "auto" and not count:
        log.warning("grounded_sam: no GPU is seen here, so it works on the CPU, some hundred times slower")
    number = int(device.partition(":")[2] or 0)
    if device.startswith("cuda") and number >= count:
        raise MachineError(
            expected=f"GPU {number} (annotators.grounded_sam.device: {device})",
            got=f"{count} GPUs that torch sees here",
            fix="set device: auto or cpu, or look at CUDA_VISIBLE_DEVICES and the driver with nvidia-smi",
        )
    return torch.device(own_device() if device in ("auto", "cuda") else device)
