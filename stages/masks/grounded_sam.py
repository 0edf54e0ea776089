"""Foreground by Grounded-SAM, as the paper made nuScenes-FG: Grounding DINO finds phrases, SAM outlines what it found.

Sizes, thresholds and phrases are not stated in the paper; the defaults are those of the official demos. Weights are
files named by path and sha256. The network is never asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.errors import MachineError, ParamsError
from stages.masks.base import CLASSES, Mask
from stages.scenes.base import Camera, Frame

if TYPE_CHECKING:
    from stages.masks.grounding.boxes import Rules
    from stages.masks.grounding.pipeline import Pipeline

PACKAGES = ("groundingdino", "segment_anything", "torchvision")


@dataclass(frozen=True)
class Annotator:
    """One set of models in one process; they are loaded with the first image."""

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
    device: str = "auto"  # cuda where there is one, else cpu

    def __post_init__(self) -> None:
        """Before any image: raises MachineError without the packages, ParamsError for a value that cannot be, DataError
        for a file that is not there.
        """
        _check_packages()
        from stages.masks.grounding import bert, checkpoints, dino, sam

        _check_name("dino", self.dino, dino.SOURCES)
        _check_name("sam", self.sam, sam.SOURCES)
        for key in ("box_threshold", "text_threshold", "nms_iou"):
            _check(key, 0 < getattr(self, key) < 1, "a number between 0 and 1", getattr(self, key))
        for key in ("most_boxes", "images_at_once"):
            _check(key, getattr(self, key) > 0, "a positive number", getattr(self, key))
        _check_phrases(self.phrases_of_class)
        for name in self.largest_box_shares or {}:
            _check_name("largest_box_shares", name, CLASSES)
        checkpoints.require(Path(self.dino_checkpoint), self.dino_sha256, dino.SOURCES[self.dino], "dino_sha256")
        checkpoints.require(Path(self.sam_checkpoint), self.sam_sha256, sam.SOURCES[self.sam], "sam_sha256")
        bert.require_folder(Path(self.text_encoder))

    @property
    def phrases_of_class(self) -> Mapping[str, Sequence[str]]:
        """What is looked for, by class."""
        return self.phrases if self.phrases is not None else {name: [name] for name in CLASSES}

    def annotate(self, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]:
        """The masks of images of one size, all in one batch: class map, its foreground, a phrase and box per object.

        Raises DataError for an image that cannot be read, and for a checkpoint that is not what params say.
        """
        if not images:
            return []
        from stages.masks.grounding.pipeline import flat_phrases
        from stages.masks.grounding.pixels import read_batch

        pipeline = self._pipeline
        found, maps = pipeline.annotate(read_batch([camera for _, camera in images], pipeline.detector.device))
        names, _ = flat_phrases(self.phrases_of_class, pipeline.detector.device)
        return [
            Mask(
                foreground=classes > 0,
                phrases=tuple(names[i] for i in one.phrases.tolist()),
                boxes_xyxy=one.boxes_xyxy.cpu().numpy().astype(np.float32),
                classes=classes,
            )
            for one, classes in zip(found, maps.numpy(), strict=True)
        ]

    @cached_property
    def _pipeline(self) -> "Pipeline":
        import torch

        from stages.masks.grounding import checkpoints, dino, sam
        from stages.masks.grounding.pipeline import Pipeline, flat_phrases

        device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        )
        names, classes = flat_phrases(self.phrases_of_class, device)
        dino_weights = checkpoints.weights_of(
            Path(self.dino_checkpoint), self.dino_sha256, dino.SOURCES[self.dino], "dino_sha256"
        )
        finder = dino.load(self.dino, Path(self.text_encoder), dino_weights)
        sam_weights = checkpoints.weights_of(
            Path(self.sam_checkpoint), self.sam_sha256, sam.SOURCES[self.sam], "sam_sha256"
        )
        return Pipeline(
            dino.Detector(finder, names, device, self.bf16),
            sam.Segmenter(sam.load(self.sam, sam_weights), device, self.bf16),
            classes,
            self._rules,
        )

    @cached_property
    def _rules(self) -> "Rules":
        from stages.masks.grounding.boxes import Rules

        shares = self.largest_box_shares or {}
        return Rules(
            self.box_threshold,
            self.text_threshold,
            self.nms_iou,
            self.smallest_box_px,
            tuple(float(shares.get(name, 1.0)) for name in CLASSES),
            self.most_boxes,
        )


def _check_packages() -> None:
    absent = [name for name in PACKAGES if find_spec(name) is None]
    if absent:
        then = "install the extra `masks` of pyproject.toml"
        raise MachineError(wanted="the packages of grounded_sam", came=f"no {', no '.join(absent)} here", then=then)


def _check(key: str, good: bool, wanted: str, came: object) -> None:
    if not good:
        raise ParamsError(
            wanted=f"{wanted} as {key}", came=repr(came), then=f"edit annotators.grounded_sam.{key} in params.yaml"
        )


def _check_name(key: str, name: str, known: Mapping[str, object] | Sequence[str]) -> None:
    _check(key, name in known, f"one of {', '.join(known)}", name)


def _check_phrases(phrases: Mapping[str, Sequence[str]]) -> None:
    for name in phrases:
        _check_name("phrases", name, CLASSES)
    words = [phrase.lower().strip() for some in phrases.values() for phrase in some]
    _check("phrases", bool(words) and len(words) == len(set(words)), "different phrases by class, at least one", words)
