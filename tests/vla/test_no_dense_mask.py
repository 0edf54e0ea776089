"""Rows of equal length are read without a mask: one given to SDPA costs it the flash kernel and the grouped heads."""

from typing import Any

import pytest
import torch
from stages.vla.fast.host import FastHost
from tiny_fast import SHAPES, make_kept, make_model, make_prompt, make_view
from torch import Tensor
from torch.nn import functional as F

from stages.backbone.qwen import DecoderShape, Model
from stages.pruning.recon import ReconPruner
from stages.vla import host


class Masks:
    """What SDPA is given as a mask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen, self._stock = list[Tensor | None](), F.scaled_dot_product_attention
        monkeypatch.setattr(F, "scaled_dot_product_attention", self._asked)

    def _asked(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **options: Any) -> Tensor:
        self.seen.append(attn_mask)
        return self._stock(query, key, value, attn_mask=attn_mask, **options)

    def none(self) -> bool:
        """Was SDPA asked, and never with a mask?"""
        return bool(self.seen) and all(mask is None for mask in self.seen)


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> Masks:
    return Masks(monkeypatch)


@pytest.fixture(params=list(SHAPES))
def model(request: pytest.FixtureRequest) -> Model:
    return make_model(request.param)


@pytest.mark.parametrize("B", [1, 3])
@torch.inference_mode()
def test_the_eager_host_reads_and_answers_without_one(model: Model, masks: Masks, B: int) -> None:
    read = host.prefill(model, make_view(B), make_kept(B, 6), 6, make_prompt(B), "test")
    assert masks.none()
    host.decode(model, read, 4, end=-1)
    assert masks.none()
    assert len(masks.seen) == 4 * 3  # the prompt and three further tokens, by three layers


@pytest.mark.parametrize("B", [1, 3])
def test_the_fast_host_reads_without_one_its_kept_beginning_too(model: Model, masks: Masks, B: int) -> None:
    fast = FastHost(model)
    for K in (6, 12):  # the second time the beginning lies in the cache
        fast.prefill(make_view(B), make_kept(B, K), K, make_prompt(B), "test")
    assert masks.none()


@torch.inference_mode()
def test_so_does_the_layer_of_recon_pruner(masks: Masks) -> None:
    shape = DecoderShape(width=32, heads=4, kv_heads=2, mlp=48, rope_theta=1e4, mrope_section=(1, 1, 2))
    ReconPruner(shape).eval()(torch.randn(2, 12, 32), (3, 4))
    assert masks.none()


def test_a_mask_is_seen(masks: Masks) -> None:
    q = torch.randn(1, 2, 3, 4)
    F.scaled_dot_product_attention(q, q, q, torch.zeros(3, 3))
    assert not masks.none()
