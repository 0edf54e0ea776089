"""One shard of the token cache: `<name>.safetensors` with the tokens of some images, `<name>.json` once it is whole."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.core import io
from stages.core.errors import DataError
from stages.training.data import ENCODE_BATCH

SHARD_IMAGES = 32 * ENCODE_BATCH  # whole units of encoding, so that a build that was killed goes on to the same bits
SHARD_BYTES = 1.2e9  # a rank holds up to four times this while it builds
TOKENS = "tokens"  # the one tensor of a shard, (images, N, D)


class ImageFile(NamedTuple):
    """An image file, told from every other by size and hash."""

    size: int  # bytes
    sha256: str


class TokenRow(NamedTuple):
    """The tokens of one image in the cache."""

    shard: Path
    row: int
    sha256: str  # of the row's bytes
    image: ImageFile  # that they were encoded from


class Index(NamedTuple):
    """What stands beside a shard."""

    shard: Path
    facts: dict[str, Any]  # of the encoder and how it was used
    sha256: str  # of the shard
    rows: dict[str, TokenRow]  # by sample_data token


def shard_images(image_bytes: int) -> int:
    """Images in a shard: about a thousand, fewer where their tokens are many; whole units of encoding."""
    units = int(SHARD_BYTES // (image_bytes * ENCODE_BATCH))
    return max(ENCODE_BATCH, min(SHARD_IMAGES, units * ENCODE_BATCH))


def image_file(path: Path) -> ImageFile:
    """Size and hash of the file in `path`."""
    return ImageFile(path.stat().st_size, io.sha256(path))


def refused(folder: Path, wanted: str, came: str) -> DataError:
    """What is said of a cache that must not be used; `folder` is the one to remove."""
    then = f"remove {folder} (its tokens are encoded again), or set train_pruner.token_cache to null in params.yaml"
    return DataError(expected=wanted, got=came, fix=then)


def write_shard(
    path: Path, facts: dict[str, Any], images: dict[str, ImageFile], tokens: Float[Tensor, "M N D"]
) -> None:
    """Write tokens of `images` (by sample_data token) to `path`, then the index beside it: `facts` of the encoder, size
    and sha256 of the shard, and a line [token, image bytes, image sha256, row sha256] per row.

    Raises MachineError when the disk is full.
    """
    data = safetensors.torch.save({TOKENS: tokens})
    io.write_bytes(path, data)
    lines = [[token, *image, hash_of(row)] for (token, image), row in zip(images.items(), tokens, strict=True)]
    shard = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    io.write_json(path.with_suffix(".json"), {"facts": facts, "shard": shard, "images": lines})


def read_index(path: Path) -> Index:
    """The index in `path`. Raises DataError when it is damaged or its shard is missing or of another size."""
    shard = path.with_suffix(".safetensors")
    try:
        read = io.read_json(path, "")
        index = Index(
            shard,
            dict(read["facts"]),
            read["shard"]["sha256"],
            {
                token: TokenRow(shard, row, row_sha256, ImageFile(size, image_sha256))
                for row, (token, size, image_sha256, row_sha256) in enumerate(read["images"])
            },
        )
        wanted = f"{read['shard']['size']} bytes"
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise refused(path.parent, f"the index of a shard of tokens in {path}", f"{error!r:.200}") from error
    came = f"{shard.stat().st_size} bytes" if shard.is_file() else "no such file"
    if came != wanted:
        raise refused(path.parent, f"{shard} of {wanted}", came)
    return index


def check_shard(index: Index) -> None:
    """Raises DataError unless the bytes of the shard are those that were written."""
    if (came := io.sha256(index.shard)) != index.sha256:
        raise refused(index.shard.parent, f"{index.shard} with sha256 {index.sha256}", came)


def read_row(row: TokenRow, image: Path) -> Float[Tensor, "N D"]:
    """The tokens of the image in `image`, read alone and verified: a hash per row costs a row, one per shard a shard.

    Raises DataError when the row is not what was written, or the image is not what was encoded.
    """
    check_image(row, image)
    wanted = f"tokens with sha256 {row.sha256} in row {row.row} of {row.shard}"
    try:
        stat = row.shard.stat()
        tokens = _open(row.shard, stat.st_mtime_ns, stat.st_ino).get_slice(TOKENS)[row.row]
    except (SafetensorError, OSError, IndexError) as error:
        raise refused(row.shard.parent, wanted, f"{error!r:.200}") from error
    if (came := hash_of(tokens)) != row.sha256:
        raise refused(row.shard.parent, wanted, came)
    return tokens


def check_image(row: TokenRow, image: Path, by_hash: bool = True) -> None:
    """Raises DataError unless the file in `image` is the one that was encoded; without `by_hash`, of its size."""
    wanted = f"{image} as it was encoded, {row.image.size} bytes with sha256 {row.image.sha256}"
    size = image.stat().st_size if image.is_file() else None
    if size != row.image.size:
        raise refused(row.shard.parent, wanted, "no such file" if size is None else f"{size} bytes")
    if by_hash and (came := io.sha256(image)) != row.image.sha256:
        raise refused(row.shard.parent, wanted, f"sha256 {came}")


def hash_of(tokens: Float[Tensor, "N D"]) -> str:
    """SHA-256 of dtype, shape and bytes."""
    digest = hashlib.sha256(f"{tokens.dtype} {list(tokens.shape)}".encode())
    digest.update(tokens.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _open(shard: Path, mtime_ns: int, inode: int) -> Any:
    """The shard, mapped into memory, not read; mapped again when another file stands there."""
    return safe_open(shard, framework="pt")
