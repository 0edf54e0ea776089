"""Which host reads and answers for a driver: the eager reference, or the fast one; `vla.host` in params.

    tower, host = open_host(options.host, model, answer_tokens)
    prefilled = host.prefill(view, kept, K, prompt, method)
    ids = host.decode(prefilled, steps, ends)

Both answer with the same tokens in fp32. A prompt that was pruned inside the language model is the eager host's, which
both decode.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from stages.backbone.qwen import Model
from stages.backbone.tower import FastTower
from stages.pruning.base import Kept, TokenView
from stages.vla.fast.choices import SERVED, Choices
from stages.vla.fast.host import FastHost, FastPrefilled
from stages.vla.fast.vision import GraphTower
from stages.vla.fast.workspace import FastOptions
from stages.vla.host import Prefilled, Prompt, decode_step, prefill

Read = Prefilled | FastPrefilled  # a prompt that a host has read


@runtime_checkable
class Host(Protocol):
    """Reads prompts that were pruned before the language model, and answers."""

    def prefill(self, view: TokenView, kept: Kept, K: int, prompt: Prompt, method: str) -> Read: ...
    def decode(self, prefilled: Read, steps: int, ends: tuple[int, ...]) -> Int[Tensor, "B S"]: ...


class EagerHost:
    """The functions of `vla/host.py` on one model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def prefill(self, view: TokenView, kept: Kept, K: int, prompt: Prompt, method: str) -> Read:
        """Read a prompt with one image, pruned to `kept`; `method` names the pruner in a failure."""
        return prefill(self._model, view, kept, K, prompt, method)

    def decode(self, prefilled: Read, steps: int, ends: tuple[int, ...]) -> Int[Tensor, "B S"]:
        """Greedy answer tokens, as `decode_until` tells them."""
        assert isinstance(prefilled, Prefilled), "a prompt of the fast host"
        return decode_until(self._model, prefilled, steps, ends)


class CapturedHost:
    """The fast host; what was pruned inside the language model it decodes as the eager one."""

    def __init__(self, model: Model, answer_tokens: int, choices: Choices = SERVED) -> None:
        options = FastOptions(answer_tokens=answer_tokens, choices=choices)
        self._eager, self._fast = EagerHost(model), FastHost(model, options)

    def prefill(self, view: TokenView, kept: Kept, K: int, prompt: Prompt, method: str) -> Read:
        """Read a prompt with one image, pruned to `kept`; it is to be answered before the next is read."""
        return self._fast.prefill(view, kept, K, prompt, method)

    def decode(self, prefilled: Read, steps: int, ends: tuple[int, ...]) -> Int[Tensor, "B S"]:
        """Greedy answer tokens, as `decode_until` tells them."""
        if isinstance(prefilled, Prefilled):
            return self._eager.decode(prefilled, steps, ends)
        return self._fast.decode(prefilled, steps, ends)


def open_host(name: str, model: Model, answer_tokens: int) -> tuple[FastTower, Host]:
    """The vision tower and the host `name`: "eager" or "fast", for answers of at most `answer_tokens`."""
    if name == "fast":
        return GraphTower(model, pointwise=SERVED.pointwise), CapturedHost(model, answer_tokens, SERVED)
    return FastTower(model), EagerHost(model)


def decode_until(model: Model, prefilled: Prefilled, steps: int, ends: tuple[int, ...]) -> Int[Tensor, "B S"]:
    """Greedy answer tokens, at most `steps`; a row that came to one of `ends` repeats the first of them.

    All stop when every row has ended.
    """
    token = prefilled.logits.argmax(dim=-1)
    stops = torch.tensor(ends, device=token.device)
    tokens, ended = [token], torch.isin(token, stops)
    for step in range(steps - 1):
        if bool(ended.all()):
            break
        token = torch.where(ended, stops[0], decode_step(model, prefilled, token, step))
        tokens.append(token)
        ended = ended | torch.isin(token, stops)
    return torch.stack(tokens, dim=1)
