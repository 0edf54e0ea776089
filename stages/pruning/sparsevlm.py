"""SparseVLM (Zhang et al., ICML 2025): what the text that is about the image attends to; a part of the rest is merged.

Written from the maths in research/pruning.md 1.2. Differences from the published code (v1.5): kept tokens keep their
position ids, where the code numbers them anew, and a merged one stands at its cluster's centre; no noise breaks ties of
density; batches, several images (one pool) and any count are served.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stages.backbone.tokens import gather_positions
from stages.core.errors import ParamsError
from stages.pruning.base import Cut, Kept, TokenView, check_option, everything, row_attention_flops
from stages.pruning.base import Pruner as Base
from stages.pruning.view import attention_rows, text_after

SCHEDULES = ("single_stage", "layer_average")
EDIT = "edit pruners.sparsevlm in params.yaml: single_stage takes any model and any count"
LAYERS = (2, 6, 15)  # whose output is pruned
PUBLISHED_TOKENS = 576  # of which the published lists keep, at the three layers, merged ones not counted:
PUBLISHED = {64: (66, 30, 17), 96: (238, 48, 26), 128: (303, 110, 36), 192: (300, 200, 110)}


@dataclass(frozen=True)
class Clusters:
    """Tokens gathered around those that are dense and far from denser ones."""

    centers: Int[Tensor, " C"]  # best first
    assignment: Int[Tensor, " t"]  # to the place of the centre in `centers`
    density: Float[Tensor, " t"]
    score: Float[Tensor, " t"]
    merged: Float[Tensor, "C D"]  # means of the members, fp32


def text_raters(visual: Float[Tensor, "B N D"], text: Float[Tensor, "B R D"]) -> Bool[Tensor, "B R"]:
    """Which text tokens are about the image: of more than mean relevance; all, where none stands out (R = 1)."""
    relevance = text_relevance(visual, text)
    chosen = relevance > relevance.mean(dim=1, keepdim=True)
    return chosen | ~chosen.any(dim=1, keepdim=True)


def text_relevance(visual: Float[Tensor, "B N D"], text: Float[Tensor, "B R D"]) -> Float[Tensor, "B R"]:
    """How visual tokens share themselves out over text tokens: softmax of plain products over R, mean over N."""
    pairs = zip(visual.float(), text.float(), strict=True)  # row by row: a batch then equals its singles to the bit
    return torch.stack([(v @ t.T).softmax(dim=1).mean(dim=0) for v, t in pairs])


def rater_scores(attention: Float[Tensor, "B heads R N"], raters: Bool[Tensor, "B R"]) -> Float[Tensor, "B N"]:
    """Mean over heads, then over the raters' rows, in fp32."""
    rows = attention.float().mean(dim=1) * raters[:, :, None]
    return rows.sum(dim=1) / raters.sum(dim=1, keepdim=True)


def recycle(dropped: int) -> tuple[int, int]:
    """How many of the dropped tokens are merged (3 in 10, at least one), and into how many (1 for each 10 of these)."""
    if not dropped:
        return 0, 0
    merged = 3 * dropped // 10 + 1
    return merged, merged // 10 + 1


def cluster_and_merge(tokens: Float[Tensor, "t D"], clusters: int) -> Clusters:
    """Density-peak clustering over the nearest neighbours (as many as clusters, itself among them), and the means.

    Distances are scaled by sqrt(D). A token scores by its density times its distance to the nearest denser one; of
    equally dense ones neither is denser, as in the published code without its noise.
    """
    x = tokens.float()
    apart = x - x.mean(dim=0)  # what all tokens share would drown the differences in fp32
    norms = apart.square().mean(dim=1)
    squares = norms[:, None] + norms[None] - 2 / x.shape[1] * (apart @ apart.T)
    distance = torch.minimum(squares, squares.T).clamp_min(0).fill_diagonal_(0).sqrt()  # one distance for both ways
    density = (-distance.topk(clusters, dim=1, largest=False).values.square().mean(dim=1)).exp()
    denser = density[None] > density[:, None]
    score = density * torch.where(denser, distance, distance.max()).amin(dim=1)
    centers = score.sort(descending=True, stable=True).indices[:clusters]
    places = torch.arange(clusters, device=x.device)
    assignment = distance[:, centers].argmin(dim=1).scatter(0, centers, places)  # a centre is its own, whatever ties
    member = (assignment[None] == places[:, None]).float()
    merged = member @ x / (member.sum(dim=1, keepdim=True) + 1e-6)
    return Clusters(centers, assignment, density, score, merged)


def single_stage_budget(N: int, K: int) -> int:
    """How many tokens are kept as they are, the largest number that makes K with its clusters; K where none does."""
    return next((k for k in range(min(K, N), 0, -1) if k + recycle(N - k)[1] == K), K)


def layer_average_counts(N: int, K: int, layers: int, *, recycling: bool = True) -> list[int]:
    """Tokens that go on from LAYERS, merged ones counted, so that `layers` layers read K of N tokens on average.

    The published lists, scaled from 576 to N tokens, and their ends (one token, all tokens) are joined by lines, on
    which the average lies within 0.5 of K. Counts never grow. Raises ParamsError when K is out of reach.
    """
    if layers < LAYERS[-1] + 2:
        raise ParamsError(expected=f"at least {LAYERS[-1] + 2} layers for layer_average", got=f"{layers}", fix=EDIT)
    lists = [_with_clusters(budgets, recycling) for budgets in PUBLISHED.values()]
    knots = np.maximum(np.array([[0] * 3, *lists, [PUBLISHED_TOKENS] * 3]) * N / PUBLISHED_TOKENS, 1)
    averages = ((LAYERS[0] + 1) * N + knots @ np.diff([layer + 1 for layer in LAYERS], append=layers)) / layers
    if not averages[0] - 0.5 <= K <= N:
        raise ParamsError(expected=f"an average of {averages[0]:.1f} to {N} tokens", got=f"{K}", fix=EDIT)
    return [round(float(np.interp(K, averages, column))) for column in knots.T]


def _with_clusters(budgets: tuple[int, ...], recycling: bool) -> list[int]:
    """A published list with the merged tokens counted."""
    counts = [PUBLISHED_TOKENS]
    for budget in budgets:
        counts.append(budget + (recycle(counts[-1] - budget)[1] if recycling else 0))
    return counts[1:]


@dataclass(frozen=True)
class Pruner(Base):
    """`single_stage` prunes the output of layer `layer`; `layer_average` those of LAYERS, to K on the layers' average.

    With `recycling`, a part of the tokens that leave goes on as means of clusters; K counts these.
    """

    schedule: str = "single_stage"
    layer: int = 2
    recycling: bool = True

    def __post_init__(self) -> None:
        check_option(self.schedule in SCHEDULES, "sparsevlm", f"a schedule: {' or '.join(SCHEDULES)}", self.schedule)
        check_option(self.layer >= 0, "sparsevlm", "a layer of at least 0", self.layer)

    def cuts(self, N: int, K: int, layers: int) -> tuple[Cut, ...]:
        if self.schedule == "single_stage":
            return (Cut(self.layer + 1, K),)
        counts = layer_average_counts(N, K, layers, recycling=self.recycling)
        return tuple(Cut(layer + 1, count) for layer, count in zip(LAYERS, counts, strict=True))

    def select(self, view: TokenView, K: int) -> Kept:
        N = view.tokens.shape[1]
        if K == N:
            return everything(view)
        text = text_after(view)
        raters = text_raters(view.tokens if view.inputs is None else view.inputs, text)
        scores = rater_scores(attention_rows(view, text.shape[1]), raters)
        order = scores.sort(dim=1, descending=True, stable=True).indices
        kept = self._unmerged(N, K)
        indices, finite = order[:, :kept].sort(dim=1).values, torch.isfinite(scores).all()
        if kept == K:
            return Kept(indices, finite=finite)
        best = order[:, kept : kept + recycle(N - kept)[0]]
        clusters = [cluster_and_merge(x[i], K - kept) for x, i in zip(view.tokens, best, strict=True)]
        merged = torch.stack([c.merged for c in clusters]).to(view.tokens.dtype)
        centers = best.gather(1, torch.stack([c.centers for c in clusters]))
        return Kept(indices, merged, gather_positions(view.positions, centers), finite)

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """Of one cut: relevance of the text to N tokens, its rows of attention, distances and means of the clusters."""
        if K == N:
            return 0
        kept = self._unmerged(N, K)
        t = recycle(N - kept)[0] if kept < K else 0
        return 2 * N * L * D + row_attention_flops(L, N, L, D) + 2 * t * t * D + 2 * (K - kept) * t * D

    def _unmerged(self, N: int, K: int) -> int:
        return single_stage_budget(N, K) if self.recycling else K
