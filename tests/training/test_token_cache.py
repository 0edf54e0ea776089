import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
from few_pictures import VIEW, make_tower, write_pictures
from tiny import make_tiny_model

from stages.backbone.vision import FastTower
from stages.core import io
from stages.core.errors import DataError
from stages.training.data import Picture
from stages.training.loading import StreamedSamples
from stages.training.token_cache import TokenCache, read_row, shard_images

COUNT = 5


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    return write_pictures(tmp_path, COUNT)


def cache_of(folder: Path, tower: FastTower | None = None) -> TokenCache:
    """The cache in `folder`, with shards of two images."""
    cache = TokenCache(folder, tower or make_tower(), VIEW.size_px, VIEW.fit)
    cache.shard_images = 2
    return cache


def filled(folder: Path, pictures: list[Picture], tower: FastTower | None = None) -> TokenCache:
    cache = cache_of(folder, tower)
    cache.fill(pictures)
    return cache


def tokens_of(cache: TokenCache, pictures: list[Picture]) -> torch.Tensor:
    return torch.stack([read_row(cache.row(picture.token), picture.path) for picture in pictures])


def written(cache: TokenCache) -> dict[str, str]:
    return {path.name: io.sha256(path) for path in sorted(cache.folder.iterdir()) if path.name != ".lock"}


def test_a_row_is_what_the_tower_says_and_a_second_run_encodes_nothing(tmp_path: Path, pictures: list[Picture]) -> None:
    cache, tower = filled(tmp_path / "tokens", pictures), make_tower()
    before = written(cache)
    assert len(before) == 3
    again = filled(tmp_path / "tokens", pictures, tower)
    assert tower.encoded_images == 0
    assert len(again) == COUNT
    assert written(again) == before
    streamed = StreamedSamples(pictures, tmp_path / "masks", tower, VIEW, workers=0, cache=None)
    fresh = [batch.tokens for batch in streamed.batches([[0, 1], [2, 3], [4]])]  # the units the cache was encoded in
    assert torch.equal(tokens_of(again, pictures), torch.cat(fresh))


def test_images_that_are_missing_are_added_and_others_do_no_harm(tmp_path: Path, pictures: list[Picture]) -> None:
    first = tokens_of(filled(tmp_path / "tokens", pictures[:3]), pictures[:3])
    tower = make_tower()
    cache = filled(tmp_path / "tokens", pictures, tower)
    assert tower.encoded_images == COUNT - 3
    assert torch.equal(tokens_of(cache, pictures)[:3], first)
    assert len(filled(tmp_path / "tokens", pictures[:1])) == COUNT
    with pytest.raises(DataError, match=r"the tokens of image elsewhere in .*that all machines share, or null"):
        cache.row("elsewhere")


def test_a_build_that_is_stopped_loses_only_the_shard_in_work(
    tmp_path: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, write = filled(tmp_path / "whole", pictures), io.os.replace

    def stop_at_the_second(source: Path, target: Path) -> None:
        if list(Path(target).parent.glob("*.safetensors")):
            (Path(target).parent / ".half.123.tmp").write_bytes(b"what a kill leaves in the middle of a write")
            raise KeyboardInterrupt
        write(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(io.os, "replace", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            filled(tmp_path / "tokens", pictures)
    tower = make_tower()
    cache = filled(tmp_path / "tokens", pictures, tower)
    assert tower.encoded_images == COUNT - 2
    assert written(cache) == written(whole)


def test_two_ranks_share_the_work_and_end_with_the_files_of_one(tmp_path: Path, pictures: list[Picture]) -> None:
    whole = filled(tmp_path / "whole", pictures)
    towers, barrier = [make_tower(), make_tower()], Barrier(2, timeout=60)

    def one(rank: int) -> TokenCache:
        cache = cache_of(tmp_path / "tokens", towers[rank])
        cache.fill(pictures, rank=rank, world=2, wait=barrier.wait)
        return cache

    with ThreadPoolExecutor(2) as ranks:
        caches = list(ranks.map(one, range(2)))
    assert [tower.encoded_images for tower in towers] == [3, 2]
    assert [len(cache) for cache in caches] == [COUNT, COUNT]
    assert written(caches[0]) == written(whole)


def test_a_shard_is_whole_units_of_encoding_and_bounded_in_bytes() -> None:
    assert shard_images(64_512) == 1024  # 84 tokens of width 192 in fp32, the embedded default
    assert shard_images(3249 * 2048 * 2) == 64  # 1596 x 1596 in bf16: 0.85 GB
    assert shard_images(10**9) == 32


@pytest.mark.parametrize("change", ["encoder", "size", "fit", "dtype"])
def test_another_encoder_size_fit_or_dtype_has_a_folder_of_its_own(tmp_path: Path, change: str) -> None:
    tower = FastTower(make_tiny_model(seed=1)) if change == "encoder" else make_tower()
    if change == "dtype":
        tower.to(torch.device("cpu"), torch.bfloat16)
    size_px = (56, 56) if change == "size" else VIEW.size_px
    other = TokenCache(tmp_path, tower, size_px, "pad" if change == "fit" else VIEW.fit)
    assert other.folder != cache_of(tmp_path).folder


def flip(path: Path, byte: int) -> None:
    """Turn one bit over; the size stays."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # a clock tick: what a real rewrite leaves


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        ("image rewritten", r"3\.png as it was encoded.*To fix: remove "),
        ("bit of the tokens", r"tokens with sha256 .* in row .*\.safetensors.*remove "),
        ("bit of the header", r"\.safetensors.*remove "),
        ("shard cut short", r"a shard of tokens in .*\.safetensors.*remove "),
    ],
)
def test_what_is_damaged_or_of_another_image_is_refused(
    tmp_path: Path, pictures: list[Picture], damage: str, match: str
) -> None:
    shard = filled(tmp_path / "tokens", pictures).row("token0").shard
    if damage == "image rewritten":
        flip(pictures[3].path, 100)
    elif damage == "shard cut short":
        os.truncate(shard, 1000)
    else:
        flip(shard, -1 if damage == "bit of the tokens" else 9)
    with pytest.raises(DataError, match=match):
        tokens_of(filled(tmp_path / "tokens", pictures), pictures)
