"""The memory of one batch size, and the steps that run in it: each captured once for its lengths."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from weakref import proxy

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stages.backbone.qwen import Model
from stages.errors import DataError
from stages.vla.fast.attention import ONE_ROW
from stages.vla.fast.choices import SERVED, Choices
from stages.vla.fast.held import Held
from stages.vla.fast.language import Language, angles_of, language_of, run_layers
from stages.vla.fast.pointwise import Pointwise
from stages.vla.fast.runner import WARMUPS, Eager, Runner, RunnerOf, runner_on
from stages.vla.fast.static_cache import ROUND_TO, StaticCache, rounded_up
from stages.vla.fast.steps import MOST_ENDS, Answer, Read, Source, Tell, reading

POLL = 8  # tokens between two looks at whether all rows have ended: each waits for the device


@dataclass(frozen=True)
class FastOptions:
    """How it runs; none of this changes which tokens are answered in fp32."""

    fused: bool = True  # q, k and v by one product, gate and up by one; costs a copy of these weights
    choices: Choices = SERVED
    keep_prefix: bool = True  # read the text before the image once, and keep its keys and values
    answer_tokens: int = 128  # room for the longest answer
    runner: RunnerOf | None = None  # None: a captured graph on a GPU, plain calls elsewhere
    captures_after: int = 1  # calls of one length: capturing costs as much as five, and a length may never come back
    bucket: int = ROUND_TO  # places: prompts are padded to a multiple, since their lengths differ by a few digits
    # What is captured has memory of its own, at 3B some 80 KB for each token read: at most 10 GB a batch size
    kept_readers: int = 12
    kept_tokens: int = 131072  # read by all of them together, rows times length: eight rows at four ratios, twice
    kept_batches: int = 4  # batch sizes, powers of two
    kept_prefixes: int = 8

    @property
    def room(self) -> int:
        """Places for an answer in the cache: warming up tells some tokens too."""
        return max(self.answer_tokens, WARMUPS + 2)


class Weights:
    """A stock model's weights as the steps take them."""

    def __init__(self, model: Model, options: FastOptions) -> None:
        self.language: Language = language_of(model, fused=options.fused, pointwise=options.choices.pointwise)
        self.embed: Tensor = model.get_input_embeddings().weight
        self.head: Tensor = model.lm_head.weight

    def by(self, pointwise: Pointwise) -> "Weights":
        """The same memory, with other arithmetic between the products."""
        other = copy(self)
        other.language = replace(self.language, pointwise=pointwise)
        return other

    def prefix(self, ids: Int[Tensor, " Lb"]) -> StaticCache:
        """Keys and values of a text that begins a prompt, one row."""
        places, L = ids.to(self.embed.device), ids.shape[0]
        last = torch.tensor([L - 1], device=self.embed.device)
        cache = StaticCache.empty(self.language.cache_shape(1, L), self.embed)
        embeds = F.embedding(places, self.embed)[None]
        positions = torch.arange(L, device=places.device).expand(3, 1, -1)
        angles = angles_of(self.language, positions, embeds.dtype)
        run_layers(self.language, embeds, angles, reading(self.language, cache, 0, last), last)
        return cache


class Reader:
    """A `Read` that is captured when it has been called `plain` times; `taken` is told ahead of every run."""

    def __init__(self, step: Read, runner_of: RunnerOf, taken: Callable[[], None], plain: int = 0) -> None:
        self._step, self._runner_of, self._taken, self._plain = step, runner_of, taken, plain
        self._run: Runner | None = None

    def __call__(self, *, plain: bool = False) -> Float[Tensor, "B V"]:
        """Logits of the next token, in memory that the next call reuses."""
        self._taken()
        if plain:
            self._step()
        elif self._plain:
            self._plain -= 1
            self._step()
        else:
            self._run = self._run or self._runner_of(self._step)  # reading twice leaves what reading once does
            self._run()
        return self._step.logits

    def capture(self) -> None:
        """Now, and not at the first call; this reads what the buffers hold, over any prompt that was read before."""
        self._taken()
        self._run = self._runner_of(self._step)


@dataclass(frozen=True)
class Bucket:
    """Buffers for prompts of at most L tokens, and the step that reads them."""

    embeds: Float[Tensor, "B L D"]
    positions: Int[Tensor, "3 B L"]
    last: Int[Tensor, "1"]  # place of the last token, behind which there is padding
    reader: Reader


class Workspace:
    """A static cache for B rows of at most `places` tokens, one answer, and the steps that were captured on them.

    Prompts of fewer rows are read as they are; telling runs all rows.
    """

    def __init__(self, weights: Weights, options: FastOptions, B: int, places: int) -> None:
        self.weights, self.options, self.B = weights, options, B
        self.cache = StaticCache.empty(weights.language.cache_shape(B, places), weights.embed)
        device = weights.embed.device
        self.answer = Answer.empty(B, options.room, device)
        self._runner_of = options.runner or runner_on(device)
        self._buckets = Held[Bucket](options.kept_readers, options.kept_tokens)
        self._tellers = dict[int, Runner]()
        self._prefix: StaticCache | None = None  # that the cache begins with
        self.ticket = 0  # of the prompt that was read last

    def forget(self) -> None:
        """Let go what was captured; what was read stays."""
        self._buckets.clear()
        self._tellers.clear()

    def begin_with(self, prefix: StaticCache | None) -> int:
        """Let the cache begin with a prefix; its length."""
        self.ticket += 1
        if prefix is None:
            self._prefix = None
            return 0
        if self._prefix is not prefix:
            self.cache.begin_with(prefix)
            self._prefix = prefix
        return prefix.places

    def read(
        self, embeds: Float[Tensor, "b L D"], positions: Int[Tensor, "3 b L"], start: int, *, plain: bool = False
    ) -> Float[Tensor, "b V"]:
        """Read a prompt of b rows from place `start` on; `plain`: with nothing captured."""
        rows, L, _ = embeds.shape
        padded = rounded_up(start + L, self.options.bucket) - start
        make = partial(self._bucket, embeds, padded, start)
        bucket = self._buckets.get((rows, padded, start), make, rows * padded)
        bucket.embeds[:, :L].copy_(embeds)
        bucket.positions[:, :, :L].copy_(positions)
        bucket.last.fill_(L - 1)
        return bucket.reader(plain=plain)

    def _bucket(self, like: Float[Tensor, "b L D"], padded: int, start: int) -> Bucket:
        B, L, D = like.shape
        embeds = like.new_zeros(B, padded, D)
        positions, last = torch.zeros(3, B, padded, device=like.device).long(), torch.tensor([L - 1]).to(like.device)
        reader = self.reader(lambda: (embeds, positions), start, last, self.options.captures_after)
        return Bucket(embeds, positions, last, reader)

    def reader(self, source: Source, start: int, last: Int[Tensor, "1"], plain: int = 0) -> Reader:
        """A step that reads what `source` gives, from place `start` on, as far as its place `last`.

        Captured after `plain` calls.
        """
        step = Read(self.weights.language, self.weights.head, self.cache, source, start, last)
        taken = partial(Workspace._write_over, proxy(self), start)  # weak: a circle would outlive the last use
        return Reader(step, self._runner_of, taken, plain)

    def _write_over(self, start: int) -> None:
        """What was read before is not to be answered; a prefix longer than `start` is there no more."""
        self.ticket += 1
        if self._prefix is not None and start < self._prefix.places:
            self._prefix = None

    def teller(self, length: int, *, plain: bool = False) -> Runner:
        """The captured step that goes on after a prompt of `length` tokens; `plain`: the step itself."""
        places = min(rounded_up(length + self.options.room), self.cache.places)
        if plain:
            return Eager(self._telling(places))
        if places not in self._tellers:
            self.answer.begin(self.answer.token, length, 0, (-1,))  # where warming up does no harm
            self._tellers[places] = self._runner_of(self._telling(places))
        return self._tellers[places]

    def _telling(self, places: int) -> Tell:
        weights, name = self.weights, self.options.choices.one_row
        cache = self.cache if name == "flash" else self.cache.first(places)
        return Tell(weights.language, weights.embed, weights.head, cache, self.answer, ONE_ROW[name])

    def tell(
        self,
        first: Int[Tensor, " b"],
        length: int,
        position: int,
        steps: int,
        ends: tuple[int, ...],
        *,
        plain: bool = False,
    ) -> Int[Tensor, "b S"]:
        """At most `steps` tokens of an answer that begins with `first`; no more when each row came to one of `ends`.

        Raises DataError when there is no room for so many.
        """
        if steps > self.options.room or len(ends) > MOST_ENDS:
            raise DataError(
                wanted=f"an answer of at most {self.options.room} tokens, and at most {MOST_ENDS} that end it",
                came=f"{steps} and {len(ends)}",
                then="open the host with more answer_tokens",
            )
        run, rows = self.teller(length, plain=plain), first.shape[0]
        self.answer.begin(first, length, position, ends)
        told = 1
        while told < steps and not (told % POLL == 1 and bool(self.answer.ended[:rows].all())):
            run()
            told += 1
        tokens = self.answer.tokens[:rows, :told].clone()
        return tokens[:, : until_all_ended(tokens, ends)]


def until_all_ended(tokens: Int[Tensor, "B S"], ends: tuple[int, ...]) -> int:
    """As many tokens as it takes until each row has told one of its `ends`; S where one never does."""
    ended = torch.isin(tokens, torch.tensor(ends, device=tokens.device))
    first = torch.where(ended.any(dim=1), ended.int().argmax(dim=1) + 1, tokens.shape[1])
    return int(first.max())
