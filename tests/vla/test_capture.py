"""On a GPU: what is captured and replayed gives the tokens of the eager host on the same GPU."""

import pytest
import torch
from tiny_fast import SHAPES, D, N, make_kept, make_model, make_prompt, make_view

from stages.backbone.qwen import decoder_shape
from stages.backbone.tower import FastTower
from stages.pruning.base import Kept
from stages.pruning.recon import ReconPruner
from stages.vla import host
from stages.vla.fast.attention import ONE_ROW, Filled
from stages.vla.fast.choices import Choices
from stages.vla.fast.host import FastHost
from stages.vla.fast.runner import runner_on
from stages.vla.fast.scorer import FastScorer
from stages.vla.fast.serving import Serving
from stages.vla.fast.vision import GraphTower
from stages.vla.fast.workspace import FastOptions
from stages.vla.host import Prompt

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")


def on_gpu(prompt: Prompt) -> Prompt:
    return Prompt(prompt.before.to(GPU), prompt.after.to(GPU))


class Doubled:
    """Twice the numbers, on one device."""

    def __init__(self, device: torch.device) -> None:
        self.numbers, self.doubled = torch.ones(3, device=device), torch.zeros(3, device=device)

    def __call__(self) -> None:
        self.doubled.copy_(self.numbers * 2)

    def left(self) -> torch.Tensor:
        return self.doubled

    def spoil(self) -> None:
        self.doubled.fill_(torch.nan)


@pytest.mark.parametrize("card", [0, 1])
def test_a_replay_reads_its_buffers_anew_on_a_card_that_is_not_the_current_one(card: int) -> None:
    if card >= torch.cuda.device_count():
        pytest.skip("one card")
    step = Doubled(torch.device("cuda", card))
    run = runner_on(step.numbers.device)(step)
    step.numbers.fill_(5)
    run()
    assert step.doubled.tolist() == [10, 10, 10]
    assert torch.cuda.current_device() == 0


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("one_row", ["products", "folded"])
def test_replayed_tokens_are_those_of_the_eager_host(shape: str, one_row: str) -> None:
    model = make_model(shape).to(GPU)
    fast = FastHost(model, FastOptions(choices=Choices(one_row=one_row)))
    for seed, (B, K) in enumerate([(2, 6), (1, N), (2, 18), (2, 6)]):
        tokens = make_view(B, seed).tokens.to(GPU)
        view = host.token_view(tokens, (4, 6), 3, tuple(map(str, range(B))), "encoder")
        kept, prompt = Kept(make_kept(B, K, seed).indices.to(GPU)), on_gpu(make_prompt(B, seed))
        with torch.inference_mode():
            eager = host.prefill(model, view, kept, K, prompt, "test")
            wanted = host.decode(model, eager, 9, end=-1)
        ours = fast.prefill(view, kept, K, prompt, "test")
        torch.testing.assert_close(ours.logits, eager.logits, atol=1e-3, rtol=1e-3)
        assert fast.decode(ours, 9, (-1,)).tolist() == wanted.tolist()


def test_a_pruner_inside_the_graph_chooses_anew_at_each_replay() -> None:
    model = make_model("groups of two").to(GPU)
    network = ReconPruner(decoder_shape(model)).requires_grad_(False).eval()
    pruner = FastScorer(network, torch.float32, GPU)
    view = host.token_view(make_view(1).tokens.to(GPU), (4, 6), 3, ("0",), "encoder")
    serving = Serving(FastHost(model), pruner, 6, view, on_gpu(make_prompt(1)))
    for seed in (3, 4):
        tokens, prompt = make_view(1, seed).tokens.to(GPU), on_gpu(make_prompt(1, seed))
        now = host.token_view(tokens, (4, 6), 3, ("0",), "encoder")
        with torch.inference_mode():
            kept = pruner.select(now, 6)
            wanted = host.prefill(model, now, kept, 6, prompt, "test").logits
        read = serving.prefill(tokens, prompt.after)
        assert read.kept.tolist() == kept.indices.tolist()
        torch.testing.assert_close(read.logits, wanted, atol=1e-3, rtol=1e-3)


def test_the_captured_tower_gives_the_stock_towers_tokens() -> None:
    model = make_model("no groups")
    stock, images = FastTower(model).to(GPU), torch.randint(0, 256, (2, 3, 140, 168), dtype=torch.uint8)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # the stock tower's convolution: 1e-3 off by it
        wanted = stock.encode(images)
    assert wanted.shape == (2, 30, D)
    torch.testing.assert_close(GraphTower(model).encode(images), wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("B", [1, 3])
def test_every_way_to_attend_from_one_token_agrees(B: int) -> None:
    random = torch.Generator(GPU).manual_seed(0)
    query = torch.randn(B, 16, 1, 128, device=GPU, dtype=torch.bfloat16, generator=random)
    keys, values = torch.randn(2, B, 2, 192, 128, device=GPU, dtype=torch.bfloat16, generator=random)
    filled = Filled.up_to(torch.tensor([100], device=GPU), B * 2, 192)
    found = [one_row(query, keys, values, 128**-0.5, filled).float() for one_row in ONE_ROW.values()]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=2e-2, rtol=2e-2)
