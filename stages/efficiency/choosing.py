"""What choosing costs at the shapes of a real model, counted while the method runs on the meta device.

FLOPs as torch sees them, and the bytes that the method makes and holds at once: a selector that compares every pair
holds an N x N matrix, whatever it saves later. No weights, no arithmetic, the same numbers every time.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from stages.backbone.qwen import DecoderShape, build_model, decoder_shape
from stages.backbone.tokens import keep_count
from stages.efficiency.counted import checked_account, count
from stages.efficiency.shapes import model_shape
from stages.efficiency.traced import trace
from stages.efficiency.views import at_cut, at_shape, random_view
from stages.pruning.base import Pruner


def paper_account(
    config: Mapping[str, Any], grid: tuple[int, int], L: int, percents: Sequence[int], pruner: Pruner
) -> dict[str, Any]:
    """The table of `checked_account`, each row with what torch counts while the pruner chooses, and its memory."""
    table = checked_account(config, grid, L, percents, pruner)
    shape, layers = shape_of(config), model_shape(config).language.layers
    for row in table["rows"]:
        found = {"counted": 0, "peak_bytes": 0}
        if row["percent"]:
            found = counted_choice(shape, layers, grid, L, row["percent"], pruner)
        row["choosing"] = {"closed_form": row["flops"]["pruner"] - row["flops"]["watch"]} | found
    return table


def shape_of(config: Mapping[str, Any]) -> DecoderShape:
    """The decoder layer of a Qwen2.5-VL `config.json`."""
    with torch.device("meta"):
        return decoder_shape(build_model(dict(config)))


def counted_choice(
    shape: DecoderShape, layers: int, grid: tuple[int, int], L: int, percent: int, pruner: Pruner
) -> dict[str, int]:
    """FLOPs that torch counts in `pruner` while it chooses, all its cuts together, and the most bytes held at one.

    `percent` of the tokens of an image of `grid` (h, w) are pruned, ahead of `L` text tokens, in bfloat16. The tokens
    that it is shown are not counted, attention that it asks for is; fused attention counts with its output alone.
    """
    meta, dtype = torch.device("meta"), torch.bfloat16
    view, chooses = random_view(shape, grid, L, meta, dtype), at_shape(pruner, shape, meta, dtype)
    present = view.tokens.shape[1]
    flops, peak = 0, 0
    for cut in pruner.cuts(present, keep_count(present, percent), layers):
        found, held = _seen(partial(chooses.select, at_cut(view, cut, present), cut.keep))
        flops, peak, present = flops + found, max(peak, held), cut.keep
    return {"counted": flops, "peak_bytes": peak}


def _seen(choose: Callable[[], object]) -> tuple[int, int]:
    held: list[int] = []
    return sum(count(lambda: held.append(trace(choose).peak_bytes))), held[0]
