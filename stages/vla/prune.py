"""Pruning in anyone's `model.generate`: an untouched `Qwen2_5_VLForConditionalGeneration`, inside one `with`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from jaxtyping import Int
from torch import Tensor

from stages.backbone.qwen import Model, encoder_fingerprint
from stages.backbone.tokens import keep_count
from stages.backbone.vision import Watch, grids_of, grouped
from stages.core.errors import DataError, ParamsError
from stages.pruning.base import Pruner
from stages.pruning.view import Grid
from stages.vla.cutting import Cutter, Sequences, check_one_cut
from stages.vla.prompts import groups_of, valid_places
from stages.vla.reading import Reading, hooked

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
    _check_cuts(pruner, keep_count(1_000_000, percent), len(inner.language_model.layers), per_image=per_image)
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


def _check_cuts(pruner: Pruner, K: int, layers: int, *, per_image: bool) -> None:
    cuts = pruner.cuts(1_000_000, K, layers)
    late = [cut.layer for cut in cuts if cut.layer >= layers]
    if late:
        raise ParamsError(
            expected=f"a layer below {layers}, the number that the model has",
            got=f"{pruner}, which prunes ahead of layer {late[0]} and so drops nothing",
            fix="give the pruner a lower `layer`",
        )
    check_one_cut(cuts, per_image=per_image)


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
        grids = grids_of(kwargs["grid_thw"] if "grid_thw" in kwargs else args[1])
        self._grids = [(h // merge, w // merge) for _, h, w in grids]

    def before_prompt(self, module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """Note what the multimodal model is given; text alone, and answer tokens, bring no images."""
        encoded, past, ids = (
            kwargs.get("mm_encoder_outputs") or {},
            kwargs.get("past_key_values"),
            kwargs.get("input_ids"),
        )
        if kwargs.get("pixel_values_videos") is not None or encoded.get("video") is not None:
            raise DataError(expected="images", got="a video", fix="give its frames as images")
        brings_images = kwargs.get("pixel_values") is not None or encoded.get("image") is not None
        begins = past is None or past.get_seq_length() == 0
        if begins and (ids is None or kwargs.get("inputs_embeds") is not None):
            raise DataError(
                expected="input_ids, by which image tokens are found",
                got="inputs_embeds",
                fix="pass input_ids and pixels",
            )
        if begins and not brings_images:
            if bool((ids == self.model.config.image_token_id).any()):
                raise DataError(expected="the images of the prompt", got="image tokens alone", fix="pass pixel_values")
            self.reading = None
        self._ids = ids if brings_images else None
        if not begins and self.reading is not None and ids is not None and ids.shape[1] > 1 and not brings_images:
            self._check_given(kwargs)

    def _check_given(self, kwargs: Kwargs) -> None:
        # `generate` finds what is new by the length of the cache, which pruning has made shorter than the prompt
        if kwargs.get("position_ids") is not None:
            raise DataError(
                expected="answer tokens one by one after a pruned prompt",
                got=f"{kwargs['input_ids'].shape[1]} at once: a conversation that goes on, or assisted decoding",
                fix="generate from the whole conversation without past_key_values and without an assistant",
            )

    def before_language(self, module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """Start the reading of a prompt, now that its embeddings are there."""
        if self._ids is None:
            return
        past = kwargs.get("past_key_values")
        if past is not None and past.get_seq_length():
            raise DataError(
                expected="all images of a conversation in one prompt",
                got=f"new images after {past.get_seq_length()} tokens that were read before",
                fix="start again without past_key_values",
            )
        if getattr(past, "is_compileable", False) or isinstance(kwargs.get("attention_mask"), dict):
            raise DataError(
                expected="a cache that grows, since each layer may read another number of tokens",
                got=f"{type(past).__name__}, of fixed size",
                fix="leave out cache_implementation and past_key_values",
            )
        embeds = kwargs["inputs_embeds"]
        valid = valid_places(kwargs.get("attention_mask"), embeds)
        read = Sequences(embeds, kwargs["position_ids"][-3:].expand(3, *valid.shape), valid)
        facts = None if self.watch is None else self.watch.of_images()
        groups = groups_of(self._ids, self.model.config.image_token_id, self._grids, facts, read, self.encoder)
        language: Any = self.model.model.language_model
        how: Any = {"per_image": self.per_image, "record": False}
        cutter = Cutter(self.pruner, groups, lambda N: keep_count(N, self.percent), len(language.layers), **how)
        self.reading = Reading(language, cutter, padded=not bool(valid.all()))

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


def _fingerprint(model: Model) -> str:
    """`encoder_fingerprint`, which reads 1.3 GB at 3B, once for the same untouched weights."""
    visual = model.model.visual
    versions = tuple((weight.data_ptr(), weight._version) for weight in visual.parameters())
    known = _FINGERPRINTS.get(visual)
    if known is None or known[0] != versions:
        known = _FINGERPRINTS[visual] = (versions, encoder_fingerprint(model))
    return known[1]
