"""One pruner's FLOPs at several prune ratios, set against the unpruned prompt under each way of counting."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from stages.backbone.tokens import keep_count
from stages.efficiency.flops import ModelShape, decode_flops, decoder_layer_flops, prompt_flops
from stages.pruning.base import Pruner, tokens_by_layer

# Which parts a total holds. The paper names none; its ratio of 7.5 is reached by none of them.
ACCOUNTINGS = ("without_vision", "without_vision_causal", "with_vision")


def account(
    shape: ModelShape, grid: tuple[int, int], L: int, percents: Sequence[int], pruner: Pruner
) -> dict[str, Any]:
    """Return FLOPs of an image of `grid` (h, w) tokens and `L` text tokens: a row unpruned, then one per prune ratio.

    Each row holds the components, the totals, and `unpruned / pruned` of each total; `decode_token` is the first token
    after the prompt. Choosing costs what the pruner itself states, and what the tower does to be watched for it.
    `accountings` are the same components summed in every usual way.
    """
    N, D, layers = grid[0] * grid[1], shape.language.width, shape.language.layers
    layer = decoder_layer_flops(shape.language)
    rows: list[dict[str, Any]] = []
    for percent in (0, *percents):
        K = keep_count(N, percent)
        cuts = pruner.cuts(N, K, layers) if percent else ()
        present = [N, *(cut.keep for cut in cuts)]
        cost = sum(pruner.flops(n, cut.keep, D, layer, L) for n, cut in zip(present, cuts, strict=False))
        kept = tokens_by_layer(cuts, N, layers)
        parts = prompt_flops(shape, grid, kept, L, cost, watched=bool(percent) and pruner.needs_vision)
        flops = parts | {"decode_token": decode_flops(shape.language, [n + L for n in kept])}
        rows.append(
            {
                "percent": percent,
                "tokens_kept": K,
                "tokens_by_layer": list(kept),
                "flops": flops,
                "accountings": accountings(parts, L),
                "ratio": {name: (rows[0]["flops"] if rows else flops)[name] / flops[name] for name in ACCOUNTINGS},
            }
        )
    return {"grid": list(grid), "tokens": N, "prompt_tokens": L, "rows": rows}


def accountings(flops: Mapping[str, int], L: int) -> list[dict[str, Any]]:
    """Return the components of a prompt with `L` text tokens, summed in every usual way.

    `unit` flop is two for a multiply-add, mac one; `vision` whether the tower is in; `attention` of the decoder over
    all pairs, over those a causal mask leaves, or none, as a counter sees it that knows no fused kernel; `lm_head` at
    the last position or at all.
    """
    attention = {"full": flops["llm_attention"], "causal": flops["llm_attention_causal"], "none": 0}
    rows = []
    for unit, vision, pairs, head in product(("flop", "mac"), (True, False), attention, ("last", "all")):
        body = flops["pruner"] + flops["llm_linears"] + attention[pairs] + flops[f"lm_head_{head}"]
        total = body + vision * flops["vision"]
        about = {"unit": unit, "vision": vision, "attention": pairs, "lm_head": head, "prompt_tokens": L}
        rows.append(about | {"total": total if unit == "flop" else total / 2})
    return rows


def as_metrics(table: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return what `dvc metrics diff` shows of a table: TFLOPs and ratio by prune ratio and accounting, 4 digits."""
    return {
        f"pruned_{row['percent']}": {
            **{f"{name}_tflops": round(row["flops"][name] / 1e12, 4) for name in (*ACCOUNTINGS, "pruner")},
            **{f"{name}_ratio": round(row["ratio"][name], 4) for name in ACCOUNTINGS},
        }
        for row in table["rows"]
    }
