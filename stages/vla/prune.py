"""Pruning in anyone's `model.generate`: an untouched `Qwen2_5_VLForConditionalGeneration`, inside one `with`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stages.backbone.attention import VisionFacts, joined
from stages.backbone.qwen import Model, encoder_fingerprint
from stages.backbone.tokens import keep_count, text_lengths
from stages.backbone.vision import Watch, grids_of, grouped
from stages.core.errors import DataError, ParamsError
from stages.pruning.base import Pruner, TokenView
from stages.pruning.view import Grid
from stages.vla.cutting import Cutter, Group, Reading, Sequences, checked_cuts, hooked, sequences_of
from stages.vla.prefill import visual_places

Kwargs = dict[str, Any]
_PRUNED: WeakSet[Any] = WeakSet()  # models inside a `with`
_FINGERPRINTS: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()  # by tower: its weights' versions, name


@dataclass
class Applied:
    """What was really dropped so far; a run in which nothing was dropped shows it."""

    prompts: int = 0  # that were read: a beam is one, and without a cache each answer token reads its prompt anew
    tokens: int = 0  # visual tokens of all prompts
    kept: int = 0  # of them, those that the last decoder layer read


@contextmanager
def prune(model: Model, pruner: Pruner, percent: int | float, *, per_image: bool = False) -> Iterator[Applied]:
    """Inside, `model` reads every prompt with `percent` of its visual tokens removed; afterwards it is as before.

    Batches, several images (one pool, or with `per_image` each its share), padding on the left, greedy search, sampling
    and beams; one prompt at a time, whose cache is of use inside this `with` only. Raises ParamsError for a ratio
    outside [0, 100) or a layer that the model does not have, DataError for a pruner of another vision encoder, videos,
    embeddings instead of ids, caches of fixed size, assisted decoding, a conversation that `generate` is to continue
    from its cache, gradient checkpointing, and prompts whose images do not add up.
    """
    inner: Any = model.model
    N, layers = 1_000_000, len(inner.language_model.layers)  # the cuts of any prompt, before there is one
    checked_cuts(pruner, N, keep_count(N, percent), layers, per_image=per_image)
    if inner in _PRUNED:
        raise ParamsError(expected="one pruner at a time on a model", got="a second one", fix="leave the first `with`")
    session = _Session(model, pruner, percent, per_image)
    with ExitStack() as stack:
        _PRUNED.add(inner)
        stack.callback(_PRUNED.discard, inner)
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


class _Session:
    """What the hooks on one model share."""

    def __init__(self, model: Model, pruner: Pruner, percent: int | float, per_image: bool) -> None:
        self.model, self.pruner, self.percent, self.per_image = model, pruner, percent, per_image
        self.encoder = _fingerprint(model) if pruner.checks_encoder else ""
        self.watch = Watch(model.model.visual) if pruner.needs_vision else None
        self.applied = Applied()
        self.reading: Reading | None = None
        self._ids: Int[Tensor, "B L"] | None = None  # of a prompt that brings images
        self._grids: list[Grid] = []  # of the images that the tower saw last

    def before_vision(self, module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """Note the sizes of the images: `generate` runs the tower by itself and passes on what comes out only."""
        merge = module.spatial_merge_size
        grids = grids_of(args, kwargs)
        self._grids = [(h // merge, w // merge) for _, h, w in grids]

    def before_prompt(self, module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """Note what the multimodal model is given; text alone, and answer tokens, bring no images."""
        encoded = kwargs.get("mm_encoder_outputs") or {}
        past, ids = kwargs.get("past_key_values"), kwargs.get("input_ids")
        if kwargs.get("pixel_values_videos") is not None or encoded.get("video") is not None:
            raise DataError(expected="images", got="a video", fix="give its frames as images")
        brings_images = kwargs.get("pixel_values") is not None or encoded.get("image") is not None
        begins = past is None or past.get_seq_length() == 0
        if begins and (ids is None or kwargs.get("inputs_embeds") is not None):
            raise DataError(expected="input_ids, which show image tokens", got="inputs_embeds", fix="pass input_ids")
        if begins and not brings_images:
            if bool((ids == self.model.config.image_token_id).any()):
                raise DataError(expected="the images of the prompt", got="image tokens alone", fix="pass pixel_values")
            self.reading = None
        self._ids = ids if brings_images else None
        goes_on = not begins and self.reading is not None and not brings_images
        # `generate` finds what is new by the length of the cache, which pruning has made shorter than the prompt
        if goes_on and ids is not None and ids.shape[1] > 1 and kwargs.get("position_ids") is not None:
            raise DataError(
                expected="answer tokens one by one after a pruned prompt",
                got=f"{ids.shape[1]} at once: a conversation that goes on, or assisted decoding",
                fix="generate from the whole conversation without past_key_values and without an assistant",
            )

    def before_language(self, module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """Start the reading of a prompt, now that its embeddings are there."""
        if self._ids is None:
            return
        past = kwargs.get("past_key_values")
        if past is not None and past.get_seq_length():
            got, fix = f"new ones after {past.get_seq_length()} tokens", "start again without past_key_values"
            raise DataError(expected="all images of a conversation in one prompt", got=got, fix=fix)
        if getattr(past, "is_compileable", False) or isinstance(kwargs.get("attention_mask"), dict):
            raise DataError(
                expected="a cache that grows, since each layer may read another number of tokens",
                got=f"{type(past).__name__}, of fixed size",
                fix="leave out cache_implementation and past_key_values",
            )
        read = sequences_of(kwargs)
        if bool((read.valid[:, 1:] < read.valid[:, :-1]).any()):
            fix = "processor.tokenizer.padding_side = 'left'"
            raise DataError(expected="prompts padded on the left", got="padding elsewhere", fix=fix)
        facts = None if self.watch is None else self.watch.images
        visual = self._ids == self.model.config.image_token_id
        groups = groups_of(visual, self._grids, facts, read, self.encoder)
        language: Any = self.model.model.language_model
        layers, per_image = len(language.layers), self.per_image
        cutter = Cutter(self.pruner, groups, lambda N: keep_count(N, self.percent), layers, per_image=per_image)
        self.reading = Reading(language, cutter, padded=not bool(read.valid.all()))

    def after_language(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        """Check what was chosen, and count it, once a prompt has been read."""
        if self._ids is None or self.reading is None:
            return
        self._ids = None
        self.reading.cutter.check()
        self.reading.cutter.shown.clear()  # a view inside holds on to a layer's keys while the answer is written
        for group in self.reading.cutter.groups:
            self.applied.prompts += len(group.visual)
            self.applied.tokens += len(group.visual) * group.view.tokens.shape[1]
            self.applied.kept += group.visual.numel()


def _fingerprint(model: Model) -> str:
    """`encoder_fingerprint`, which reads 1.3 GB at 3B, once for the same untouched weights."""
    visual = model.model.visual
    versions = tuple((weight.data_ptr(), weight._version) for weight in visual.parameters())
    known = _FINGERPRINTS.get(visual)
    if known is None or known[0] != versions:
        known = _FINGERPRINTS[visual] = (versions, encoder_fingerprint(model))
    return known[1]


def groups_of(
    visual: Bool[Tensor, "B L"],
    images: Sequence[Grid],
    facts: Sequence[VisionFacts] | None,
    read: Sequences,
    encoder: str,
) -> list[Group]:
    """Return the prompts of a batch by what they have in common: image sizes, padding, text lengths.

    `images` are the grids of all images, row after row, `facts` what the tower knows of each. Raises DataError when
    prompts and images do not add up, or a prompt has no image.
    """
    embeds, positions, valid = read.hidden, read.positions, read.valid
    grids, beams = _grids_by_row(visual.sum(dim=1).tolist(), list(images))
    padding = (~valid).sum(dim=1).tolist()
    texts = [text_lengths(row[pad:], its) for row, pad, its in zip(visual.cpu(), padding, grids, strict=True)]
    alike: dict[Any, list[int]] = {}
    for row in range(len(visual)):
        if not grids[row]:
            got = f"none in row {row}"
            raise DataError(expected="an image in each prompt of a batch", got=got, fix="leave that prompt out")
        alike.setdefault((grids[row], texts[row], padding[row]), []).append(row)
    rest = iter(facts or ())
    by_sample = [joined([next(rest) for _ in its], 1) for its in grids[::beams]] if facts else None
    groups = []
    for (its, text, pad), rows in alike.items():
        chosen: slice | list[int] = slice(None) if len(rows) == len(visual) else rows
        places = (visual_places(text, its) + pad).to(embeds.device).expand(len(rows), -1)
        own = embeds[chosen]
        view = TokenView(
            own.gather(1, places[:, :, None].expand(-1, -1, own.shape[2])),
            its,
            positions[:, chosen].gather(2, places.expand(3, -1, -1)),
            keys=("",) * len(rows),  # a random pruner drops the same places in every image
            encoder=encoder,
            vision=None if by_sample is None else joined([by_sample[row // beams] for row in rows], 0),
            text=own[:, own.shape[1] - text[-1] :],
        )
        origin = torch.arange(places.shape[1], device=embeds.device).expand(len(rows), -1)
        groups.append(Group(chosen, view, places, text[-1], origin))
    return groups


def _grids_by_row(tokens: list[int], grids: list[Grid]) -> tuple[list[tuple[Grid, ...]], int]:
    """Return the images of each prompt, by its number of image tokens, in order; and how often each prompt is there.

    Beam search repeats prompts after the tower has run. Raises DataError when images are left over.
    """
    held = sum(h * w for h, w in grids)
    beams = sum(tokens) // held if held and sum(tokens) % held == 0 else 1
    rows, todo = [], list(grids)
    for wanted in tokens[::beams]:
        own: list[Grid] = []
        while todo and sum(h * w for h, w in own) < wanted:
            own.append(todo.pop(0))
        rows += [tuple(own)] * beams
    if todo or not grids:
        raise DataError(
            expected=f"image tokens for the {len(grids)} images that the vision tower saw inside this `with`",
            got=f"{sum(tokens)} image tokens in {len(tokens)} prompts",
            fix="give the prompt and the images of one and the same processor call",
        )
    return rows, beams
