"""Tokens leave a prompt that is being read: the bookkeeping of sequences, positions and padding, for any pruner.

One `Cutter` reads one batch of prompts. It never looks at a value on the device while it works: what has to be checked
there (order, range, finite numbers) is collected, and `check` waits for it once, when everything is on its way.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from weakref import ref

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stages.backbone.attention import layer_rows
from stages.core.errors import DataError, ParamsError
from stages.pruning.base import Cut, Kept, Pruner, TokenView, check_shape, check_verdict, choose, verdict

Kwargs = dict[str, Any]
Rows = Callable[[int], Float[Tensor, "B heads n L"]]  # attention of the last n positions in the layer just run


@dataclass(frozen=True)
class Group:
    """Prompts of the batch that are cut together: equal images, equal padding, equal text after the last image."""

    rows: slice | list[int]  # of the batch
    view: TokenView  # before the first layer
    visual: Int[Tensor, "G N"]  # where the visual tokens stand now
    tail: int  # text tokens after the last of them
    origin: Int[Tensor, "G N"]  # which of the first visual tokens each is; -1 for a merged one


@dataclass(frozen=True)
class Sequences:
    """A batch of prompts between two layers."""

    hidden: Float[Tensor, "B L D"]
    positions: Int[Tensor, "3 B L"]
    valid: Bool[Tensor, "B L"]  # False is padding


class Cutter:
    """Applies the cuts of a pruner to a batch of prompts. `count` gives how many of N visual tokens are to stay."""

    def __init__(
        self,
        pruner: Pruner,
        groups: Sequence[Group],
        count: Callable[[int], int],
        layers: int,
        *,
        per_image: bool = False,
    ) -> None:
        self.pruner, self.groups, self.per_image = pruner, tuple(groups), per_image
        self.method = str(getattr(pruner, "method", type(pruner).__module__.rsplit(".", 1)[-1]))
        self.shown: list[tuple[TokenView, int]] = []  # cut by cut, what the pruner saw and how many it had to keep
        self._verdicts: list[Tensor] = []
        self._keep: dict[int, list[int]] = {}  # by layer, one count for each group
        for group in self.groups:
            N = group.view.tokens.shape[1]
            for cut in checked_cuts(pruner, N, count(N), layers, per_image=per_image):
                self._keep.setdefault(cut.layer, []).append(cut.keep)

    @property
    def layers(self) -> list[int]:
        """The decoder layers before which tokens leave."""
        return sorted(self._keep)

    def cut(self, layer: int, before: Sequences, attention: Rows | None = None) -> Sequences:
        """`before` without the tokens that leave before `layer`; prompts that get shorter are padded on the left."""
        rows = attention if attention is None or len(self.groups) == 1 else cache(attention)  # of all groups at once
        pairs = zip(self.groups, self._keep[layer], strict=True)
        done = [self._cut_group(group, keep, before, rows) for group, keep in pairs]
        L = max(part.hidden.shape[1] for _, part in done)
        self.groups = tuple(replace(group, visual=group.visual + L - part.hidden.shape[1]) for group, part in done)
        if len(done) == 1:
            return done[0][1]
        return _stacked([(group.rows, part) for group, part in done], before, layer)

    def check(self) -> None:
        """Wait for the device; raise AssertionError (a faulty method) or DataError (faulty numbers)."""
        for held in self._verdicts:
            check_verdict(held, self.method)

    def _cut_group(self, group: Group, keep: int, before: Sequences, attention: Rows | None) -> tuple[Group, Sequences]:
        part = Sequences(before.hidden[group.rows], before.positions[:, group.rows], before.valid[group.rows])
        view = view_between(group, part, attention)
        self.shown.append((view, keep))
        kept = choose(self.pruner, view, keep, per_image=self.per_image)
        check_shape(kept, view.tokens.shape[0], keep, self.method)
        self._verdicts.append(verdict(kept, view.tokens))
        return shortened(group, part, kept)


def checked_cuts(pruner: Pruner, N: int, K: int, layers: int, *, per_image: bool = False) -> Sequence[Cut]:
    """Return the pruner's cuts from N to K tokens in a model of `layers` layers.

    Raises ParamsError for a layer that the model does not have, and for a schedule of several cuts whose images are to
    get shares.
    """
    cuts = pruner.cuts(N, K, layers)
    if late := [cut.layer for cut in cuts if cut.layer >= layers]:
        raise ParamsError(
            expected=f"a layer below {layers}, the number that the model has",
            got=f"{pruner}, which prunes before layer {late[0]} and so drops nothing",
            fix="give it a lower `layer` (under pruners in params.yaml)",
        )
    if per_image and len(cuts) > 1:
        expected, got = "a pruner with one cut, to give each image its share", f"{len(cuts)} cuts"
        raise ParamsError(expected=expected, got=got, fix="leave per_image out, or take another schedule")
    return cuts


def cuts_inside(pruner: Pruner, N: int, K: int, layers: int) -> bool:
    """Return True for a pruner that chooses between decoder layers, and not before all of them."""
    return tuple(pruner.cuts(N, K, layers)) != (Cut(0, K),)


def view_between(group: Group, now: Sequences, attention: Rows | None) -> TokenView:
    """Return the view of a group between two layers; `now` holds its rows only, `attention` all rows."""
    D = now.hidden.shape[2]
    whole = group.visual.shape[1] == group.view.tokens.shape[1]

    def over_visual(n: int) -> Float[Tensor, "G heads n N"]:
        assert attention is not None
        rows = attention(n)[group.rows]
        return rows.gather(3, group.visual[:, None, None].expand(-1, *rows.shape[1:3], -1))

    return replace(
        group.view,
        tokens=now.hidden.gather(1, group.visual[:, :, None].expand(-1, -1, D)),
        positions=now.positions.gather(2, group.visual.expand(3, -1, -1)),
        inputs=group.view.tokens,
        attention=None if attention is None else over_visual,
        vision=group.view.vision if whole else None,
        foreground=group.view.foreground if whole else None,
    )


def shortened(group: Group, now: Sequences, kept: Kept) -> tuple[Group, Sequences]:
    """A group and its sequences with the kept visual tokens only; merged ones follow the last image."""
    G, L, D = now.hidden.shape
    K, M = kept.indices.shape[1], 0 if kept.extra_tokens is None else kept.extra_tokens.shape[1]
    places = group.visual.gather(1, kept.indices)
    visual = torch.zeros_like(now.valid).scatter(1, group.visual, True)
    stays = ~visual.scatter(1, places, False)
    order = _places_of_true(stays, L - group.visual.shape[1] + K)
    kept_at = _places_of_true(visual.gather(1, order), K)
    hidden, positions, valid = now.hidden, now.positions, now.valid
    if kept.extra_tokens is not None and kept.extra_positions is not None:
        hidden = torch.cat([hidden, kept.extra_tokens.to(hidden)], dim=1)
        positions = torch.cat([positions, kept.extra_positions], dim=2)
        valid = torch.cat([valid, valid.new_ones(G, M)], dim=1)
        end = order.shape[1] - group.tail
        merged = (torch.arange(M, device=order.device) + L).expand(G, -1)
        order = torch.cat([order[:, :end], merged, order[:, end:]], dim=1)
        kept_at = torch.cat([kept_at, (torch.arange(M, device=order.device) + end).expand(G, -1)], dim=1)
    origin = torch.cat([group.origin.gather(1, kept.indices), group.origin.new_full((G, M), -1)], dim=1)
    after = Sequences(
        hidden.gather(1, order[:, :, None].expand(-1, -1, D)),
        positions.gather(2, order.expand(3, -1, -1)),
        valid.gather(1, order),
    )
    return replace(group, visual=kept_at, origin=origin), after


def _places_of_true(mask: Bool[Tensor, "G L"], count: int) -> Int[Tensor, "G count"]:
    """Where the `count` True entries of each row are, ascending, without asking the device how many there are."""
    return mask.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :count]


def _stacked(parts: Sequence[tuple[slice | list[int], Sequences]], before: Sequences, layer: int) -> Sequences:
    """The groups' rows back in their places, those with fewer tokens padded on the left."""
    lengths = {part.hidden.shape[1] for _, part in parts}
    L = max(lengths)
    if len(lengths) > 1 and layer:
        raise DataError(
            expected="prompts that lose equally many tokens inside the language model",
            got=f"rows of {sorted(lengths)} tokens after layer {layer}",
            fix="give prompts with other image sizes one by one, or a method that prunes before the language model",
        )
    B, _, D = before.hidden.shape
    hidden = before.hidden.new_zeros(B, L, D)
    positions, valid = before.positions.new_zeros(3, B, L), before.valid.new_zeros(B, L)
    for rows, part in parts:
        free = L - part.hidden.shape[1]
        hidden[rows, free:] = part.hidden
        positions[:, rows, free:] = part.positions
        valid[rows, free:] = part.valid
    return Sequences(hidden, positions, valid)


# An untouched language model of transformers reads what is left: hooks shorten what goes from layer to layer, and
# hand each layer the rotary angles and the mask of its sequence. Every layer's cache holds the keys of what it read.


def sequences_of(kwargs: Kwargs) -> Sequences:
    """Return the prompts that the language model is called with."""
    hidden, mask = kwargs["inputs_embeds"], kwargs.get("attention_mask")
    positions = kwargs["position_ids"][-3:].expand(3, *hidden.shape[:2])  # transformers may put text ids first
    valid = torch.ones_like(positions[0], dtype=torch.bool) if mask is None else mask.bool()
    return Sequences(hidden, positions, valid)


class Reading:
    """One batch of prompts, from the first layer on, and the answer tokens that follow it."""

    def __init__(self, language: Any, cutter: Cutter, *, padded: bool) -> None:
        self.language, self.cutter = language, cutter
        self._padded = padded
        self._now: Sequences | None = None
        self._angles: tuple[Tensor, Tensor] | None = None  # of the sequence at hand, where it is not the model's own
        self._before: Tensor | None = None  # what the layer before the next cut has read
        self._valid: list[Bool[Tensor, "B L"]] = []  # by layer: which of its prompt's keys are no padding
        self._next: Int[Tensor, " B"] = torch.empty(0)  # M-RoPE id of the first answer token
        self._cache: Callable[[], Any] = lambda: None  # that the prompt was read into, while it lives

    @property
    def read(self) -> bool:
        """True once the prompt has been read."""
        return len(self._valid) == len(self.language.layers)

    def begin(self, kwargs: Kwargs) -> Kwargs:
        """Return arguments of the language model for the prompt, cut as far as it is cut before the first layer."""
        if self.language.training and getattr(self.language, "gradient_checkpointing", False):
            raise DataError(expected="layers that run once", got="gradient checkpointing", fix="call model.eval()")
        now = sequences_of(kwargs)
        self._next = now.positions.amax(dim=(0, 2)) + 1
        if 0 in self.cutter.layers:
            now = self.cutter.cut(0, now)
            # Rows that lost different numbers of tokens are padded now
            self._padded = self._padded or len(self.cutter.groups) > 1
        self._now, self._valid = now, []
        mask = now.valid.long() if self._padded else None
        return kwargs | {"inputs_embeds": now.hidden, "position_ids": now.positions, "attention_mask": mask}

    def go_on(self, kwargs: Kwargs) -> Kwargs:
        """Return arguments of the language model for answer tokens, which go on where the unpruned prompt would end."""
        cache: Any = kwargs.get("past_key_values")
        new = kwargs["inputs_embeds"].shape[1]
        if cache is None or cache is not self._cache():
            raise DataError(
                expected="answer tokens with the cache of the prompt that was pruned last",
                got="another cache" if cache is not None else "none",
                fix="read one prompt at a time, each to its end, inside one `with`",
            )
        answered = cache.get_seq_length() - self._valid[0].shape[1]
        if answered < 0:
            raise DataError(
                expected="a cache that holds the whole pruned prompt",
                got=f"one with its last {-answered} tokens taken back, as assisted decoding does",
                fix="generate without an assistant and without prompt lookup",
            )
        positions = self._next[:, None] + answered + torch.arange(new, device=self._next.device)
        mask = self._with_answer(0, answered + new).long() if self._padded else None
        return kwargs | {"position_ids": positions.expand(3, *positions.shape), "attention_mask": mask}

    def enter(self, i: int, hidden: Tensor, kwargs: Kwargs) -> tuple[Tensor, Kwargs]:
        """Return what decoder layer `i` is to read, and its arguments."""
        if self.read:
            return hidden, self._answer_mask(i, hidden, kwargs)
        assert self._now is not None
        now = Sequences(hidden, self._now.positions, self._now.valid)
        if i and i in self.cutter.layers:
            now = self.cutter.cut(i, now, self._rows(i - 1, now, kwargs))
            self._angles = self.language.rotary_emb(now.hidden, now.positions)
        self._now = now
        self._before = now.hidden if i + 1 in self.cutter.layers else None
        self._valid.append(now.valid)
        if i == 0 and kwargs.get("past_key_values") is not None:
            self._cache = ref(kwargs["past_key_values"])
        if self.read:
            self._now = None  # nothing of it is needed any more
        if self._angles is not None:
            kwargs = kwargs | {"position_embeddings": self._angles}
            kwargs["attention_mask"] = self._mask(now.valid, now.hidden.shape[1], now.hidden)
        return now.hidden, kwargs

    def _rows(self, i: int, now: Sequences, kwargs: Kwargs) -> Rows:
        """Return attention in layer `i`, which has just run, of as many rows as are asked for."""
        angles = self._angles or kwargs["position_embeddings"]
        cache, before = kwargs.get("past_key_values"), self._before
        keys = None if cache is None else cache.layers[i].keys  # as they are now: the answer adds to them
        assert before is not None
        return lambda n: layer_rows(self.language.layers[i], before, angles, now.valid, n, keys)

    def _answer_mask(self, i: int, hidden: Tensor, kwargs: Kwargs) -> Kwargs:
        if self._valid[i].shape[1] == self._valid[0].shape[1]:
            return kwargs
        answered = kwargs["past_key_values"].get_seq_length(i) - self._valid[i].shape[1] + hidden.shape[1]
        return kwargs | {"attention_mask": self._mask(self._with_answer(i, answered), hidden.shape[1], hidden)}

    def _with_answer(self, i: int, answered: int) -> Bool[Tensor, "B L"]:
        valid = self._valid[i]
        return torch.cat([valid, valid.new_ones(valid.shape[0], answered)], dim=1)

    def _mask(self, valid: Bool[Tensor, "B L"], queries: int, hidden: Tensor) -> Tensor | None:
        """Return the mask that transformers would give a layer; none where its kernel needs none."""
        name = self.language.config._attn_implementation
        if "flash" in name:
            return valid.long() if self._padded else None
        L = valid.shape[1]
        if name == "sdpa" and not self._padded and queries in (1, L):
            return None
        place = torch.arange(L, device=valid.device)
        itself = place == place[L - queries :, None]  # padding sees itself: a row that sees nothing is no number
        allowed = ((valid[:, None] & (place <= place[L - queries :, None])) | itself)[:, None]
        if name == "sdpa":
            return allowed
        return torch.zeros_like(allowed, dtype=hidden.dtype).masked_fill(~allowed, torch.finfo(hidden.dtype).min)


@contextmanager
def hooked(language: Any, reading: Callable[[], Reading | None]) -> Iterator[None]:
    """Inside, `language` reads through `reading()`; a pass for which that is None is left alone."""

    def whole(module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> tuple[tuple[Any, ...], Kwargs]:
        current = reading()
        if current is None:
            return args, kwargs
        return args, current.go_on(kwargs) if current.read else current.begin(kwargs)

    def layer(i: int) -> Any:
        def enter(module: Any, args: tuple[Any, ...], kwargs: Kwargs) -> tuple[tuple[Any, ...], Kwargs]:
            current = reading()
            if current is None:
                return args, kwargs
            hidden, kwargs = current.enter(i, args[0], kwargs)
            return (hidden, *args[1:]), kwargs

        return enter

    handles = [language.register_forward_pre_hook(whole, with_kwargs=True)]
    handles += [part.register_forward_pre_hook(layer(i), with_kwargs=True) for i, part in enumerate(language.layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
