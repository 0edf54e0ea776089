"""The small driver of the embedded default: the true Qwen2.5-VL class at small width.

CAM_FRONT and the current speed in, six waypoints as text out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stages.backbone.qwen import Model, Tokenizer, load_model, load_tokenizer
from stages.backbone.tower import FastTower
from stages.errors import DataError, ParamsError
from stages.pruning.base import Pruner, TokenView
from stages.scenes.base import FUTURE_STEPS, Frame
from stages.scenes.images import read_image
from stages.scenes.oracle import fitted
from stages.tokens import foreground_share, keep_count
from stages.vla.answers import parse_answer
from stages.vla.base import DriverOptions, Plan
from stages.vla.cutting import cuts_inside
from stages.vla.host import Prefilled, Prompt, decode, prefill, token_view
from stages.vla.inside import prefill_by
from stages.vla.toy_text import ANSWER_TOKENS, END, VISION_END, before_text, encode, prompt_text, word_id

CAMERA = "CAM_FRONT"


class Driver:
    """Plans from one front image and the current speed."""

    def __init__(self, options: DriverOptions) -> None:
        self.options = options
        self.model: Model = load_model(options.checkpoint)
        self.tokenizer: Tokenizer = load_tokenizer(options.checkpoint)
        self.tower = FastTower(self.model)
        self.scorings = 0  # batches that a pruner looked at; with tower.encoded_images, what the tables print

    @torch.inference_mode()
    def plan(self, frames: Sequence[Frame], pruner: Pruner, percents: Sequence[int]) -> dict[int, list[Plan]]:
        """Plans by prune ratio; each image is encoded once and scored once for all ratios."""
        plans: dict[int, list[Plan]] = {percent: [] for percent in percents}
        for batch in self.batches(frames):
            for percent, part in self._plan_batch(batch, pruner, percents).items():
                plans[percent].extend(part)
        return plans

    def batches(self, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        """The frames in groups of the batch size."""
        for start in range(0, len(frames), self.options.batch_size):
            yield frames[start : start + self.options.batch_size]

    def _plan_batch(self, frames: Sequence[Frame], pruner: Pruner, percents: Sequence[int]) -> dict[int, list[Plan]]:
        prompt = self.prompt([frame.speed_mps for frame in frames])
        images = self.images(frames)
        sources = tuple(frame.cameras[CAMERA].token for frame in frames)
        view = self.view(images, tuple(frame.token for frame in frames), prompt, sources, watched=pruner.needs_vision)
        counts = [keep_count(view.tokens.shape[1], percent) for percent in percents]
        return {
            percent: self._answer(frames, view, prefilled)
            for percent, prefilled in zip(percents, self._read(view, pruner, counts, prompt), strict=True)
        }

    def _read(self, view: TokenView, pruner: Pruner, counts: Sequence[int], prompt: Prompt) -> Iterator[Prefilled]:
        """The prompt read at each count; a pruner that chooses before the language model is asked once for all."""
        N, layers = view.tokens.shape[1], len(self.model.model.language_model.layers)
        if any(cuts_inside(pruner, N, K, layers) for K in counts):
            for K in counts:
                yield applied(prefill_by(self.model, view, pruner, K, prompt), pruner, K, layers)
        else:
            for K, kept in zip(counts, pruner.select_each(view, counts), strict=True):
                yield prefill(self.model, view, kept, K, prompt, type(pruner).__module__)
        self.scorings += 1

    def images(self, frames: Sequence[Frame]) -> Tensor:
        """Front images, uint8 (B, 3, H, W)."""
        for frame in frames:
            if CAMERA not in frame.cameras:
                raise DataError(
                    wanted=f"a {CAMERA} image of sample {frame.token}", came="none", then="complete the data set"
                )
        arrays = [read_image(f.cameras[CAMERA].path, self.options.size_px, self.options.fit) for f in frames]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)

    def prompt(self, speeds_mps: Sequence[float]) -> Prompt:
        """Token ids before and after the image, one row per speed."""
        before = encode(self.tokenizer, before_text())
        after = [encode(self.tokenizer, VISION_END + prompt_text(speed)) for speed in speeds_mps]
        return Prompt(torch.tensor([before] * len(after)), torch.tensor(after))

    def view(
        self,
        images: Tensor,
        keys: tuple[str, ...],
        prompt: Prompt,
        sources: tuple[str, ...] = (),
        *,
        watched: bool = False,
    ) -> TokenView:
        """The visual tokens of `images` as a pruner sees them; `sources` are for rulers only.

        `watched`: with what the tower knows of each token.
        """
        grid = self.tower.grid(self.options.size_px)
        tokens, vision = self.tower.encode_watched(images) if watched else (self.tower.encode(images), None)
        view = token_view(tokens, grid, prompt.before.shape[1], keys, self.tower.fingerprint, sources=sources)
        text = self.model.get_input_embeddings()(prompt.after)
        return replace(view, vision=vision, text=text, foreground=self._foreground(sources, grid))

    def _foreground(self, sources: tuple[str, ...], grid: tuple[int, int]) -> Tensor | None:
        mask_of = self.options.mask_of
        if mask_of is None or not sources:
            return None
        W, H = self.options.size_px
        masks = [
            torch.from_numpy(fitted(mask_of(source).astype(np.uint8), (W, H), self.options.fit)) for source in sources
        ]
        return torch.cat([foreground_share(mask[None] > 0, grid) for mask in masks])

    def _answer(self, frames: Sequence[Frame], view: TokenView, prefilled: Prefilled) -> list[Plan]:
        end = word_id(self.tokenizer, END)
        ids = decode(self.model, prefilled, ANSWER_TOKENS, end)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        # What the last layer really read, merged ones counted, of what there was
        read_of = (prefilled.kept.shape[1], view.tokens.shape[1])
        return [
            make_plan(frame.token, text, indices[indices >= 0].numpy(), read_of, view.grid)
            for frame, text, indices in zip(frames, texts, prefilled.kept, strict=True)
        ]


def applied(prefilled: Prefilled, pruner: Pruner, K: int, layers: int) -> Prefilled:
    """`prefilled`, in which tokens were really dropped. Raises ParamsError for a layer that the model does not have."""
    if prefilled.pruned or prefilled.kept.shape[1] == K:
        return prefilled
    raise ParamsError(
        wanted=f"a layer of the {layers} that the language model has, ahead of which {type(pruner).__module__} prunes",
        came=f"{pruner}, which drops nothing here",
        then="lower its `layer` under pruners in params.yaml",
    )


def make_plan(token: str, text: str, kept: np.ndarray, K_of_N: tuple[int, int], grid: tuple[int, int]) -> Plan:
    """A plan from an answer; zeros (parked) and `parsed` False when the answer does not parse."""
    waypoints_m = parse_answer(text)
    parsed = waypoints_m is not None
    if waypoints_m is None:
        waypoints_m = np.zeros((FUTURE_STEPS, 2))
    return Plan(token, waypoints_m, text, parsed, kept.astype(np.int64), *K_of_N, grid)
