"""Foreground by Grounded-SAM, as the paper made nuScenes-FG: Grounding DINO finds phrases, SAM outlines what it found.

Sizes, thresholds and phrases are not stated in the paper; the defaults are those of the official demos. Weights are
files named by path and sha256. The network is never asked.

Letters: Q queries, T tokens of the caption, P phrases, M boxes. A phrase is named by the tokens that are its own.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from stages.core.errors import DataError, MachineError, ParamsError
from stages.core.shards import own_device
from stages.masks import base, grounding
from stages.masks.base import CLASSES, Mask, prefetch
from stages.masks.grounding import DINO_SOURCES, SAM_SOURCES, Detector, Segmenter
from stages.scenes.base import Camera, Frame

log = logging.getLogger(__name__)
PACKAGES = ("groundingdino", "segment_anything", "torchvision")


@dataclass(frozen=True)
class Annotator(base.Annotator):
    """One set of models in one process; they are loaded with the first image."""

    reads_images: ClassVar[bool] = True

    scenes: object
    dino: str = "swin_t"  # swin_t, swin_b
    dino_checkpoint: str = "models/grounded_sam/groundingdino_swint_ogc.pth"
    dino_sha256: str | None = None  # None: refused until it is named
    text_encoder: str = "models/grounded_sam/bert-base-uncased"  # folder with config.json and the tokenizer's files
    sam: str = "vit_h"  # vit_h, vit_l, vit_b
    sam_checkpoint: str = "models/grounded_sam/sam_vit_h_4b8939.pth"
    sam_sha256: str | None = None
    phrases: Mapping[str, Sequence[str]] | None = None  # class -> what is looked for; None: the class names
    box_threshold: float = 0.35  # a box is kept when a token of a phrase scores more
    text_threshold: float = 0.25  # a phrase can name a box when one of its tokens scores more
    nms_iou: float = 0.8  # of two boxes of one class that overlap more, the lower score goes
    smallest_box_px: float = 4.0  # of the shorter side
    largest_box_shares: Mapping[str, float] | None = None  # class -> share of the image; a class that is absent: 1
    most_boxes: int = 100  # of an image, the highest scores
    images_at_once: int = 8
    bf16: bool = True
    device: str = "auto"  # auto: a GPU where there is one, each local process another; cpu; cuda; cuda:1

    def __post_init__(self) -> None:
        """Before any image: raises MachineError without the packages, ParamsError for a value that cannot be, DataError
        for a file that is not there.
        """
        if absent := [name for name in PACKAGES if find_spec(name) is None]:
            then, got = "install the extra `masks` of pyproject.toml", f"no {', '.join(absent)} here"
            raise MachineError(expected="the packages of grounded_sam", got=got, fix=then)
        phrases, shares = self.phrases or {}, self.largest_box_shares or {}
        lists = not any(isinstance(some, str) for some in phrases.values())
        checks = [
            ("dino", self.dino in DINO_SOURCES, f"one of {', '.join(DINO_SOURCES)}"),
            ("sam", self.sam in SAM_SOURCES, f"one of {', '.join(SAM_SOURCES)}"),
            *(
                (key, 0 < getattr(self, key) < 1, "a number between 0 and 1")
                for key in ("box_threshold", "text_threshold", "nms_iou")
            ),
            *((key, getattr(self, key) > 0, "a positive number") for key in ("most_boxes", "images_at_once")),
            ("device", re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device), "auto, cpu, cuda or cuda:<number>"),
            ("phrases", lists and {*phrases} <= {*CLASSES}, f"a list of words for each class ({', '.join(CLASSES)})"),
            ("largest_box_shares", {*shares} <= {*CLASSES}, f"only {', '.join(CLASSES)}"),
        ]
        for key, good, expected in checks:
            if not good:
                fix = f"edit annotators.grounded_sam.{key} in params.yaml"
                raise ParamsError(expected=f"{expected} as {key}", got=repr(getattr(self, key)), fix=fix)
        grounding.require(Path(self.dino_checkpoint), self.dino_sha256, DINO_SOURCES[self.dino], "dino_sha256")
        grounding.require(Path(self.sam_checkpoint), self.sam_sha256, SAM_SOURCES[self.sam], "sam_sha256")
        grounding.require_text_encoder(Path(self.text_encoder))

    @property
    def gpus(self) -> int | None:
        """Those that are here, or the one that is named; None on the CPU."""
        return None if self.device == "cpu" else 1 if ":" in self.device else torch.cuda.device_count()

    def reads(self, frame: Frame) -> Sequence[object]:
        """Nothing but the images."""
        return ()

    def annotate(self, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]:
        """The masks of images of one size, all in one batch: classes in sight and hidden, a phrase and box per object.

        Raises DataError for an image that cannot be read, and for a checkpoint that is not what params say;
        MachineError when the device is not there or has too little memory.
        """
        return next(self.stream([images])) if images else []

    def stream(self, batches: Iterable[Sequence[tuple[Frame, Camera]]]) -> Iterator[list[Mask]]:
        """As `annotate` gives them, batch after batch; the images of the next are read meanwhile."""
        cameras = ([camera for _, camera in images] for images in batches)
        try:
            yield from map(self._masks, prefetch(read_batch, cameras, threads=1, waiting=1))
        except torch.OutOfMemoryError as error:
            raise MachineError(
                expected=f"memory for {self.images_at_once} images at once on the GPU",
                got=str(error).splitlines()[0],
                fix="lower annotators.grounded_sam.images_at_once in params.yaml, or free the GPU of other processes",
            ) from error

    @staticmethod
    def input_files(options: Mapping[str, object]) -> list[Path]:
        """Files beside the checkpoints, which params name by their hash, that shape the masks: how the text is read."""
        folder = Path(str(options.get("text_encoder", Annotator.text_encoder)))
        return sorted(path for suffix in ("json", "txt") for path in folder.glob(f"*.{suffix}"))

    def _masks(self, images: UInt8[Tensor, "B 3 H W"]) -> list[Mask]:
        """The masks of a batch that is on the host, to which the maps are copied back at once."""
        detector, segmenter, class_of_phrase = self._models
        images = images.to(detector.device)
        size_px = (images.shape[3], images.shape[2])
        found = [
            select(tokens, boxes, detector.spans, class_of_phrase, self, size_px)
            for tokens, boxes in zip(*detector.find(images), strict=True)
        ]
        maps = segmenter.maps(images, [boxes for boxes, _ in found], [class_of_phrase[each] for _, each in found])
        return [
            Mask(
                foreground=classes > 0,
                phrases=tuple(self._wanted[i][0] for i in phrases.tolist()),
                boxes_xyxy=boxes.cpu().numpy().astype(np.float32),
                classes=classes,
                layers=layers,
            )
            for (boxes, phrases), (classes, layers) in zip(found, maps.cpu().numpy(), strict=True)
        ]

    @property
    def _wanted(self) -> list[tuple[str, int]]:
        """Each phrase with the index of its class."""
        lists = self.phrases or {name: [name] for name in CLASSES}
        return [(phrase, index) for index, name in enumerate(CLASSES) for phrase in lists.get(name, ())]

    @cached_property
    def _models(self) -> tuple[Detector, Segmenter, Int[Tensor, " P"]]:
        """Both models, and the class of each phrase."""
        device = chosen_device(self.device)
        weights = grounding.read_weights(Path(self.dino_checkpoint), self.dino_sha256, DINO_SOURCES[self.dino])
        dino = grounding.build_dino(self.dino, Path(self.text_encoder))
        dino = grounding.fill(dino, weights, f"Grounding DINO {self.dino}")
        weights = grounding.read_weights(Path(self.sam_checkpoint), self.sam_sha256, SAM_SOURCES[self.sam])
        sam = grounding.fill(grounding.build_sam(self.sam), weights, f"SAM {self.sam}")
        return (
            Detector(dino, [phrase for phrase, _ in self._wanted], device, self.bf16),
            Segmenter(sam, device, self.bf16),
            torch.tensor([index for _, index in self._wanted], device=device),
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
    options: Annotator,
    size_px: tuple[int, int],
) -> tuple[Float[Tensor, "M 4"], Int[Tensor, " M"]]:
    """Boxes of one image of W, H pixels, highest score first, and the phrase of each; from scores of tokens in [0, 1]
    and boxes as centre, width and height. They are cut at the edges; only boxes of one class suppress each other.
    """
    from torchvision.ops import batched_nms

    phrases, scores = name_boxes(tokens, spans, options.text_threshold)
    classes, scale = class_of_phrase[phrases], boxes.new_tensor([*size_px, *size_px])
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.minimum((torch.cat([centre - half, centre + half], 1) * scale).clamp(min=0), scale)
    sides = corners[:, 2:] - corners[:, :2]
    shares = [float((options.largest_box_shares or {}).get(name, 1.0)) for name in CLASSES]
    largest = corners.new_tensor(shares)[classes] * (size_px[0] * size_px[1])
    fits = (sides.amin(1) >= options.smallest_box_px) & (sides.prod(1) <= largest)
    near = (scores > options.box_threshold) & fits
    corners, phrases, classes, scores = corners[near], phrases[near], classes[near], scores[near]
    kept = batched_nms(corners, scores, classes, options.nms_iou)[: options.most_boxes]
    return corners[kept], phrases[kept]


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
