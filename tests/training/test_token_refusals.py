"""A stale, foreign or damaged cache is refused, with the folder to remove."""

import os
from pathlib import Path

import pytest
import torch
from few_pictures import VIEW, make_tower, write_pictures
from fill_cache import filled, tokens_of
from tiny import make_tiny_model

from stages.backbone.vision import FastTower
from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.training.data import Picture
from stages.training.token_cache import TokenCache

COUNT = 5


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    return write_pictures(tmp_path, COUNT)


@pytest.mark.parametrize("change", ["encoder", "size", "fit", "dtype"])
def test_another_encoder_size_fit_or_dtype_has_a_folder_of_its_own(
    tmp_path: Path, pictures: list[Picture], change: str
) -> None:
    filled(tmp_path)
    assert len(other(tmp_path, change)) == 0


def other(tmp_path: Path, change: str) -> TokenCache:
    """The cache of the same images but for one thing."""
    tower = FastTower(make_tiny_model(seed=1)) if change == "encoder" else make_tower()
    if change == "dtype":
        tower.to(torch.device("cpu"), torch.bfloat16)
    size_px = (56, 56) if change == "size" else VIEW.size_px
    return TokenCache.of(tmp_path / "tokens", tower, size_px, "pad" if change == "fit" else VIEW.fit)


def test_an_image_of_another_size_is_refused(tmp_path: Path, pictures: list[Picture]) -> None:
    filled(tmp_path)
    with open(pictures[1].path, "ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=r"1\.png as it was encoded.* bytes. To fix: remove "):
        filled(tmp_path)


def test_any_rewritten_image_is_refused_when_it_is_read(tmp_path: Path, pictures: list[Picture]) -> None:
    cache = filled(tmp_path)
    flip(pictures[3].path, 100)
    with pytest.raises(DataError, match=r"3\.png as it was encoded.*got sha256"):
        tokens_of(cache, pictures)


def flip(path: Path, byte: int) -> None:
    """Turn one bit over; the size stays."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # a clock tick: what a real rewrite leaves


@pytest.mark.parametrize("byte", [-1, 9])
def test_a_shard_with_a_flipped_bit_is_refused(tmp_path: Path, pictures: list[Picture], byte: int) -> None:
    cache = filled(tmp_path)
    flip(cache.row("token0").shard, byte)
    with pytest.raises(DataError, match=r"tokens with sha256 .* in row .*\.safetensors.*remove "):
        tokens_of(filled(tmp_path), pictures)


def test_a_truncated_shard_is_refused_at_opening(tmp_path: Path, pictures: list[Picture]) -> None:
    cache = filled(tmp_path)
    os.truncate(cache.row("token0").shard, 1000)
    with pytest.raises(DataError, match=r"safetensors of \d+ bytes, got 1000 bytes. To fix: remove "):
        filled(tmp_path)


def test_a_damaged_index_is_refused(tmp_path: Path, pictures: list[Picture]) -> None:
    index = filled(tmp_path).row("token0").shard.with_suffix(".json")
    flip(index, -20)
    with pytest.raises(DataError, match=r"\.json.*remove "):
        filled(tmp_path)
    (index.parent / io.MANIFEST).write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json.*remove "):
        filled(tmp_path)


def test_a_shard_that_an_interrupted_build_left_is_verified(tmp_path: Path, pictures: list[Picture]) -> None:
    cache = filled(tmp_path)
    (cache.folder / io.MANIFEST).unlink()
    tower = make_tower()
    filled(tmp_path, tower=tower)
    assert tower.encoded_images == 0
    (cache.folder / io.MANIFEST).unlink()
    flip(cache.row("token0").shard, -1)
    with pytest.raises(DataError, match=r"safetensors with sha256 "):
        filled(tmp_path)


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path, pictures: list[Picture]) -> None:
    (tmp_path / "tokens").write_bytes(b"")
    with pytest.raises(ParamsError, match=r"token_cache in params\.yaml"):
        filled(tmp_path)
