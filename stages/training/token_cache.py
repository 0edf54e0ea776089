"""Visual tokens of the frozen tower, encoded once: `<folder>/<key>/<name>.safetensors`, each the tokens of some images.

The key is of the encoder, the code that runs it, the image size, the fit and the dtype. A shard's metadata names its
images with the hashes of each image and of its row; a row is hashed whenever it is read, and so is its image: what is
damaged, or was encoded from other bytes, is refused and never used.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.backbone.vision import FastTower
from stages.core import io
from stages.core.errors import DataError
from stages.core.progress import progress
from stages.training.data import ENCODE_BATCH, Picture, View, in_groups

log = logging.getLogger(__name__)
FORMAT = 2
_STAGES = Path(__file__).parents[1]
SHARD_IMAGES = 32 * ENCODE_BATCH  # whole units of encoding, so that a build that was killed goes on to the same bits
SHARD_BYTES = 1.2e9  # a rank holds up to three times this while it builds
TOKENS, IMAGES = "tokens", "images"  # the one tensor of a shard, (images, N, D); the one entry of its metadata


class TokenRow(NamedTuple):
    """The tokens of one image in the cache."""

    shard: Path
    row: int
    sha256: str  # of the row
    image_sha256: str  # of the image that it was encoded from


def shard_images(image_bytes: int) -> int:
    """Images in a shard: about a thousand, fewer where their tokens are many; whole units of encoding."""
    units = int(SHARD_BYTES // (image_bytes * ENCODE_BATCH))
    return max(ENCODE_BATCH, min(SHARD_IMAGES, units * ENCODE_BATCH))


def refused(folder: Path, expected: str, got: str) -> DataError:
    """The error of a cache that must not be used; `folder` is the one to remove."""
    fix = f"remove {folder} (its tokens are encoded again), or set train_pruner.token_cache to null in params.yaml"
    return DataError(expected=expected, got=got, fix=fix)


def write_shard(path: Path, images: dict[str, str], tokens: Float[Tensor, "M N D"]) -> None:
    """Write tokens of `images` (sample_data token -> sha256 of the file). Raises MachineError when the disk is full."""
    rows = [[*image, hash_of(row)] for image, row in zip(images.items(), tokens, strict=True)]
    io.write_bytes(path, safetensors.torch.save({TOKENS: tokens}, {IMAGES: json.dumps(rows)}))


def read_shard(path: Path) -> dict[str, TokenRow]:
    """The rows of a shard by sample_data token, none read yet. Raises DataError when it is damaged."""
    try:
        with safe_open(path, framework="pt") as shard:
            rows = json.loads(shard.metadata()[IMAGES])
        return {token: TokenRow(path, i, sha256, image) for i, (token, image, sha256) in enumerate(rows)}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise refused(path.parent, f"a shard of tokens in {path}", f"{error!r:.200}") from error


def read_row(row: TokenRow, image: Path) -> Float[Tensor, "N D"]:
    """The tokens of an image. Raises DataError when the row or the image is not what was written or encoded."""
    if not image.is_file() or io.sha256(image) != row.image_sha256:
        raise refused(row.shard.parent, f"{image} as it was encoded, with sha256 {row.image_sha256}", "another")
    expected = f"tokens with sha256 {row.sha256} in row {row.row} of {row.shard}"
    try:
        tokens = _open(row.shard, row.shard.stat().st_mtime_ns).get_slice(TOKENS)[row.row]
    except (SafetensorError, OSError, IndexError) as error:
        raise refused(row.shard.parent, expected, f"{error!r:.200}") from error
    if (got := hash_of(tokens)) != row.sha256:
        raise refused(row.shard.parent, expected, got)
    return tokens


def hash_of(tokens: Float[Tensor, "N D"]) -> str:
    """SHA-256 of dtype, shape and bytes."""
    digest = hashlib.sha256(f"{tokens.dtype} {list(tokens.shape)}".encode())
    digest.update(tokens.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _open(shard: Path, mtime_ns: int) -> Any:
    """The shard, mapped into memory, not read; mapped again when another file stands there."""
    return safe_open(shard, framework="pt")


class TokenCache:
    """Tokens of `tower` at one size, by sample_data token, below `folder`. Raises DataError for a damaged shard."""

    def __init__(self, folder: Path, tower: FastTower, size_px: tuple[int, int], fit: str) -> None:
        # All that is done to an image before and in the tower: other code, other tokens
        files = [_STAGES / "scenes/images.py", *sorted((_STAGES / "backbone").glob("*.py"))]
        code = io.fingerprint(*map(io.sha256, files))
        facts = {"format": FORMAT, "encoder": tower.fingerprint, "size_px": list(size_px), "fit": fit}
        facts |= {"dtype": str(tower.dtype).removeprefix("torch."), "code": code}
        self.folder, self._tower, self._view = folder / io.fingerprint(facts), tower, View(size_px, fit, 1)
        h, w = tower.grid(size_px)
        self.shard_images = shard_images(h * w * tower.width * tower.dtype.itemsize)
        self._rows = self._read()

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, token: str) -> TokenRow:
        """Where the tokens of an image lie. Raises DataError when `fill` has put none there."""
        if token not in self._rows:
            expected, got = f"the tokens of image {token} in {self.folder}", f"those of {len(self)} others"
            fix = "name a folder under train_pruner.token_cache in params.yaml that all machines share, or null"
            raise DataError(expected=expected, got=got, fix=fix)
        return self._rows[token]

    def fill(
        self,
        pictures: Sequence[Picture],
        *,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        """Encode those of `pictures` that are missing, in their order; of several ranks each encodes every world-th
        shard, and `wait` returns when all have called it.

        A killed build loses the shards in work. Raises MachineError when the disk is full.
        """
        lock = io.alone(self.folder / ".lock", f"fill {self.folder}") if rank == 0 else nullcontext()
        with lock:  # no other run fills the folder
            wait()
            self._rows = self._read()
            missing = list({p.token: p for p in pictures if p.token not in self._rows}.values())
            shards = [missing[i : i + self.shard_images] for i in range(0, len(missing), self.shard_images)]
            if missing and rank == 0:
                log.info("%d of %d images are not in %s and are encoded", len(missing), len(pictures), self.folder)
                for stray in self.folder.glob(".*.tmp"):  # of a build that was killed
                    stray.unlink()
            wait()
            if mine := shards[rank::world]:
                self._encode(mine, workers)
            wait()
            self._rows = self._read()

    def _read(self) -> dict[str, TokenRow]:
        shards = sorted(self.folder.glob("*.safetensors"))
        return {token: row for path in shards for token, row in read_shard(path).items()}

    def _encode(self, shards: Sequence[Sequence[Picture]], workers: int) -> None:
        from stages.training.loading import Job, read_groups  # here: it reads rows of this cache

        groups = [[shard[place] for place in group] for shard in shards for group in in_groups(len(shard))]
        jobs = ([Job(picture.path) for picture in group] for group in groups)
        with closing(read_groups(jobs, self._view, workers, self._tower.device.type == "cuda")) as reads:
            shown = progress(reads, len(groups), f"encode images, {ENCODE_BATCH} a time")
            encoded = ((self._tower.encode(read.images).cpu(), read.sha256s) for read in shown)
            for shard in shards:
                parts = list(islice(encoded, len(in_groups(len(shard)))))
                hashes = [sha256 for part in parts for sha256 in part[1]]
                images = dict(zip([p.token for p in shard], hashes, strict=True))
                path = self.folder / f"{io.fingerprint(list(images))}.safetensors"
                write_shard(path, images, torch.cat([part[0] for part in parts]))
