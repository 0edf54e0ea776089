"""One request of a fixed shape as one captured step: choose, gather, embed the text, read."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stages.backbone.mrope import prompt_positions
from stages.pruning.base import Kept, Pruner, TokenView, check_shape, check_verdict, verdict
from stages.tokens import gather_positions, gather_tokens
from stages.vla.fast.choices import preferring
from stages.vla.fast.host import FastHost, FastPrefilled
from stages.vla.host import Prompt, next_position


class Serving:
    """Requests with one image of one size, and text of one length, pruned to K by one method.

    For methods that look at nothing but the visual tokens. One that draws on the host (random_keep) or waits for the
    device while it chooses cannot be captured.
    """

    def __init__(self, host: FastHost, pruner: Pruner, K: int, view: TokenView, prompt: Prompt) -> None:
        self._host, self._pruner, self._K = host, pruner, K
        device, tokens = view.tokens.device, view.tokens
        B, N, _ = tokens.shape
        with torch.inference_mode():
            # The first request itself: tokens that are all alike would leave a choice to chance in each warm-up
            self._tokens, self._after = tokens.clone(), prompt.after.to(device, copy=True)
            self._view = TokenView(self._tokens, view.grids, view.positions.to(device), view.keys, view.encoder)
            self._prefix = host.prefix(prompt)
            start = 0 if self._prefix is None else self._prefix.places
            before = prompt.before.shape[1]
            whole = prompt_positions(before, view.grid, prompt.after.shape[1]).to(device).expand(3, B, -1)
            self._head, self._tail = whole[:, :, start:before], whole[:, :, before + N :]
            self._before = prompt.before[:, start:].to(device)
            self._length, self._position = prompt.length + K, next_position(view, prompt)
            self._workspace = host.workspace(B, self._length)
            # What a step leaves behind stays at these names: a replay fills the memory of the captured call
            self._kept, self._held = Kept(torch.empty(B, 0, dtype=torch.int64)), torch.ones(3, dtype=torch.bool)
            last = torch.tensor([self._length - start - 1], device=device)
            self._run = self._workspace.reader(self._assembled, start, last)
            self._workspace.begin_with(self._prefix)
            with preferring(host.options.choices.kernel):
                self._run.capture()

    def _assembled(self) -> tuple[Float[Tensor, "B L D"], Int[Tensor, "3 B L"]]:
        """Embeddings and position ids of the pruned prompt; nothing here asks the device for a number."""
        view, kept = self._view, self._pruner.select(self._view, self._K)
        self._kept, self._held = kept, verdict(kept, view.tokens)
        embed = self._host.weights.embed
        visual = [gather_tokens(view.tokens, kept.indices).to(embed.dtype)]
        positions = [gather_positions(view.positions, kept.indices)]
        if kept.extra_tokens is not None and kept.extra_positions is not None:
            visual.append(kept.extra_tokens.to(embed.dtype))
            positions.append(kept.extra_positions)
        before, after = F.embedding(self._before, embed), F.embedding(self._after, embed)
        embeds = torch.cat([before, *visual, after], dim=1)
        return embeds, torch.cat([self._head, *positions, self._tail], dim=2)

    @torch.inference_mode()
    def launch(self, tokens: Float[Tensor, "B N D"], after: Int[Tensor, "B La"]) -> Float[Tensor, "B V"]:
        """Logits of the next token, in memory that the next call reuses; waits for nothing."""
        self._tokens.copy_(tokens)
        self._after.copy_(after)
        self._workspace.begin_with(self._prefix)
        return self._run()

    @torch.inference_mode()
    def prefill(self, tokens: Float[Tensor, "B N D"], after: Int[Tensor, "B La"]) -> FastPrefilled:
        """The prompt, read and checked, for `FastHost.decode`."""
        logits = self.launch(tokens, after).clone()
        method = type(self._pruner).__module__
        B, N, _ = tokens.shape
        check_shape(self._kept, B, self._K, method)
        check_verdict(self._held, method)
        kept = self._kept.indices
        indices = torch.cat([kept, kept.new_full((B, self._K - kept.shape[1]), -1)], dim=1)
        workspace = self._workspace
        return FastPrefilled(logits, self._position, self._length, N - self._K, indices, workspace, workspace.ticket)
