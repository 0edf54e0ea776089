"""One pruner's FLOPs at several prune ratios, set against the unpruned prompt under each way of counting."""

from collections.abc import Sequence
from typing import Any

from stages.efficiency.flops import decode_flops, decoder_layer_flops, prompt_flops
from stages.efficiency.shapes import ModelShape
from stages.pruning.base import Pruner, tokens_by_layer
from stages.tokens import keep_count

# Which parts a total holds. The paper names none; its ratio of 7.5 is reached by none of them.
ACCOUNTINGS = ("without_vision", "without_vision_causal", "with_vision")


def account(
    shape: ModelShape, grid: tuple[int, int], L: int, percents: Sequence[int], pruner: Pruner
) -> dict[str, Any]:
    """FLOPs of an image of `grid` (h, w) tokens and `L` text tokens: a row unpruned, then one per prune ratio.

    Each row holds the components, the totals, and `unpruned / pruned` of each total; `decode_token` is the first token
    after the prompt. Choosing costs what the pruner itself states.
    """
    N, D, layers = grid[0] * grid[1], shape.language.width, shape.language.layers
    layer = decoder_layer_flops(shape.language)
    rows = [_row(shape, grid, L, 0, [N] * layers, 0)]
    for percent in percents:
        cuts = pruner.cuts(N, keep_count(N, percent), layers)
        present = [N, *(cut.keep for cut in cuts)]
        cost = sum(pruner.flops(n, cut.keep, D, layer, L) for n, cut in zip(present, cuts, strict=False))
        rows.append(_row(shape, grid, L, percent, tokens_by_layer(cuts, N, layers), cost))
    unpruned = rows[0]["flops"]
    for row in rows:
        row["ratio"] = {name: unpruned[name] / row["flops"][name] for name in ACCOUNTINGS}
    return {"grid": list(grid), "tokens": N, "prompt_tokens": L, "rows": rows}


def _row(
    shape: ModelShape, grid: tuple[int, int], L: int, percent: int, kept: Sequence[int], pruner: int
) -> dict[str, Any]:
    parts = prompt_flops(shape, grid, kept, L, pruner).to_dict()
    decode = decode_flops(shape.language, [K + L for K in kept])
    return {
        "percent": percent,
        "tokens_kept": keep_count(grid[0] * grid[1], percent),
        "tokens_by_layer": list(kept),
        "flops": parts | {"decode_token": decode},
    }


def as_metrics(table: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What `dvc metrics diff` shows of a table: TFLOPs and ratio by prune ratio and accounting, 4 digits."""
    return {
        f"pruned_{row['percent']}": {
            **{f"{name}_tflops": round(row["flops"][name] / 1e12, 4) for name in (*ACCOUNTINGS, "pruner")},
            **{f"{name}_ratio": round(row["ratio"][name], 4) for name in ACCOUNTINGS},
        }
        for row in table["rows"]
    }
