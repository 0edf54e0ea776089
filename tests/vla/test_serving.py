"""A request as one step: the pruner inside it, by the fast scorer; the eager host's tokens."""

from dataclasses import dataclass

import pytest
import torch
from tiny_fast import SHAPES, D, N, make_kept, make_model, make_prompt, make_view

from stages.backbone.qwen import Model, decoder_shape
from stages.errors import DataError
from stages.pruning.base import ImageScoringPruner, Kept, Pruner
from stages.pruning.recon import ReconPruner
from stages.vla import host
from stages.vla.fast.host import FastHost
from stages.vla.fast.scorer import FastScorer
from stages.vla.fast.serving import Serving

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stock(ImageScoringPruner):
    """A network as it is."""

    network: ReconPruner

    def score_image(self, view):
        return self.network(view.tokens, view.grid)


@pytest.fixture(scope="module", params=list(SHAPES))
def model(request) -> Model:
    return make_model(request.param)


def make_network(model: Model) -> ReconPruner:
    network = ReconPruner(decoder_shape(model)).requires_grad_(False)
    network.set_statistics(torch.randn(50, D) * 3 + 1)
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    return network.eval()


@torch.no_grad()
def test_the_fast_scorer_gives_the_networks_scores(model: Model) -> None:
    network, view = make_network(model), make_view(2)
    wanted = network(view.tokens, view.grid)
    ours = FastScorer(network, torch.float32, CPU).score_image(view)
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=1e-4)
    assert wanted.std() > 0.1


@torch.no_grad()
def test_in_half_precision_it_scores_in_nearly_the_same_order(model: Model) -> None:
    network, view = make_network(model), make_view(2)
    wanted = network(view.tokens, view.grid)
    ours = FastScorer(network, torch.bfloat16, CPU).score_image(view)
    assert ours.dtype == torch.float32
    assert (torch.corrcoef(torch.stack([ours.flatten(), wanted.flatten()]))[0, 1]) > 0.99


@pytest.mark.parametrize("K", [N, 18, 6])
def test_choosing_inside_the_step_changes_no_token(model: Model, K: int) -> None:
    network, fast = make_network(model), FastHost(model)
    pruner = Stock(network)
    serving = Serving(fast, FastScorer(network, torch.float32, CPU), K, make_view(2), make_prompt(2))
    for seed in (3, 4):
        view, prompt = make_view(2, seed), make_prompt(2, seed)
        with torch.inference_mode():
            kept = pruner.select(view, K)
            eager = host.prefill(model, view, kept, K, prompt, "test")
            wanted = host.decode(model, eager, 7, end=-1)
        read = serving.prefill(view.tokens, prompt.after)
        assert read.kept.tolist() == kept.indices.tolist()
        assert (read.next_position, read.length, read.pruned) == (eager.next_position, eager.length, eager.pruned)
        torch.testing.assert_close(read.logits, eager.logits, atol=1e-4, rtol=1e-4)
        assert fast.decode(read, 7, (-1,)).tolist() == wanted.tolist()


def test_a_serving_keeps_its_place_when_the_host_reads_longer_prompts(model: Model) -> None:
    fast = FastHost(model)
    view, prompt = make_view(1), make_prompt(1)
    serving = Serving(fast, Stock(make_network(model)), 6, view, prompt)
    wanted = fast.decode(serving.prefill(view.tokens, prompt.after), 5, (-1,))
    random = torch.Generator().manual_seed(0)
    fast.read(torch.randn(1, 200, D, generator=random), torch.arange(200).expand(3, 1, -1))
    assert torch.equal(fast.decode(serving.prefill(view.tokens, prompt.after), 5, (-1,)), wanted)


def test_a_method_that_chooses_wrongly_is_named(model: Model) -> None:
    class Shady(Pruner):
        def select(self, view, K):
            return Kept(torch.arange(K - 1, -1, -1).expand(1, K))

    serving = Serving(FastHost(model), Shady(), 4, make_view(1), make_prompt(1))
    with pytest.raises(AssertionError, match="not unique and ascending"):
        serving.prefill(make_view(1).tokens, make_prompt(1).after)


def test_making_a_serving_takes_the_place_of_the_prompt_that_was_read_before(model: Model) -> None:
    fast, view, prompt, pruner = FastHost(model), make_view(1), make_prompt(1), Stock(make_network(model))
    earlier = fast.prefill(view, make_kept(1, 6), 6, prompt, "test")
    serving = Serving(fast, pruner, 6, view, prompt)
    with pytest.raises(DataError, match="an earlier one"):
        fast.decode(earlier, 5, (-1,))
    read = serving.prefill(view.tokens, prompt.after)
    fast.read(torch.randn(1, 20, D), torch.arange(20).expand(3, 1, -1))
    with pytest.raises(DataError, match="an earlier one"):
        fast.decode(read, 5, (-1,))


def test_a_kept_prefix_that_a_serving_wrote_over_is_brought_back(model: Model) -> None:
    fast, view, prompt = FastHost(model), make_view(2), make_prompt(2)
    by_itself = make_prompt(2, one_beginning=False)  # has no prefix, so the capture reads from place 0 on
    kept = make_kept(2, 6)
    first = fast.decode(fast.prefill(view, kept, 6, prompt, "test"), 7, (-1,))
    Serving(fast, Stock(make_network(model)), 6, view, by_itself)
    assert torch.equal(fast.decode(fast.prefill(view, kept, 6, prompt, "test"), 7, (-1,)), first)


def test_a_reader_captured_from_place_0_on_forgets_the_prefix(model: Model) -> None:
    fast = FastHost(model)
    prefix = fast.prefix(make_prompt(1))
    assert prefix is not None
    workspace = fast.workspace(1, 20)
    workspace.begin_with(prefix)
    before = workspace.cache.keys[:, :, :, : prefix.places].clone()
    workspace.reader(lambda: (torch.randn(1, 8, D), torch.arange(8).expand(3, 1, -1)), 0, torch.tensor([7]))()
    assert not torch.equal(workspace.cache.keys[:, :, :, : prefix.places], before)
    workspace.begin_with(prefix)
    assert torch.equal(workspace.cache.keys[:, :, :, : prefix.places], before)
