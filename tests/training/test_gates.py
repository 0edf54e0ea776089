"""Exact counts of a training step that hold without a GPU (design.md, Speed); each fails when its count rises."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stages.training.bench_data import Photos, write_photos
from tiny_pruner import GRID, SHAPE, make_module, make_options, make_samples
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stages.backbone.vision import FastTower
from stages.core.params import TrainPruner
from stages.efficiency.traced import trace
from stages.training.data import Batch, View, draw
from stages.training.loading import open_samples
from stages.training.model import Reconstruction, build, losses
from stages.training.pace import loss_of
from stages.training.token_cache import TokenCache
from stages.training.trainer import Trainer, Watch

KINDS: list[tuple[dict[str, Any], int]] = [  # options, and how often a step goes through the decoder
    ({"decoder_layers": 3}, 1),
    ({"decoder_layers": 3, "adversarial": False}, 1),
    ({"objective": "mask_prediction"}, 0),
]


@pytest.fixture
def attended(attention_calls: Callable[[], list[bool]]) -> Callable[[], int]:
    """SDPA calls with gradients since the last question: those of training, not of an evaluation."""
    return lambda: sum(attention_calls())


def attention_calls(options: TrainPruner, passes: int) -> int:
    return 1 + passes * options.decoder_layers  # the pruner has one layer


@pytest.mark.parametrize(("changes", "passes"), KINDS)
def test_a_step_runs_the_decoder_once_for_both_branches_and_each_layer_attends_once(
    attended: Callable[[], int], changes: dict[str, Any], passes: int
) -> None:
    options = make_options(**changes)
    module = make_module(options)
    (batch,) = make_samples(4).batches([range(4)])
    loss_of(module, batch, GRID, options).backward()
    assert attended() == attention_calls(options, passes)


def test_recomputing_attends_once_more_in_each_decoder_layer(attended: Callable[[], int]) -> None:
    options = make_options(decoder_layers=3, recompute=True)
    module = make_module(options)
    (batch,) = make_samples(4).batches([range(4)])
    loss_of(module, batch, GRID, options).backward()
    assert attended() == 1 + 3 + 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of DeepSpeed
@pytest.mark.parametrize(("changes", "passes"), KINDS)
def test_the_trainer_needs_no_more_than_that_a_step(
    tmp_path: Path, attended: Callable[[], int], changes: dict[str, Any], passes: int
) -> None:
    options = make_options(steps=3, **changes)
    Trainer(make_module(options), options, tmp_path).run(make_samples(8), make_samples(2, seed=1), Watch())
    assert attended() == 3 * attention_calls(options, passes)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return write_photos(tmp_path_factory.mktemp("photos"), 3)


@pytest.mark.parametrize(("source", "before", "each_epoch"), [("tower", 0, 3), ("cache", 3, 0), ("memory", 3, 0)])
def test_an_image_is_encoded_once_an_epoch_without_the_cache_and_never_again_with_it(
    photos: Photos, tmp_path: Path, tiny_model: Any, source: str, before: int, each_epoch: int
) -> None:
    tower, view = FastTower(tiny_model), View((84, 56), "stretch", 4)
    cache = TokenCache.of(tmp_path, tower, view.size_px, view.fit) if source == "cache" else None
    if cache is not None:
        cache.fill(photos.pictures)
    memory_gb = 1.0 if source == "memory" else 0.0
    samples = open_samples(photos.pictures, photos.masks, tower, view, workers=0, cache=cache, memory_gb=memory_gb)
    counts = [tower.encoded_images]
    for epoch in range(2):
        assert len(list(samples.batches([draw(3, 5, step, 1) for step in range(3 * epoch, 3 * epoch + 3)]))) == 3
        counts.append(tower.encoded_images)
    assert counts == [before, before + each_epoch, before + 2 * each_epoch]


class _Moved(TorchDispatchMode):
    """Operators that read one device and write another: on a GPU the host waits for each."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor) and leaf.ndim]
        if len({tensor.device for tensor in tensors}) > 1:
            self.names.append(func.overloadpacket.__name__)
        return result


def on_meta(options: TrainPruner) -> tuple[Reconstruction, Batch]:
    """A module and a batch without a number in any tensor: to ask for one raises."""
    (batch,) = make_samples(4).batches([range(4)])
    there = Batch(*(getattr(batch, name).to("meta") for name in ("tokens", "fore", "back", "share")))
    with torch.device("meta"):
        return build(SHAPE, options), there


ON_META = [*(changes for changes, _ in KINDS), {"recompute": True}, {"standardise": False, "position_code": False}]


@pytest.mark.parametrize("changes", ON_META)
def test_no_number_is_asked_of_the_device_from_tokens_to_gradients(changes: dict[str, Any]) -> None:
    options = make_options(**changes)
    module, batch = on_meta(options)
    assert trace(lambda: loss_of(module, batch, GRID, options).backward()).waits == {}
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("changes", ON_META)
def test_nothing_is_copied_to_the_device_in_the_network_and_its_backward_pass(changes: dict[str, Any]) -> None:
    module, batch = on_meta(make_options(**changes))
    with _Moved() as moved:
        rebuilt = module(batch.tokens, GRID)
        given = [part for part in (rebuilt.fore, rebuilt.back) if part is not None] or [rebuilt.scores]
        torch.stack([part.sum() for part in given]).sum().backward()
    assert moved.names == []


@pytest.mark.parametrize("changes", [changes for changes, _ in KINDS])
def test_nothing_is_copied_to_the_device_in_the_loss(changes: dict[str, Any]) -> None:
    options = make_options(**changes)
    module, batch = on_meta(options)
    rebuilt = module(batch.tokens, GRID)
    with _Moved() as moved:
        losses(rebuilt, batch, options)[0].backward()
    assert moved.names == []


def test_a_number_asked_for_and_a_copy_are_seen() -> None:
    numbers = torch.empty(3, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        numbers.sum().item()
    with _Moved() as moved:
        torch.zeros(3).to("meta")
        numbers + 1
    assert moved.names == ["_to_copy"]
