import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from few_pictures import VIEW, left_half, make_tower, write_pictures

from stages.backbone.vision import FastTower
from stages.core.errors import DataError, MachineError
from stages.training.data import Picture, Samples, View, draw, pooled
from stages.training.loading import Job, StreamedSamples, read_group, read_groups, view_mask
from stages.training.token_cache import TokenCache

GROUPS = [[4, 0], [2, 2], [1, 3]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def tower() -> FastTower:
    return make_tower()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    return write_pictures(tmp_path)


def opened(
    pictures: list[Picture], tower: FastTower, workers: int = 0, memory_gb: float = 1.0, cached: bool = False
) -> Samples:
    folder = pictures[0].path.parent
    cache = None
    if cached:
        cache = TokenCache(folder / "tokens", tower, VIEW.size_px, VIEW.fit)
        cache.fill(pictures)
    return StreamedSamples(pictures, folder / "masks", tower, VIEW, workers=workers, cache=cache).loaded(memory_gb)


def test_both_targets_add_up_to_the_image_and_share_no_pixel(tower: FastTower, pictures: list[Picture]) -> None:
    (batch,) = opened(pictures, tower).batches([[3]])
    whole = pooled(read_group([Job(pictures[3].path)], VIEW).images, (2, 3), 4)
    assert batch.fore.shape == (1, 3, 8, 12)
    assert (batch.fore.int() + batch.back.int() - whole.int()).abs().max() <= 1
    assert int(batch.fore[..., 6:].max()) == int(batch.back[..., :6].max()) == 0
    assert batch.share.tolist() == [[1.0, 0.5, 0.0] * 2]


@pytest.mark.parametrize("cached", [False, True])
def test_order_and_bits_do_not_depend_on_the_number_of_workers_which_end_with_the_reader(
    tower: FastTower, pictures: list[Picture], cached: bool
) -> None:
    drawn = [list(opened(pictures, tower, workers, memory_gb=0.0, cached=cached).batches(GROUPS)) for workers in (0, 2)]
    for one, two in zip(*drawn, strict=True):
        assert torch.equal(one.tokens, two.tokens)
        assert torch.equal(one.fore, two.fore)
        assert torch.equal(one.share, two.share)
    assert active_children() == []


@pytest.mark.parametrize(("source", "before", "each_epoch"), [("tower", 0, 3), ("cache", 3, 0), ("memory", 3, 0)])
def test_an_image_is_encoded_once_an_epoch_without_the_cache_and_never_again_with_it(
    tmp_path: Path, tower: FastTower, source: str, before: int, each_epoch: int
) -> None:
    pictures = write_pictures(tmp_path, 3)
    samples = opened(pictures, tower, memory_gb=1.0 if source == "memory" else 0.0, cached=source == "cache")
    counts = [tower.encoded_images]
    for epoch in range(2):
        assert len(list(samples.batches([draw(3, 5, step, 1) for step in range(3 * epoch, 3 * epoch + 3)]))) == 3
        counts.append(tower.encoded_images)
    assert counts == [before, before + each_epoch, before + 2 * each_epoch]
    assert samples.names == [picture.token for picture in pictures]


def test_a_missing_image_is_named(tower: FastTower, pictures: list[Picture]) -> None:
    pictures[2].path.unlink()
    with pytest.raises(DataError, match=r"2\.png"):
        opened(pictures, tower)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_mask_is_named_with_its_shard(tower: FastTower, pictures: list[Picture], workers: int) -> None:
    samples = opened(pictures, tower, workers, memory_gb=0.0)
    shard = pictures[0].path.parent / "masks" / "all.tar"
    data = bytearray(shard.read_bytes())
    data[530] ^= 1  # inside the first member, behind its header of 512 bytes
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"mask token0 in .*all\.tar.*dvc repro generate_masks"):
        list(samples.batches([[0, 1]]))


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_a_mask_is_cut_where_its_edge_is_and_a_padded_margin_is_background(fit: str) -> None:
    mask = view_mask(left_half(), View((84, 56), fit, 4))
    assert mask[:, :42].all()
    assert not mask[:, 42:].any()
    everything = view_mask(np.ones((112, 168), bool), View((84, 84), fit, 4))
    assert everything[:56].all()
    assert everything[56:].any() == (fit == "stretch")


@pytest.mark.process
def test_a_killed_worker_is_told_and_not_waited_for(pictures: list[Picture]) -> None:
    stream = read_groups(([Job(pictures[0].path)] for _ in range(1000)), VIEW, 1)
    next(stream)
    (worker,) = active_children()
    os.kill(worker.pid or 0, signal.SIGKILL)
    with pytest.raises(MachineError, match=r"expected 1 processes.*one was killed.*lower train_pruner\.workers"):
        list(stream)


READER = """
import sys, time
from multiprocessing import active_children
from pathlib import Path
from stages.training.data import View
from stages.training.loading import Job, read_groups
stream = read_groups(([Job(Path(sys.argv[1]))] for _ in range(1000)), View((84, 56), "stretch", 4), 2)
next(stream)
print(*[worker.pid for worker in active_children()], flush=True)
time.sleep(60)
"""


@pytest.mark.process
def test_no_worker_outlives_a_stopped_parent(pictures: list[Picture]) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", READER, str(pictures[0].path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.kill()
    parent.wait(timeout=60)
    parent.stdout.close()
    _until(lambda: not any(map(_alive, workers)))


def _until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not true():
        assert time.monotonic() < limit, "waited 30 s"
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    """Running, and no zombie that its new parent has yet to bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
