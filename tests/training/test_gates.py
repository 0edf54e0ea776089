"""Exact counts of a training step, which hold without a GPU; each fails when its count rises."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from few_pictures import VIEW, make_tower, write_pictures
from tiny_pruner import make_module, make_options, make_samples

from stages.training.data import draw
from stages.training.loading import StreamedSamples
from stages.training.token_cache import TokenCache
from stages.training.trainer import Trainer, Watch


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of DeepSpeed
@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"decoder_layers": 3}, 1),  # one pass through the decoder paints both branches
        ({"decoder_layers": 3, "adversarial": False}, 1),
        ({"decoder_layers": 3, "recompute": True}, 2),
        ({"objective": "mask_prediction"}, 0),
    ],
)
def test_each_layer_attends_once_a_step(
    tmp_path: Path, attention_calls: Callable[[], list[bool]], changes: dict[str, Any], passes: int
) -> None:
    options = make_options(steps=3, **changes)
    Trainer(make_module(options), options, tmp_path).run(make_samples(8), make_samples(2, seed=1), Watch())
    with_gradients = sum(attention_calls())  # not those of an evaluation
    assert with_gradients == 3 * (1 + passes * options.decoder_layers)  # the pruner has one layer


@pytest.mark.parametrize(("source", "before", "each_epoch"), [("tower", 0, 3), ("cache", 3, 0), ("memory", 3, 0)])
def test_an_image_is_encoded_once_an_epoch_without_the_cache_and_never_again_with_it(
    tmp_path: Path, source: str, before: int, each_epoch: int
) -> None:
    tower, pictures = make_tower(), write_pictures(tmp_path, 3)
    cache = TokenCache.of(tmp_path / "tokens", tower, VIEW.size_px, VIEW.fit) if source == "cache" else None
    if cache is not None:
        cache.fill(pictures)
    streamed = StreamedSamples(pictures, tmp_path / "masks", tower, VIEW, workers=0, cache=cache)
    samples = streamed.loaded(1.0 if source == "memory" else 0.0)
    counts = [tower.encoded_images]
    for epoch in range(2):
        assert len(list(samples.batches([draw(3, 5, step, 1) for step in range(3 * epoch, 3 * epoch + 3)]))) == 3
        counts.append(tower.encoded_images)
    assert counts == [before, before + each_epoch, before + 2 * each_epoch]
