"""Pruning in anyone's `model.generate`: an untouched `Qwen2_5_VLForConditionalGeneration`, inside one `with`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stages.backbone.importance import VisionFacts, batched
from stages.backbone.mrope import text_lengths
from stages.backbone.qwen import Model, encoder_fingerprint
from stages.backbone.vision import Watch, grids_of, grouped
from stages.errors import DataError, ParamsError
from stages.pruning.base import Pruner, TokenView
from stages.pruning.view import Grid
from stages.tokens import keep_count
from stages.vla.cutting import Cutter, Group
from stages.vla.inside import visual_places
from stages.vla.reading import Reading, hooked

Kwargs = dict[str, Any]


@dataclass
class Applied:
    """What was really dropped so far; a run in which nothing was dropped shows it."""

    prompts: int = 0
    tokens: int = 0  # visual tokens of all prompts
    kept: int = 0  # of them, those that the last decoder layer read


@contextmanager
def prune(model: Model, pruner: Pruner, percent: int | float, *, per_image: bool = False) -> Iterator[Applied]:
    """Inside, `model` reads every prompt with `percent` of its visual tokens removed; afterwards it is as before.

    Batches, several images (one pool, or with `per_image` each its share), padding on the left, greedy search, sampling
    and beams. Raises ParamsError for a ratio outside [0, 100) or a layer that the model does not have, DataError for a
    pruner of another vision encoder, videos, embeddings instead of ids, and prompts whose images do not add up.
    """
    keep_count(1_000_000, percent)
    _check_layers(pruner, len(model.model.language_model.layers))
    session = _Session(model, pruner, percent, per_image)
    inner: Any = model.model
    with ExitStack() as stack:
        stack.enter_context(grouped(inner.visual))
        if session.watch is not None:
            stack.enter_context(session.watch)
        stack.enter_context(hooked(inner.language_model, lambda: session.reading))
        for handle in (
            inner.visual.register_forward_pre_hook(session.before_vision, with_kwargs=True),
            inner.register_forward_pre_hook(session.before_prompt, with_kwargs=True),
            inner.language_model.register_forward_pre_hook(session.before_language, with_kwargs=True, prepend=True),
            inner.language_model.register_forward_hook(session.after_language),
        ):
            stack.callback(handle.remove)
        yield session.applied


def _check_layers(pruner: Pruner, layers: int) -> None:
    late = [cut.layer for cut in pruner.cuts(1000, 500, layers) if cut.layer >= layers]
    if late:
        raise ParamsError(
            wanted=f"a layer below {layers}, the number that the model has",
            came=f"{pruner}, which prunes ahead of layer {late[0]} and so drops nothing",
            then="give the pruner a lower `layer`",
        )


class _Session:
    """What the hooks on one model share."""

    def __init__(self, model: Model, pruner: Pruner, percent: int | float, per_image: bool) -> None:
        self.model, self.pruner, self.percent, self.per_image = model, pruner, percent, per_image
        self.encoder = encoder_fingerprint(model) if pruner.checks_encoder else ""
        self.watch = Watch(model.model.visual) if pruner.needs_vision else None
        self.applied = Applied()
        self.reading: Reading | None = None
        self._ids: Int[Tensor, "B L"] | None = None  # of a prompt that brings images
        self._grids: list[Grid] = []  # of the images that the tower saw last

    def before_vision(self, module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """Note the sizes of the images: `generate` runs the tower by itself and passes on what comes out only."""
        merge = module.spatial_merge_size
        grids = grids_of(kwargs["grid_thw"] if "grid_thw" in kwargs else args[1])
        self._grids = [(h // merge, w // merge) for _, h, w in grids]

    def before_prompt(self, module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """Note what the multimodal model is given; text alone, and answer tokens, bring no images."""
        encoded = kwargs.get("mm_encoder_outputs") or {}
        if kwargs.get("pixel_values_videos") is not None or encoded.get("video") is not None:
            raise DataError(wanted="images", came="a video", then="give its frames as images")
        if kwargs.get("pixel_values") is None and encoded.get("image") is None:
            past = kwargs.get("past_key_values")
            if past is None or past.get_seq_length() == 0:
                self.reading = None
            self._ids = None
            return
        self._ids = kwargs.get("input_ids")
        if self._ids is None:
            raise DataError(
                wanted="input_ids, by which image tokens are found", came="embeddings", then="pass input_ids"
            )

    def before_language(self, module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """Start the reading of a prompt, now that its embeddings are there."""
        if self._ids is None:
            return
        past = kwargs.get("past_key_values")
        if past is not None and past.get_seq_length():
            raise DataError(
                wanted="all images of a conversation in one prompt",
                came=f"new images after {past.get_seq_length()} tokens that were read before",
                then="start again without past_key_values",
            )
        embeds = kwargs["inputs_embeds"]
        valid = _valid(kwargs.get("attention_mask"), embeds)
        groups = self._groups(self._ids, embeds, kwargs["position_ids"][-3:], valid)
        layers = len(self.model.model.language_model.layers)
        cutter = Cutter(self.pruner, groups, lambda N: keep_count(N, self.percent), layers, per_image=self.per_image)
        padded = not bool(valid.all())
        self.reading = Reading(self.model.model.language_model, cutter, padded=padded)

    def after_language(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        """Check what was chosen, and count it, once a prompt has been read."""
        if self._ids is None or self.reading is None:
            return
        self._ids = None
        self.reading.cutter.check()
        for group in self.reading.cutter.groups:
            self.applied.prompts += len(group.visual)
            self.applied.tokens += len(group.visual) * group.view.tokens.shape[1]
            self.applied.kept += group.visual.numel()

    def _groups(
        self, ids: Int[Tensor, "B L"], embeds: Tensor, positions: Int[Tensor, "3 B L"], valid: Bool[Tensor, "B L"]
    ) -> list[Group]:
        visual = ids == self.model.config.image_token_id
        grids, beams = _grids_by_row(visual.sum(dim=1).tolist(), self._grids)
        padding = (~valid).sum(dim=1).tolist()
        texts = [text_lengths(row[pad:], its) for row, pad, its in zip(visual.cpu(), padding, grids, strict=True)]
        alike: dict[Any, list[int]] = {}
        for row in range(len(visual)):
            if not grids[row]:
                raise DataError(
                    wanted="an image in each prompt of a batch", came=f"none in row {row}", then="leave that prompt out"
                )
            alike.setdefault((grids[row], texts[row], padding[row]), []).append(row)
        facts = iter(self.watch.of_images()) if self.watch is not None else None
        by_sample = None if facts is None else [_joined([next(facts) for _ in its]) for its in grids[::beams]]
        groups = []
        for (its, text, pad), rows in alike.items():
            chosen: slice | list[int] = slice(None) if len(rows) == len(visual) else rows
            places = (visual_places(text, its) + pad).to(embeds.device).expand(len(rows), -1)
            mine = embeds[chosen]
            view = TokenView(
                mine.gather(1, places[:, :, None].expand(-1, -1, mine.shape[2])),
                its,
                positions[:, chosen].gather(2, places.expand(3, -1, -1)),
                keys=("",) * len(rows),  # a random pruner drops the same places in every image
                encoder=self.encoder,
                vision=None if by_sample is None else batched([by_sample[row // beams] for row in rows]),
                text=mine[:, mine.shape[1] - text[-1] :],
            )
            origin = torch.arange(places.shape[1], device=embeds.device).expand(len(rows), -1)
            groups.append(Group(chosen, view, places, text[-1], origin))
        return groups


def _valid(mask: Tensor | None, embeds: Tensor) -> Bool[Tensor, "B L"]:
    if mask is None:
        return torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
    valid = mask.bool()
    if bool((valid[:, 1:] < valid[:, :-1]).any()):
        raise DataError(
            wanted="prompts padded on the left",
            came="padding elsewhere",
            then="processor.tokenizer.padding_side = 'left'",
        )
    return valid


def _grids_by_row(tokens: list[int], grids: list[Grid]) -> tuple[list[tuple[Grid, ...]], int]:
    """The images of each prompt, by its number of image tokens, in order; and how often each prompt stands there.

    Beam search repeats prompts after the tower has run. Raises DataError when images are left over.
    """
    held = sum(h * w for h, w in grids)
    beams = sum(tokens) // held if held and sum(tokens) % held == 0 else 1
    rows, todo = [], list(grids)
    for wanted in tokens[::beams]:
        mine: list[Grid] = []
        while todo and sum(h * w for h, w in mine) < wanted:
            mine.append(todo.pop(0))
        rows += [tuple(mine)] * beams
    if todo or not grids:
        raise DataError(
            wanted=f"image tokens for the {len(grids)} images that the vision tower saw inside this `with`",
            came=f"{sum(tokens)} image tokens in {len(tokens)} prompts",
            then="give the prompt and the images of one and the same processor call",
        )
    return rows, beams


def _joined(images: list[VisionFacts]) -> VisionFacts:
    return VisionFacts(
        torch.cat([image.importance for image in images], dim=1), torch.cat([image.features for image in images], dim=1)
    )
