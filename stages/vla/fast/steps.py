"""The two steps of an answer as calls without arguments on memory that never moves: read a prompt, tell one token."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from stages.vla.fast.attention import Filled, OneRow, causal, products
from stages.vla.fast.language import Attend, Language, angles_of, run_layers
from stages.vla.fast.static_cache import StaticCache

MOST_ENDS = 8  # tokens that may end an answer

Source = Callable[[], tuple[Tensor, Tensor]]  # embeddings (B L D) and M-RoPE ids (3 B L) of what is to be read


def reading(language: Language, cache: StaticCache, start: int, last: Int[Tensor, "1"]) -> Attend:
    """Attention of a prompt that goes on at place `start` of `cache`, and is left there.

    Of the last layer only position `last` is asked for: its logits are all that anybody reads. What stands behind it is
    padding, which nothing before it sees, and which an answer writes over as it grows.
    """
    last_layer = len(language.layers) - 1

    def attend(i: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows, end = cache.rows(key.shape[0]), start + key.shape[2]
        rows.write(i, start, key, value)
        keys, values = (key, value) if start == 0 else (rows.keys[i, :, :, :end], rows.values[i, :, :, :end])
        if i == last_layer:
            filled = Filled.up_to(last + start, query.shape[0] * language.kv_heads, end)
            return products(query.index_select(2, last), keys, values, language.scaling, filled)
        return causal(query, keys, values, language.scaling)

    return attend


class Read:
    """Reads what `source` gives into the cache from place `start` on, and leaves the logits of what follows `last`."""

    def __init__(
        self, language: Language, head: Tensor, cache: StaticCache, source: Source, start: int, last: Int[Tensor, "1"]
    ) -> None:
        self._language, self._head, self._source, self._last = language, head, source, last
        self._attend = reading(language, cache, start, last)
        self.logits: Float[Tensor, "B V"] = head.new_empty(0, 0)

    def __call__(self) -> None:
        embeds, positions = self._source()
        angles = angles_of(self._language, positions, embeds.dtype)
        hidden = run_layers(self._language, embeds, angles, self._attend, self._last)
        self.logits = F.linear(hidden[:, -1], self._head)

    def left(self) -> Tensor:
        """The logits."""
        return self.logits

    def spoil(self) -> None:
        """Reading again begins where it began."""
        self.logits.fill_(torch.nan)


@dataclass(frozen=True)
class Answer:
    """An answer that is being told, as the device knows it."""

    token: Int[Tensor, " B"]  # the last one told, which is not in the cache yet
    ended: Bool[Tensor, " B"]
    ends: Int[Tensor, " ends"]  # tokens that end an answer; the first fills up what follows
    place: Int[Tensor, "1"]  # of `token` in the cache
    position: Int[Tensor, "1"]  # its M-RoPE id
    told: Int[Tensor, "1"]  # tokens after the first
    tokens: Int[Tensor, "B room"]

    @classmethod
    def empty(cls, B: int, room: int, device: torch.device) -> "Answer":
        """Room for `room` tokens a row."""
        rows, one = torch.zeros(B, dtype=torch.int64, device=device), torch.zeros(1, dtype=torch.int64, device=device)
        place, position, told = one.clone(), one.clone(), one.clone()
        return cls(rows, rows.bool(), one.repeat(MOST_ENDS), place, position, told, rows[:, None].repeat(1, room))

    def begin(self, token: Int[Tensor, " B"], place: int, position: int, ends: tuple[int, ...]) -> None:
        """The first token, chosen by the logits of the prompt; all that came before is forgotten.

        Rows that are asked for nothing tell what the first one does, from whatever their memory holds.
        """
        token = torch.cat([token, token[:1].expand(self.token.shape[0] - token.shape[0])])
        for number, value in ((self.place, place), (self.position, position), (self.told, 0)):
            number.fill_(value)
        self.ends.fill_(ends[0])
        self.ends[: len(ends)].copy_(torch.tensor(ends))
        self.token.copy_(token)
        self.ended.copy_(torch.isin(token, self.ends))
        self.tokens[:, 0].copy_(token)

    def go_on(self, following: Int[Tensor, " B"]) -> None:
        """Append a token to each row; one that has ended repeats the end."""
        self.token.copy_(torch.where(self.ended, self.ends[0], following))
        self.ended.logical_or_((self.token[:, None] == self.ends).any(dim=1))
        for number in (self.told, self.place, self.position):
            number.add_(1)
        self.tokens.index_copy_(1, self.told, self.token[:, None])

    def rewind(self) -> None:
        """Back to the first token."""
        for number in (self.place, self.position):
            number.sub_(self.told)
        self.told.zero_()
        self.token.copy_(self.tokens[:, 0])
        self.ended.copy_((self.token[:, None] == self.ends).any(dim=1))


class Tell:
    """One more token of an answer: embed, all layers over the cache, logits, the greatest."""

    def __init__(
        self, language: Language, embed: Tensor, head: Tensor, cache: StaticCache, answer: Answer, one_row: OneRow
    ) -> None:
        self._language, self._embed, self._head = language, embed, head
        self._cache, self._answer, self._one_row = cache, answer, one_row
        self._logits: Float[Tensor, "B V"] = head.new_empty(0, 0)

    def __call__(self) -> None:
        language, cache, answer = self._language, self._cache, self._answer
        B = answer.token.shape[0]
        filled = Filled.up_to(answer.place, B * language.kv_heads, cache.places)

        def attend(i: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            cache.write_at(i, answer.place, key, value)
            return self._one_row(query, cache.keys[i], cache.values[i], language.scaling, filled)

        embeds = F.embedding(answer.token, self._embed)[:, None]
        angles = angles_of(language, answer.position.expand(3, B, 1), embeds.dtype)
        self._logits = F.linear(run_layers(language, embeds, angles, attend)[:, -1], self._head)
        answer.go_on(self._logits.argmax(dim=-1))

    def left(self) -> Tensor:
        """The logits of the token told last."""
        return self._logits

    def spoil(self) -> None:
        """Tell from the first token on again."""
        self._logits.fill_(torch.nan)
        self._answer.rewind()
