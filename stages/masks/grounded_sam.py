"""Foreground by Grounded-SAM, as the paper made nuScenes-FG: Grounding DINO finds phrases, SAM outlines what it found.

Sizes, thresholds and phrases are not stated in the paper; the defaults are those of the official demos. Weights are
files named by path and sha256. The network is never asked.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from stages.core.errors import MachineError, ParamsError
from stages.masks import base
from stages.masks.base import CLASSES, Mask
from stages.scenes.base import Camera, Frame

if TYPE_CHECKING:
    from stages.masks.grounding.pipeline import Pipeline

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
    box_threshold: float = 0.35
    text_threshold: float = 0.25
    nms_iou: float = 0.8
    smallest_box_px: float = 4.0
    largest_box_shares: Mapping[str, float] | None = None  # class -> share of the image; a class that is absent: 1
    most_boxes: int = 100
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
        from stages.masks.grounding import models

        _check("dino", self.dino in models.DINO_SOURCES, f"one of {', '.join(models.DINO_SOURCES)}", self.dino)
        _check("sam", self.sam in models.SAM_SOURCES, f"one of {', '.join(models.SAM_SOURCES)}", self.sam)
        for key in ("box_threshold", "text_threshold", "nms_iou"):
            _check(key, 0 < getattr(self, key) < 1, "a number between 0 and 1", getattr(self, key))
        for key in ("most_boxes", "images_at_once"):
            _check(key, getattr(self, key) > 0, "a positive number", getattr(self, key))
        known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device) is not None
        _check("device", known, "auto, cpu, cuda or cuda:<number>", self.device)
        for key in ("phrases", "largest_box_shares"):
            names = getattr(self, key) or {}
            _check(key, set(names) <= set(CLASSES), f"only {', '.join(CLASSES)}", ", ".join(names))
        lists = [some for some in (self.phrases or {}).values() if not isinstance(some, str)]
        _check("phrases", len(lists) == len(self.phrases or {}), "a list of words for each class", self.phrases)
        models.require(Path(self.dino_checkpoint), self.dino_sha256, models.DINO_SOURCES[self.dino], "dino_sha256")
        models.require(Path(self.sam_checkpoint), self.sam_sha256, models.SAM_SOURCES[self.sam], "sam_sha256")
        models.require_text_encoder(Path(self.text_encoder))

    @property
    def gpus(self) -> int | None:
        """Those that are here, or the one that is named; None on the CPU."""
        import torch

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
        import torch

        try:
            yield from self._pipeline.stream([camera for _, camera in images] for images in batches)
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

    @cached_property
    def _pipeline(self) -> "Pipeline":
        import torch

        from stages.masks.grounding import models
        from stages.masks.grounding.pipeline import Pipeline, Rules, chosen_device

        device = chosen_device(self.device)
        lists = self.phrases or {name: [name] for name in CLASSES}
        pairs = [(phrase, index) for index, name in enumerate(CLASSES) for phrase in lists.get(name, ())]
        names = [phrase for phrase, _ in pairs]
        weights = models.read_weights(Path(self.dino_checkpoint), self.dino_sha256, models.DINO_SOURCES[self.dino])
        dino = models.fill(
            models.build_dino(self.dino, Path(self.text_encoder)), weights, f"Grounding DINO {self.dino}"
        )
        weights = models.read_weights(Path(self.sam_checkpoint), self.sam_sha256, models.SAM_SOURCES[self.sam])
        sam = models.fill(models.build_sam(self.sam), weights, f"SAM {self.sam}")
        shares = self.largest_box_shares or {}
        return Pipeline(
            models.Detector(dino, names, device, self.bf16),
            models.Segmenter(sam, device, self.bf16),
            names,
            torch.tensor([index for _, index in pairs], device=device),
            Rules(
                self.box_threshold,
                self.text_threshold,
                self.nms_iou,
                self.smallest_box_px,
                tuple(float(shares.get(name, 1.0)) for name in CLASSES),
                self.most_boxes,
            ),
        )


def _check(key: str, good: bool, expected: str, got: object) -> None:
    if not good:
        fix = f"edit annotators.grounded_sam.{key} in params.yaml"
        raise ParamsError(expected=f"{expected} as {key}", got=repr(got), fix=fix)
