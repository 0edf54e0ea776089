"""What a method says that choosing costs, against what torch counts. A new pruner is tested by existing."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.backbone.mrope import image_positions
from stages.backbone.qwen import QWEN_3B
from stages.efficiency.counted import count
from stages.params import read_params
from stages.pruning import base
from stages.pruning.recon import Pruner, ReconPruner

N, K, D, GRID = 48, 12, 32, (6, 8)
NEEDS_FILES = {"checkpoint", "oracle_root"}  # trained weights (recon has its own tests below), or the truth (no method)


def loadable() -> list[str]:
    options = read_params().pruners
    return [name for name in base.available() if not NEEDS_FILES & options.get(name, {}).keys()]


@pytest.mark.parametrize("name", loadable())
def test_stated_cost_covers_every_product_that_torch_sees(name):
    tokens = torch.randn(1, N, D, generator=torch.Generator().manual_seed(0))
    view = base.TokenView(tokens, GRID, image_positions(GRID, 1), ("sample",), "encoder")
    pruner = base.load(name, read_params().pruners.get(name, {}))
    keep = N if name == "none" else K
    counted = sum(count(lambda: pruner.select(view, keep)))
    stated = pruner.flops(N, keep, D, lambda n: 0)
    assert counted <= stated <= 1.1 * counted


def test_recon_at_the_3b_shapes_costs_what_it_states_and_has_the_papers_size():
    with torch.device("meta"):
        module = ReconPruner(QWEN_3B)
    assert sum(p.numel() for p in module.parameters()) == 77_081_089
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.empty(1, 3249, 2048, device="meta"), (57, 57))
    layer = {3250: 587_485_184_000}  # 2 x 3250 x 77,070,336 weights + 4 x 3250^2 x 2048
    assert Pruner("models/recon").flops(3249, 812, 2048, layer.__getitem__) == counter.get_total_flops()
