"""The phases of one answered request as calls without arguments, their inputs ready: what latency is measured on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from stages.backbone.qwen import Model
from stages.pruning.base import Kept, Pruner, TokenView
from stages.scenes.base import Frame
from stages.tokens import keep_count
from stages.vla.host import Prefilled, Prompt, decode, prefill

NEVER = -1  # no token id: an answer never ends early, so that every variant decodes equally long


@runtime_checkable
class PhasedDriver(Protocol):
    """A driver whose request can be taken apart."""

    model: Model

    def images(self, frames: Sequence[Frame]) -> Tensor: ...
    def prompt(self, speeds_mps: Sequence[float]) -> Prompt: ...
    def view(self, images: Tensor, keys: tuple[str, ...], prompt: Prompt) -> TokenView: ...


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

    def see(self) -> TokenView:
        """Pixels to visual tokens."""
        return self.driver.view(self.images, (self.frame.token,), self.prompt)

    def read(self, view: TokenView, kept: Kept, K: int) -> Prefilled:
        """Gather the kept tokens and read the prompt."""
        return prefill(self.driver.model, view, kept, K, self.prompt, "latency")

    def answer(self, prefilled: Prefilled) -> Tensor:
        """Decode; first the cache is cut back to the prompt, so that the call can be repeated."""
        surplus = prefilled.cache.get_seq_length() - prefilled.length
        if surplus:
            prefilled.cache.crop(-surplus)
        return decode(self.driver.model, prefilled, self.answer_tokens, NEVER)

    def calls(self, pruner: Pruner, K: int) -> dict[str, Callable[[], object]]:
        """By phase: vision, choose (score and select), prefill (gather and read), decode, end_to_end."""
        view = self.see()
        kept = pruner.select(view, K)
        prefilled = self.read(view, kept, K)

        def serve() -> Tensor:
            fresh = self.see()
            return self.answer(self.read(fresh, pruner.select(fresh, K), K))

        return {
            "vision": self.see,
            "choose": lambda: pruner.select(view, K),
            "prefill": lambda: self.read(view, kept, K),
            "decode": lambda: self.answer(prefilled),
            "end_to_end": serve,
        }


def request(driver: PhasedDriver, frame: Frame, answer_tokens: int) -> Request:
    """The request that `driver` would answer for `frame`."""
    return Request(driver, frame, driver.images([frame]), driver.prompt([frame.speed_mps]), answer_tokens)


def phases(asked: Request, pruners: Mapping[int, Pruner]) -> dict[str, dict[str, Callable[[], object]]]:
    """Calls by phase, then by prune ratio in percent; `pruners` by ratio, no pruning first.

    The vision pass is one call: nothing that prunes behind it can change it.
    """
    N = asked.see().tokens.shape[1]
    by_ratio = {str(percent): asked.calls(pruner, keep_count(N, percent)) for percent, pruner in pruners.items()}
    first = next(iter(by_ratio))
    by_phase = {phase: {name: calls[phase] for name, calls in by_ratio.items()} for phase in by_ratio[first]}
    return by_phase | {"vision": {first: by_phase["vision"][first]}}
