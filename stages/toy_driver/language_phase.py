"""Phase 2: the language model learns to drive on top of the frozen tower: a regression head first, then text.

Trained on text alone it hardly uses the image: later waypoints follow from earlier ones. So the regression comes
first, and in the second half a share of the numbers it could copy from is hidden from it.
"""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from stages.backbone.mrope import prompt_positions
from stages.backbone.qwen import Model
from stages.pruning.base import Kept, TokenView
from stages.scenes.base import FUTURE_STEPS
from stages.vla.prefill import Prompt, pruned_prompt

HIDDEN_NUMBERS = 0.7  # of the numeric answer inputs of every second sample
# Subsets of tokens in training
UNPRUNED_SHARE = 0.2
KEEP_RANGE = (0.2, 1.0)
REGRESSION_WEIGHT = 0.5  # beside the answers
WHOLE_SIGMA, DECIMAL_SIGMA = 0.6, 1.5  # spread of the soft labels over neighbouring numbers


def soft_labels(whole: Int[Tensor, " I"], decimals: Int[Tensor, " J"], V: int) -> Float[Tensor, "V V"]:
    """Return in row i the target distribution when word i is right; a number shares mass with its neighbours."""
    table = torch.eye(V)
    for ids, sigma in ((whole, WHOLE_SIGMA), (decimals, DECIMAL_SIGMA)):
        steps = torch.arange(len(ids)).float()
        near = torch.exp(-0.5 * ((steps[:, None] - steps[None]) / sigma) ** 2)
        table[ids[:, None], ids[None]] = near / near.sum(1, keepdim=True)
    return table


class LanguageTraining(nn.Module):
    """A whole model whose tower is frozen, with a regression head on the last prompt token."""

    labels: Tensor  # buffers
    numeric: Tensor

    def __init__(self, model: Model, labels: Float[Tensor, "V V"], numeric: Int[Tensor, " M"], pad: int) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(model.config.text_config.hidden_size, 2 * FUTURE_STEPS)
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("numeric", numeric, persistent=False)
        self.pad = pad

    def regress(self, view: TokenView, kept: Kept, prompt: Prompt) -> Float[Tensor, "B 12"]:
        """Return the plan (see `plan_target`) from the last prompt token."""
        embeds, positions = pruned_prompt(self.model, view, kept, prompt)
        return self.head(self._hidden(embeds, positions)[:, -1])

    def regression_losses(
        self, view: TokenView, kept: Kept, prompt: Prompt, target: Float[Tensor, "B 12"]
    ) -> dict[str, Tensor]:
        """Return the smooth L1 loss of the regression alone."""
        return {"loss": F.smooth_l1_loss(self.regress(view, kept, prompt), target, beta=0.1)}

    def answer(
        self, view: TokenView, kept: Kept, prompt: Prompt, given: Int[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S V"], Float[Tensor, "B 12"]]:
        """Return logits of the answer's tokens when all but the last of `given` are fed, and the regression."""
        embeds, positions = pruned_prompt(self.model, view, kept, prompt)
        B, S = given.shape
        answer = self.model.get_input_embeddings()(given[:, :-1])
        whole = prompt_positions(prompt.before.shape[1], view.grid, prompt.after.shape[1] + S - 1)
        tail = whole[:, :, whole.shape[2] - (S - 1) :].expand(3, B, -1)
        hidden = self._hidden(torch.cat([embeds, answer], 1), torch.cat([positions, tail], 2))
        return self.model.lm_head(hidden[:, -S:]), self.head(hidden[:, -S])

    def answer_losses(
        self, view: TokenView, kept: Kept, prompt: Prompt, truth: tuple[Tensor, Tensor], generator: Generator
    ) -> dict[str, Tensor]:
        """Return the losses of both; `truth`: answer ids (B, S) and regression target (B, 12)."""
        ids, target = truth
        logits, plan = self.answer(view, kept, prompt, self._hide_numbers(ids, generator))
        text = F.cross_entropy(logits.flatten(0, 1), self.labels[ids.flatten()])
        path = F.smooth_l1_loss(plan, target, beta=0.1)
        return {"loss": text + REGRESSION_WEIGHT * path, "text": text, "plan": path}

    def _hidden(self, embeds: Float[Tensor, "B L D"], positions: Int[Tensor, "3 B L"]) -> Float[Tensor, "B L D"]:
        output = self.model.model.language_model(inputs_embeds=embeds, position_ids=positions, use_cache=False)
        return output.last_hidden_state

    def _hide_numbers(self, ids: Int[Tensor, "B S"], generator: Generator) -> Int[Tensor, "B S"]:
        numeric = torch.isin(ids, self.numeric)
        hide = torch.rand(ids.shape, generator=generator) < HIDDEN_NUMBERS
        every_second = (torch.arange(len(ids)) % 2 == 0)[:, None]
        return ids.masked_fill(numeric & hide & every_second, self.pad)


def view_of(tokens: Float[Tensor, "B N D"], grid: tuple[int, int], before: int) -> TokenView:
    """Return cached tokens as a view; training needs neither names nor a fingerprint."""
    B, N, _ = tokens.shape
    return TokenView(tokens, (grid,), prompt_positions(before, grid, 0)[:, :, before:].expand(3, B, N), ("",) * B, "")


def subset(grid: tuple[int, int], B: int, generator: Generator) -> Int[Tensor, "B K"]:
    """Return ascending indices of kept tokens: one K for the batch, a kind of removal drawn for each sample.

    A driver that always saw all tokens fails when a region is missing, and then ranks random thinning first whatever
    the pruners are worth. So it meets thinning, smooth fields, rows, blocks and mixtures, drawn independently of any
    pruner that will be evaluated.
    """
    N = grid[0] * grid[1]
    low, high = KEEP_RANGE
    draw = torch.rand(2, generator=generator)
    K = N if draw[0] < UNPRUNED_SHARE else max(1, round(N * float(low + (high - low) * draw[1])))
    scores = torch.stack([_scores(grid, generator) for _ in range(B)])
    return scores.topk(K, dim=1).indices.sort(dim=1).values


def _scores(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    """Return random weights of the four kinds, mixed; a kind is left out of a mixture two times in three."""
    kinds = torch.stack(
        [_thinning(grid, generator), _field(grid, generator), _rows(grid, generator), _blocks(grid, generator)]
    )
    weights = torch.rand(4, generator=generator) * (torch.rand(4, generator=generator) < 1 / 3)
    chosen = int(torch.randint(4, (1,), generator=generator))
    weights[chosen] += 1
    return (weights[:, None] * kinds).sum(0) + 1e-3 * _thinning(grid, generator)


def _thinning(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    return torch.rand(grid[0] * grid[1], generator=generator)


def _field(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    coarse = torch.rand(1, 1, 3, 4, generator=generator)
    field = torch.nn.functional.interpolate(coarse, size=grid, mode="bilinear", align_corners=True)
    return field.flatten()


def _rows(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    """A ramp down or up the image, or rows in random order."""
    h, w = grid
    ramp = torch.linspace(0, 1, h)
    kind = int(torch.randint(3, (1,), generator=generator))
    values = (ramp, 1 - ramp, torch.rand(h, generator=generator))[kind]
    return values[:, None].expand(h, w).flatten()


def _blocks(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    h, w = grid
    coarse = torch.rand(1, 1, -(-h // 2), -(-w // 3), generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=(2, 3), mode="nearest")[0, 0, :h, :w].flatten()
