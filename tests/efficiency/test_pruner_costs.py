"""What a method says that choosing costs, against what torch counts. A new pruner is tested by existing."""

import pytest
import torch
from token_views import check_cost, make_view
from torch.utils.flop_counter import FlopCounterMode

from stages.backbone.qwen import QWEN_3B
from stages.core.params import read_params
from stages.pruning import base
from stages.pruning.recon import Pruner, ReconPruner

TRAINED = {"recon", "foreground_only", "mask_prediction"}  # one network, with a test of its own below
RULERS = {"oracle", "inverse"}  # no methods


@pytest.mark.parametrize("name", [name for name in base.available() if name not in TRAINED | RULERS])
def test_stated_cost_covers_every_product_that_torch_sees(name):
    view = make_view(1)
    check_cost(
        base.load(name, read_params().pruners.get(name, {})), view.tokens.shape[1] if name == "none" else 12, view
    )


def test_recon_at_the_3b_shapes_costs_what_it_states_and_has_the_papers_size():
    with torch.device("meta"):
        module = ReconPruner(QWEN_3B)
    assert sum(p.numel() for p in module.parameters()) == 77_081_089
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.empty(1, 3249, 2048, device="meta"), (57, 57))
    layer = {3250: 587_485_184_000}  # 2 x 3250 x 77,070,336 weights + 4 x 3250^2 x 2048
    assert Pruner("models/recon").flops(3249, 812, 2048, layer.__getitem__) == counter.get_total_flops()
