"""Fill a token cache with shards of two images, slowly: for tests that kill it. Arguments: pictures, count, cache."""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from few_pictures import VIEW, make_tower  # noqa: E402

from stages.backbone.vision import FastTower  # noqa: E402
from stages.training.data import Picture  # noqa: E402
from stages.training.token_cache import TokenCache, read_row  # noqa: E402


def fill(folder: Path, count: int, tokens: Path, tower: FastTower) -> TokenCache:
    """The cache in `tokens` of the `count` pictures that few_pictures has written to `folder`."""
    cache = TokenCache.of(tokens, tower, VIEW.size_px, VIEW.fit)
    cache.shard_images = 2
    cache.fill([Picture(f"token{i}", f"scene-{i % 2}", folder / f"{i}.png") for i in range(count)])
    return cache


def filled(tmp_path: Path, count: int = 5, tower: FastTower | None = None) -> TokenCache:
    """Shards of two images."""
    return fill(tmp_path, count, tmp_path / "tokens", tower or make_tower())


def tokens_of(cache: TokenCache, pictures: list[Picture]) -> torch.Tensor:
    return torch.stack([read_row(cache.row(picture.token), picture.path) for picture in pictures])


class SlowTower(FastTower):
    """Half a second a group."""

    def encode(self, images: Tensor) -> Tensor:
        time.sleep(0.5)
        return super().encode(images)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tower = make_tower()
    tower.__class__ = SlowTower
    fill(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), tower)
