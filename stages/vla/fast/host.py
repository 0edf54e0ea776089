"""The host that is fast: the same prompts, checks and tokens as `vla/host.py`, by captured steps on static memory."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.backbone.qwen import Model
from stages.errors import DataError
from stages.pruning.base import Kept, TokenView, check_shape, check_verdict, verdict
from stages.pruning.view import check_whole
from stages.vla.fast.choices import preferring
from stages.vla.fast.held import Held, plainly_when_full
from stages.vla.fast.static_cache import StaticCache, rounded_up
from stages.vla.fast.workspace import FastOptions, Weights, Workspace
from stages.vla.host import Prompt, next_position, pruned_prompt


@dataclass(frozen=True)
class FastPrefilled:
    """A prompt that lies in the static cache until the next one is read."""

    logits: Float[Tensor, "B V"]  # of the first answer token
    next_position: int  # M-RoPE id of the first answer token
    length: int  # tokens in the cache
    pruned: int  # visual tokens that the language model did not see
    kept: Int[Tensor, "B K"]  # those it saw, ascending; -1 for merged ones, which come last
    workspace: Workspace  # where it lies
    ticket: int  # which of its prompts it is


class FastHost:
    """Reads and answers one batch of prompts after the other; every pruner that chooses before the language model.

    A cut inside the language model stays with the eager host, whose hooks it needs. Each pair of batch size and number
    of tokens is captured once; so it pays where these repeat, as they do in a table's cell.
    """

    def __init__(self, model: Model, options: FastOptions | None = None, weights: Weights | None = None) -> None:
        check_plain(model)
        self.model, self.options = model, options or FastOptions()
        self.weights = weights or Weights(model, self.options)  # given where hosts share them: fused ones are copies
        self._prefixes = Held[StaticCache](self.options.kept_prefixes)
        self._workspaces = Held[Workspace](self.options.kept_batches)

    @torch.inference_mode()
    def prefill(self, view: TokenView, kept: Kept, K: int, prompt: Prompt, method: str) -> FastPrefilled:
        """Read a prompt with one image, pruned to `kept`; `method` names the pruner in a failure."""
        B, N, _ = view.tokens.shape
        check_whole(view)
        check_shape(kept, B, K, method)
        held = verdict(kept, view.tokens)
        embeds, positions = pruned_prompt(self.model, view, kept, prompt)
        logits, workspace = self._read(embeds, positions, self.prefix(prompt))
        check_verdict(held, method)  # waits for the device, when all is on its way
        merged = kept.indices.new_full((B, K - kept.indices.shape[1]), -1)
        indices = torch.cat([kept.indices, merged], dim=1)
        position = next_position(view, prompt)
        return FastPrefilled(logits, position, embeds.shape[1], N - K, indices, workspace, workspace.ticket)

    @torch.inference_mode()
    def read(
        self, embeds: Float[Tensor, "B L D"], positions: Int[Tensor, "3 B L"], prefix: StaticCache | None = None
    ) -> Float[Tensor, "B V"]:
        """Logits after any prompt of embeddings, whose first tokens may be a `prefix` that was read before."""
        return self._read(embeds, positions, prefix)[0]

    def _read(self, embeds: Tensor, positions: Tensor, prefix: StaticCache | None) -> tuple[Tensor, Workspace]:
        B, L, _ = embeds.shape

        def call(plain: bool) -> tuple[Tensor, Workspace]:
            workspace = self.workspace(B, L)
            start = workspace.begin_with(prefix)
            with preferring(self.options.choices.kernel):
                logits = workspace.read(embeds[:, start:], positions[:, :, start:], start, plain=plain)
            return logits.clone(), workspace

        return plainly_when_full(call, self.forget)

    def forget(self) -> None:
        """Let go all memory but the weights and what was read last."""
        for workspace in self._workspaces.values():
            workspace.forget()  # a prompt that is still to be answered holds its own
        self._workspaces.clear()

    @torch.inference_mode()
    def decode(self, prefilled: FastPrefilled, steps: int, ends: tuple[int, ...]) -> Int[Tensor, "B S"]:
        """Greedy answer tokens, at most `steps`; a row that came to one of `ends` repeats the first of them.

        Raises DataError for a prompt that lies there no more.
        """
        if prefilled.ticket != prefilled.workspace.ticket:
            raise DataError(
                wanted="the prompt that was read last",
                came="an earlier one, whose place in the static cache is taken",
                then="answer each prompt before the next is read, or set vla.host to eager",
            )
        first = prefilled.logits.argmax(dim=-1)
        tell = partial(prefilled.workspace.tell, first, prefilled.length, prefilled.next_position, steps, ends)
        return plainly_when_full(lambda plain: tell(plain=plain), self.forget)

    @torch.inference_mode()
    def prefix(self, prompt: Prompt) -> StaticCache | None:
        """Keys and values of the text before the image, where it is one for all rows and to be kept."""
        if not self.options.keep_prefix:
            return None
        rows = {tuple(row) for row in prompt.before.tolist()}
        if len(rows) != 1:
            return None
        (ids,) = rows
        return self._prefixes.get(ids, lambda: self.weights.prefix(prompt.before[0]))

    def workspace(self, B: int, length: int) -> Workspace:
        """Memory for B rows of `length` tokens and an answer; a longer prompt than any before begins anew.

        Rows are those of the next power of two: what is left of a table's cell comes in every size.
        """
        places, rows = rounded_up(length + self.options.room), 1 << (B - 1).bit_length()
        make = partial(Workspace, self.weights, self.options, rows, places)
        held = self._workspaces.get(rows, make)
        if held.cache.places < places:
            del held
            self._workspaces.drop(rows)  # its memory is free before more is taken
        return self._workspaces.get(rows, make)


def check_plain(model: Model) -> None:
    """Raise DataError for a language model that is more than the fast host's functions are."""
    config: Any = model.config.get_text_config()
    rope, sliding = config.rope_parameters.get("rope_type", "default"), getattr(config, "use_sliding_window", False)
    if rope not in ("default", "mrope") or sliding or config.hidden_act != "silu":
        raise DataError(
            wanted="a language model with plain M-RoPE, full attention and SiLU",
            came=f"rope_type {rope}, use_sliding_window {sliding}, hidden_act {config.hidden_act}",
            then="set vla.host to eager in params.yaml",
        )
