import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
from few_pictures import VIEW, make_tower, write_pictures
from fill_cache import fill, filled, tokens_of
from tiny import make_tiny_model

from stages.backbone.vision import FastTower
from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.training.data import Picture
from stages.training.loading import StreamedSamples
from stages.training.token_cache import TokenCache, shard_images

COUNT = 5


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    return write_pictures(tmp_path, COUNT)


def written(cache: TokenCache) -> dict[str, str]:
    return {path.name: io.sha256(path) for path in sorted(cache.folder.iterdir()) if path.name != ".lock"}


def test_a_second_run_encodes_nothing(tmp_path: Path, pictures: list[Picture]) -> None:
    cache = filled(tmp_path)
    before, tower = written(cache), make_tower()
    again = filled(tmp_path, tower=tower)
    assert tower.encoded_images == 0
    assert len(again) == COUNT
    assert written(again) == before
    assert len(list(cache.folder.glob("*.safetensors"))) == 3


def test_a_row_is_what_the_tower_says(tmp_path: Path, pictures: list[Picture]) -> None:
    cache, tower = filled(tmp_path), make_tower()
    streamed = StreamedSamples(pictures, tmp_path / "masks", tower, VIEW, workers=0, cache=None).loaded(0.0)
    fresh = [batch.tokens for batch in streamed.batches([[0, 1], [2, 3], [4]])]  # the units the cache was encoded in
    assert torch.equal(tokens_of(cache, pictures), torch.cat(fresh))


def test_images_that_are_missing_are_added_and_others_do_no_harm(tmp_path: Path, pictures: list[Picture]) -> None:
    first = tokens_of(filled(tmp_path, 3), pictures[:3])
    tower = make_tower()
    cache = filled(tmp_path, COUNT, tower)
    assert tower.encoded_images == COUNT - 3
    assert torch.equal(tokens_of(cache, pictures)[:3], first)
    assert len(filled(tmp_path, 1)) == COUNT


@pytest.mark.process
def test_a_build_that_is_killed_loses_only_the_shard_in_work(tmp_path: Path, pictures: list[Picture]) -> None:
    whole = fill(tmp_path, COUNT, tmp_path / "whole", make_tower())
    script = Path(__file__).with_name("fill_cache.py")
    build = subprocess.Popen([sys.executable, str(script), str(tmp_path), str(COUNT), str(tmp_path / "tokens")])
    limit = time.monotonic() + 300
    while not (done := list((tmp_path / "tokens").glob("*/*.json"))):
        assert time.monotonic() < limit, "no shard in 300 s"
        time.sleep(0.02)
    build.kill()
    build.wait()
    assert io.MANIFEST not in {path.name for path in done}
    (done[0].parent / ".half.123.tmp").write_bytes(b"what a kill leaves in the middle of a write")
    found = len(list((tmp_path / "tokens").glob("*/*.json")))
    tower = make_tower()
    cache = filled(tmp_path, tower=tower)
    assert tower.encoded_images == COUNT - 2 * found
    assert written(cache) == written(whole)


def test_two_ranks_share_the_work_and_end_with_the_files_of_one(tmp_path: Path, pictures: list[Picture]) -> None:
    whole = fill(tmp_path, COUNT, tmp_path / "whole", make_tower())
    towers, barrier = [make_tower(), make_tower()], Barrier(2, timeout=60)

    def one(rank: int) -> TokenCache:
        cache = TokenCache.of(tmp_path / "tokens", towers[rank], VIEW.size_px, VIEW.fit)
        cache.shard_images = 2
        cache.fill(pictures, rank=rank, world=2, wait=barrier.wait)
        return cache

    with ThreadPoolExecutor(2) as ranks:
        caches = list(ranks.map(one, range(2)))
    assert [tower.encoded_images for tower in towers] == [3, 2]
    assert [len(cache) for cache in caches] == [COUNT, COUNT]
    assert written(caches[0]) == written(whole)


def test_tokens_that_another_machine_encoded_into_a_folder_of_its_own_are_told(
    tmp_path: Path, pictures: list[Picture]
) -> None:
    with pytest.raises(DataError, match=r"the tokens of image elsewhere in .*that all machines share, or null"):
        filled(tmp_path).row("elsewhere")


def test_a_shard_is_whole_units_of_encoding_and_bounded_in_bytes() -> None:
    assert shard_images(64_512) == 1024  # 84 tokens of width 192 in fp32, the embedded default
    assert shard_images(256 * 2048 * 2) == 1024  # 448 x 448 in bf16: 1.07 GB
    assert shard_images(3249 * 2048 * 2) == 64  # 1596 x 1596: 0.85 GB
    assert shard_images(10**9) == 32


@pytest.mark.parametrize("change", ["encoder", "size", "fit", "dtype"])
def test_another_encoder_size_fit_or_dtype_has_a_folder_of_its_own(
    tmp_path: Path, pictures: list[Picture], change: str
) -> None:
    filled(tmp_path)
    tower = FastTower(make_tiny_model(seed=1)) if change == "encoder" else make_tower()
    if change == "dtype":
        tower.to(torch.device("cpu"), torch.bfloat16)
    size_px = (56, 56) if change == "size" else VIEW.size_px
    assert len(TokenCache.of(tmp_path / "tokens", tower, size_px, "pad" if change == "fit" else VIEW.fit)) == 0


def flip(path: Path, byte: int) -> None:
    """Turn one bit over; the size stays."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # a clock tick: what a real rewrite leaves


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        ("image longer", r"1\.png as it was encoded.* bytes. To fix: remove "),
        ("image rewritten", r"3\.png as it was encoded.*got sha256"),
        ("bit of the tokens", r"tokens with sha256 .* in row .*\.safetensors.*remove "),
        ("bit of the shard's header", r"tokens with sha256 .* in row .*\.safetensors.*remove "),
        ("shard cut short", r"safetensors of \d+ bytes, got 1000 bytes. To fix: remove "),
        ("index", r"\.json.*remove "),
        ("manifest", r"manifest\.json.*remove "),
    ],
)
def test_what_is_damaged_or_of_another_image_is_refused(
    tmp_path: Path, pictures: list[Picture], damage: str, match: str
) -> None:
    shard = filled(tmp_path).row("token0").shard
    if damage == "image longer":
        pictures[1].path.write_bytes(pictures[1].path.read_bytes() + b"more")
    elif damage == "image rewritten":
        flip(pictures[3].path, 100)
    elif damage == "shard cut short":
        os.truncate(shard, 1000)
    elif damage == "index":
        flip(shard.with_suffix(".json"), -20)
    elif damage == "manifest":
        (shard.parent / io.MANIFEST).write_text("{")
    else:
        flip(shard, -1 if damage == "bit of the tokens" else 9)
    with pytest.raises(DataError, match=match):
        tokens_of(filled(tmp_path), pictures)


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path, pictures: list[Picture]) -> None:
    (tmp_path / "tokens").write_bytes(b"")
    with pytest.raises(ParamsError, match=r"token_cache in params\.yaml"):
        filled(tmp_path)
