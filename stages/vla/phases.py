"""The phases of one answered request as calls without arguments, their inputs ready: what latency is measured on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from stages.backbone.qwen import Cache, Model
from stages.backbone.tokens import gather_positions, gather_tokens, keep_count
from stages.pruning.base import Kept, Pruner, TokenView
from stages.scenes.base import Frame
from stages.vla.cutting import cuts_inside
from stages.vla.prefill import Chosen, Prefilled, Prompt, decode, language_logits, prefill, pruned_prompt

WATCHED = "watched"  # the vision pass of pruners that need what the tower knows of each token
NEVER = -1  # no token id: an answer never ends early, so that every variant decodes equally long


@runtime_checkable
class PhasedDriver(Protocol):
    """A driver whose request can be taken apart."""

    model: Model

    def images(self, frames: Sequence[Frame]) -> Tensor: ...
    def ask(self, frames: Sequence[Frame]) -> Prompt: ...
    def view(self, images: Tensor, keys: tuple[str, ...], prompt: Prompt, *, watched: bool = False) -> TokenView: ...


@dataclass(frozen=True)
class Request:
    """One image with its prompt, answered by `answer_tokens` tokens."""

    driver: PhasedDriver
    frame: Frame
    images: Tensor
    prompt: Prompt
    answer_tokens: int

    @property
    def text_tokens(self) -> int:
        """L, beside the visual ones."""
        return self.prompt.before.shape[1] + self.prompt.after.shape[1]

    def see(self, pruner: Pruner) -> TokenView:
        """Pixels to visual tokens, with what the tower knows of them where `pruner` needs it."""
        return self.driver.view(self.images, (self.frame.token,), self.prompt, watched=pruner.needs_vision)

    def read(self, view: TokenView, pruner: Pruner, K: int, kept: Kept | None) -> Prefilled:
        """Gather the kept tokens and read the prompt; without a choice made before it, choose on the way."""
        return prefill(self.driver.model, view, pruner if kept is None else Chosen(kept), K, self.prompt)

    def answer(self, prefilled: Prefilled) -> Tensor:
        """Decode; first the cache is cut back to the prompt, so that the call can be repeated."""
        surplus = prefilled.cache.get_seq_length() - prefilled.length
        if surplus:
            prefilled.cache.crop(-surplus)
        return decode(self.driver.model, prefilled, self.answer_tokens, (NEVER,))

    def chosen(self, pruner: Pruner, percent: int) -> tuple[tuple[TokenView, int], ...]:
        """Return what the pruner is shown and how many tokens it is to keep, at each of its cuts."""
        view = self.see(pruner)
        N = view.tokens.shape[1]
        K = keep_count(N, percent)
        if cuts_inside(pruner, N, K, self.layers):
            return self.read(view, pruner, K, None).shown
        return ((view, K),)

    @property
    def layers(self) -> int:
        """Decoder layers of the language model."""
        return len(self.driver.model.model.language_model.layers)

    def prepare(self) -> tuple[Tensor, Prompt]:
        """The image from its file at the driver's size, and the prompt as token ids."""
        return self.driver.images([self.frame]), self.driver.ask([self.frame])

    def calls(self, pruner: Pruner, K: int) -> dict[str, Callable[[], object]]:
        """Return calls by phase: preprocess, vision, choose (score, select, gather), prefill, decode, end_to_end.

        `prefill` reads a prompt that lies ready. A pruner inside the language model chooses during the prefill, which
        then holds it too; `choose` is the same choice once more, by itself. `end_to_end` is the eager host as it
        serves, with its checks.
        """
        view = self.see(pruner)
        inside = cuts_inside(pruner, view.tokens.shape[1], K, self.layers)
        kept = None if inside else pruner.select(view, K)
        prefilled = self.read(view, pruner, K, kept)
        chosen = prefilled.shown if inside else ((view, K),)

        def serve() -> Tensor:
            fresh = self.see(pruner)
            return self.answer(self.read(fresh, pruner, K, None if inside else pruner.select(fresh, K)))

        return {
            "preprocess": self.prepare,
            "vision": lambda: self.see(pruner),
            "choose": lambda: [choose(pruner, seen, keep) for seen, keep in chosen],
            "prefill": (lambda: self.read(view, pruner, K, None)) if kept is None else self._reading(view, kept),
            "decode": lambda: self.answer(prefilled),
            "end_to_end": serve,
        }

    def _reading(self, view: TokenView, kept: Kept) -> Callable[[], Tensor]:
        model = self.driver.model
        embeds, positions = pruned_prompt(model, view, kept, self.prompt)
        return lambda: language_logits(model, embeds, positions, Cache(config=model.config.get_text_config()))


def choose(pruner: Pruner, view: TokenView, K: int) -> tuple[Tensor, Tensor]:
    """Score, select and gather: the kept tokens and their position ids."""
    kept = pruner.select(view, K)
    return gather_tokens(view.tokens, kept.indices), gather_positions(view.positions, kept.indices)


def request(driver: PhasedDriver, frame: Frame, answer_tokens: int) -> Request:
    """The request that `driver` would answer for `frame`."""
    return Request(driver, frame, driver.images([frame]), driver.ask([frame]), answer_tokens)


@dataclass(frozen=True)
class Variant:
    """One way to answer a request: a pruner at a prune ratio in percent."""

    pruner: Pruner
    percent: int


def phases(asked: Request, variants: Mapping[str, Variant]) -> dict[str, dict[str, Callable[[], object]]]:
    """Return calls by phase, then by variant; no pruning first.

    Preparing the image is one call. So is the vision pass, and one more for pruners that have the tower watched:
    nothing else changes it.
    """
    first = next(iter(variants))
    N = asked.see(variants[first].pruner).tokens.shape[1]
    calls = {name: asked.calls(one.pruner, keep_count(N, one.percent)) for name, one in variants.items()}
    by_phase = {phase: {name: each[phase] for name, each in calls.items()} for phase in calls[first]}
    vision = {first: by_phase["vision"][first]}
    watched = [by_phase["vision"][name] for name, one in variants.items() if one.pruner.needs_vision]
    if watched:
        vision[WATCHED] = watched[0]
    return by_phase | {"preprocess": {first: by_phase["preprocess"][first]}, "vision": vision}
