"""What is captured keeps within bounds, and gives way when memory runs out."""

import gc
import logging
from typing import Any
from weakref import ref

import pytest
import torch
from tiny import make_tiny_model
from tiny_fast import make_kept, make_model, make_prompt, make_view

from stages.backbone.tower import FastTower
from stages.vla import host
from stages.vla.fast import vision
from stages.vla.fast.held import Held, plainly_when_full
from stages.vla.fast.host import FastHost
from stages.vla.fast.runner import Eager, Runner, Step
from stages.vla.fast.steps import Read, Tell
from stages.vla.fast.vision import GraphTower, powers
from stages.vla.fast.workspace import FastOptions


class Counted:
    """Makes runners, and remembers for which steps; those of `full` find no memory."""

    def __init__(self, *full: type) -> None:
        self.steps, self._full = list[Step](), full

    def __call__(self, step: Step) -> Runner:
        self.steps.append(step)
        if isinstance(step, self._full):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Eager(step)

    def of(self, kind: type) -> int:
        return sum(isinstance(step, kind) for step in self.steps)


def told(fast: FastHost, B: int, K: int, seed: int = 1) -> tuple[list[Any], list[Any]]:
    """Answers by the eager host and by `fast`."""
    view, kept, prompt = make_view(B, seed), make_kept(B, K, seed), make_prompt(B, seed)
    with torch.inference_mode():
        eager = host.decode(fast.model, host.prefill(fast.model, view, kept, K, prompt, "test"), 9, end=-1)
    return eager.tolist(), fast.decode(fast.prefill(view, kept, K, prompt, "test"), 9, (-1,)).tolist()


@pytest.mark.parametrize("keep_prefix", [True, False])
def test_lengths_of_one_bucket_share_one_captured_step_and_keep_their_tokens(keep_prefix: bool) -> None:
    count = Counted()
    options = FastOptions(runner=count, captures_after=0, bucket=16, keep_prefix=keep_prefix)
    fast = FastHost(make_model("groups of two"), options)
    for K in (9, 2, 5, 8, 3):  # with 7 of text: 9 to 16 tokens
        wanted, ours = told(fast, 2, K, seed=K)
        assert ours == wanted
    assert (count.of(Read), count.of(Tell)) == (1, 1)
    told(fast, 2, 10)
    assert count.of(Read) == 2


def test_batches_of_every_size_tell_by_one_step_for_each_power_of_two() -> None:
    count = Counted()
    fast = FastHost(make_model("groups of two"), FastOptions(runner=count))
    for B in (8, 5, 3, 7, 6, 4, 1, 2, 5):
        wanted, ours = told(fast, B, 6, seed=B)
        assert ours == wanted
    assert count.of(Tell) == 4


def test_batch_sizes_beginnings_and_steps_are_bounded() -> None:
    options = FastOptions(kept_batches=2, kept_prefixes=1, kept_tokens=300, captures_after=0)
    fast = FastHost(make_model("no groups"), options)
    for B in (1, 2, 4, 1, 4):
        for K in (3, 20):
            assert len(set(map(str, told(fast, B, K)))) == 1
    assert [workspace.B for workspace in fast._workspaces.values()] == [1, 4]
    fast.prefix(host.Prompt(torch.tensor([[1, 2]]), torch.tensor([[1]])))
    assert len(fast._prefixes) == 1
    assert len(fast._workspaces.values()[1]._buckets) == 1


def test_memory_that_gives_way_to_a_longer_prompt_is_free_at_once() -> None:
    fast = FastHost(make_model("groups of two"), FastOptions(captures_after=0))
    told(fast, 1, 6)
    (short,) = map(ref, fast._workspaces.values())
    gc.disable()  # a circle would hold some GB until Python looks for circles
    try:
        fast.workspace(1, 1000)
        assert short() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [Read, Tell])
def test_without_memory_for_a_capture_an_answer_is_told_plainly(kind: type, caplog: Any) -> None:
    count = Counted(kind)
    fast = FastHost(make_model("groups of two"), FastOptions(runner=count, captures_after=0))
    with caplog.at_level(logging.WARNING):
        wanted, ours = told(fast, 2, 6)
    assert ours == wanted
    assert "out of memory" in caplog.text
    assert told(fast, 2, 6) == (wanted, wanted)
    assert count.of(kind) == 2  # tried again the next time


def test_what_does_not_fit_plainly_either_is_told() -> None:
    def full(plain: bool) -> None:
        raise torch.OutOfMemoryError(f"plain {plain}")

    with pytest.raises(torch.OutOfMemoryError, match="plain True"):
        plainly_when_full(full, lambda: None)


def test_the_one_used_longest_ago_goes_first() -> None:
    held = Held[str](3, size=10)
    for key, size in (("a", 2), ("b", 3), ("a", 2), ("c", 5), ("d", 4)):
        held.get(key, key.lower, size)
    assert held.values() == ["c", "d"]
    held.get("whale", lambda: "whale", 99)
    assert held.values() == ["whale"]


@pytest.mark.parametrize(
    ("B", "most", "parts"), [(1, 4, [1]), (7, 4, [4, 2, 1]), (9, 4, [4, 4, 1]), (8, 5, [4, 4]), (3, 0, [1, 1, 1])]
)
def test_images_are_encoded_by_powers_of_two(B: int, most: int, parts: list[int]) -> None:
    assert powers(B, most) == parts


def test_a_tower_keeps_few_steps_whatever_batches_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "PATCHES", 400)
    model, count = make_tiny_model(), Counted()
    tower, stock = GraphTower(model, runner_of=count), FastTower(model)
    for B in (5, 7, 3, 6, 7):  # of 64 patches: six fit into a step, so four at most are encoded together
        images = torch.randint(0, 256, (B, 3, 112, 112), dtype=torch.uint8)
        torch.testing.assert_close(tower.encode(images), stock.encode(images), atol=1e-4, rtol=1e-4)
    assert len(count.steps) == 3
    assert tower.encoded_images == 28


def test_a_tower_without_memory_encodes_plainly(caplog: pytest.LogCaptureFixture) -> None:
    model = make_tiny_model()
    tower, images = GraphTower(model, runner_of=Counted(object)), torch.zeros(2, 3, 56, 56, dtype=torch.uint8)
    torch.testing.assert_close(tower.encode(images), FastTower(model).encode(images), atol=1e-4, rtol=1e-4)
    assert "out of memory" in caplog.text
