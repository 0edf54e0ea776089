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

from stages.core import io
from stages.core.errors import DataError
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


def test_a_build_that_is_killed_loses_only_the_shard_in_work(tmp_path: Path, pictures: list[Picture]) -> None:
    whole = fill(tmp_path, COUNT, tmp_path / "whole", make_tower())
    script = Path(__file__).with_name("fill_cache.py")
    build = subprocess.Popen([sys.executable, str(script), str(tmp_path), str(COUNT), str(tmp_path / "tokens")])
    limit = time.monotonic() + 60
    while not (done := list((tmp_path / "tokens").glob("*/*.json"))):
        assert time.monotonic() < limit, "no shard in 60 s"
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
