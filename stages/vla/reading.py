"""A prompt that is pruned while an untouched language model of transformers reads it, by hooks that leave no trace.

The stock forward pass runs: the hooks only shorten what goes from one layer to the next, and hand each layer the
rotary angles and the mask of the sequence that it reads. Every layer's cache holds the keys of what that layer read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ref

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stages.backbone.attention import layer_rows
from stages.core.errors import DataError
from stages.vla.cutting import Cutter, Rows, Sequences

Kwargs = dict[str, Any]


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
