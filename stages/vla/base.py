"""The contract of a driver, and what drivers on a Qwen2.5-VL share. One driver, one file, named as in `vla.name`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.qwen import Model, Tokenizer
from stages.backbone.tokens import foreground_share, keep_count
from stages.backbone.vision import FastTower
from stages.core import plugins
from stages.core.errors import DataError
from stages.pruning.base import Pruner, TokenView
from stages.scenes.base import Camera, Frame
from stages.scenes.layout import fitted
from stages.vla.cutting import cuts_inside
from stages.vla.plans import Plan
from stages.vla.prefill import Chosen, Prefilled, Prompt, decode, prefill, token_view

CAMERA = "CAM_FRONT"


@runtime_checkable
class Driver(Protocol):
    """Plans the next 3 s of key frames from images, with a share of the visual tokens removed."""

    def batches(self, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        """The frames in groups that are planned together, in any order."""
        ...

    def plan(self, frames: Sequence[Frame], pruner: Pruner, percents: Sequence[int]) -> dict[int, list[Plan]]:
        """Plans by prune ratio in percent, in the order of `frames`; one vision pass, one scoring for all ratios."""
        ...

    def remark(self, text: str) -> str:
        """How an answer departs from what the driver was taught; empty where it does not."""
        ...

    def counts(self) -> dict[str, int]:
        """Work done so far: `images_encoded`, and `scorings`, the batches that a pruner looked at."""
        ...


@dataclass(frozen=True)
class DriverOptions:
    """Options that every driver is opened with."""

    checkpoint: Path
    size_px: tuple[int, int]  # W, H
    fit: str  # stretch, pad or budget
    batch_size: int
    # Ground-truth foreground (H, W) of a sample_data token, True is foreground; for references that read it, else None
    mask_of: Callable[[str], NDArray[np.bool_]] | None = None
    # The question about a sample token, with one `<image>`, for drivers that are asked
    question_of: Callable[[str], str] | None = None
    checkpoint_sha256: str | None = None  # of the weights, as stages.vla.impromptu.verify counts it
    max_pixels: int = 0  # of `budget`
    answer_tokens: int = 0  # most tokens of an answer; the small driver knows its own
    answer_format: str = "x-y"  # of stages.vla.impromptu.MODES


def driver_options(
    vla: Mapping[str, Any],
    batch_size: int,
    question_of: Callable[[str], str],
    mask_of: Callable[[str], NDArray[np.bool_]] | None = None,
) -> DriverOptions:
    """Return the options of a driver from the section `vla` of params and from functions of the data set."""
    named = {name: vla[name] for name in ("checkpoint_sha256", "max_pixels", "answer_tokens", "answer_format")}
    size_px = (int(vla["size_px"][0]), int(vla["size_px"][1]))
    return DriverOptions(Path(vla["checkpoint"]), size_px, vla["fit"], batch_size, mask_of, question_of, **named)


def load(name: str, options: DriverOptions) -> Driver:
    """Open a driver: a file here with a class `Driver`, an entry point, or `module:Class`; else ParamsError."""
    return plugins.find("drivers", name, "vla.name")(options)


class QwenDriver(ABC):
    """Plans from one front image and a prompt whose text has the same length in all rows of a batch."""

    ends: tuple[int, ...]  # token ids that end an answer; the first fills up what follows
    answer_tokens: int  # most tokens of an answer

    def __init__(self, options: DriverOptions, model: Model, tokenizer: Tokenizer) -> None:
        self.options, self.model, self.tokenizer = options, model, tokenizer
        self.tower = FastTower(model)
        self.scorings = 0

    @abstractmethod
    def ask(self, frames: Sequence[Frame]) -> Prompt:
        """Token ids before and after the image, one row per frame; all frames are of one of `batches`."""

    @abstractmethod
    def images(self, frames: Sequence[Frame]) -> Tensor:
        """Front images, uint8 (B, 3, H, W)."""

    @abstractmethod
    def read_answer(self, text: str) -> tuple[np.ndarray, bool]:
        """Waypoints (T, 2) in metres, x forward, y left, and whether the answer parsed; zeros where it did not."""

    def remark(self, text: str) -> str:
        return "" if self.read_answer(text)[1] else "unparsed"

    def counts(self) -> dict[str, int]:
        return {"images_encoded": self.tower.encoded_images, "scorings": self.scorings}

    def batches(self, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        """The frames in groups that are planned together, at most the batch size."""
        for start in range(0, len(frames), self.options.batch_size):
            yield frames[start : start + self.options.batch_size]

    @torch.inference_mode()
    def plan(self, frames: Sequence[Frame], pruner: Pruner, percents: Sequence[int]) -> dict[int, list[Plan]]:
        plans: dict[int, dict[str, Plan]] = {percent: {} for percent in percents}
        for batch in self.batches(frames):
            prompt, images = self.ask(batch), self.images(batch)
            keys, sources = (frame.token for frame in batch), (front(frame).token for frame in batch)
            view = self.view(images, tuple(keys), prompt, tuple(sources), watched=pruner.needs_vision)
            counts = [keep_count(view.tokens.shape[1], percent) for percent in percents]
            choices = self._choices(view, pruner, counts)
            for percent, K, choice in zip(percents, counts, choices, strict=True):
                read = prefill(self.model, view, choice, K, prompt)
                plans[percent].update((plan.token, plan) for plan in self._answer(batch, view, read))
            self.scorings += 1
        return {percent: [of[frame.token] for frame in frames] for percent, of in plans.items()}

    def _choices(self, view: TokenView, pruner: Pruner, counts: Sequence[int]) -> Sequence[Pruner]:
        """A pruner for each count; one that chooses before the language model is asked once for all."""
        N, layers = view.tokens.shape[1], len(self.model.model.language_model.layers)
        if any(cuts_inside(pruner, N, K, layers) for K in counts):
            return [pruner] * len(counts)
        method = type(pruner).__module__.rsplit(".", 1)[-1]
        return [Chosen(kept, method) for kept in pruner.select_each(view, counts)]

    def view(
        self,
        images: Tensor,
        keys: tuple[str, ...],
        prompt: Prompt,
        sources: tuple[str, ...] = (),
        *,
        watched: bool = False,
    ) -> TokenView:
        """The visual tokens of `images` as a pruner sees them; `watched`: with what the tower knows."""
        size_px = (images.shape[3], images.shape[2])
        grid = self.tower.grid(size_px)
        tokens, vision = self.tower.encode_watched(images) if watched else (self.tower.encode(images), None)
        view = token_view(tokens, (grid,), (prompt.before.shape[1],), keys, self.tower.fingerprint, sources=sources)
        text = self.model.get_input_embeddings()(prompt.after)
        foreground, mask_of = None, self.options.mask_of
        if mask_of is not None and sources:
            masks = [fitted(mask_of(source).astype(np.uint8), size_px, self.options.fit) for source in sources]
            shares = [foreground_share(torch.from_numpy(mask)[None] > 0, grid) for mask in masks]
            foreground = torch.cat(shares).to(self.tower.device)
        return replace(view, vision=vision, text=text, foreground=foreground)

    def _answer(self, frames: Sequence[Frame], view: TokenView, prefilled: Prefilled) -> list[Plan]:
        ids = decode(self.model, prefilled, self.answer_tokens, self.ends)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        # What the last layer really read, merged ones counted, of what there was
        read, N, plans = prefilled.kept.shape[1], view.tokens.shape[1], []
        for frame, text, places in zip(frames, texts, prefilled.kept.cpu(), strict=True):
            (waypoints_m, parsed), kept = self.read_answer(text), places[places >= 0].numpy().astype(np.int64)
            plans.append(Plan(frame.token, waypoints_m, text, parsed, kept, read, N, view.grid))
        return plans


def front(frame: Frame) -> Camera:
    """The front camera of a key frame. Raises DataError when it has none."""
    if CAMERA not in frame.cameras:
        raise DataError(expected=f"a {CAMERA} image of sample {frame.token}", got="none", fix="complete the data set")
    return frame.cameras[CAMERA]
