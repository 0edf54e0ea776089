"""Visual tokens of the frozen tower, encoded once: `<folder>/<key>/` with shards, an index beside each, manifest last.

A shard is `<name>.safetensors` with the tokens of some images, and `<name>.json` once it is whole.

The key is of the encoder, the code that runs it, the image size, the fit and the dtype. What was encoded from other
images, by another encoder, or is damaged, is refused and never used: a row is hashed whenever it is read, and so is its
image.
"""

import hashlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.core.progress import progress
from stages.training.data import ENCODE_BATCH, Picture, View, in_groups

if TYPE_CHECKING:
    from stages.backbone.vision import FastTower
else:
    FastTower = Any  # a worker imports no transformers

log = logging.getLogger(__name__)
FORMAT = 1
_STAGES = Path(__file__).parents[1]
SHARD_IMAGES = 32 * ENCODE_BATCH  # whole units of encoding, so that a build that was killed goes on to the same bits
SHARD_BYTES = 1.2e9  # a rank holds up to four times this while it builds
TOKENS = "tokens"  # the one tensor of a shard, (images, N, D)


class ImageFile(NamedTuple):
    """Size and hash of an image file."""

    size: int  # bytes
    sha256: str


class TokenRow(NamedTuple):
    """The tokens of one image in the cache."""

    shard: Path
    row: int
    sha256: str  # of the row's bytes
    image: ImageFile  # that they were encoded from


class Index(NamedTuple):
    """The index beside a shard."""

    shard: Path
    sha256: str  # of the shard
    rows: dict[str, TokenRow]  # by sample_data token


def shard_images(image_bytes: int) -> int:
    """Images in a shard: about a thousand, fewer where their tokens are many; whole units of encoding."""
    units = int(SHARD_BYTES // (image_bytes * ENCODE_BATCH))
    return max(ENCODE_BATCH, min(SHARD_IMAGES, units * ENCODE_BATCH))


def image_file(path: Path) -> ImageFile:
    """Size and hash of the file in `path`."""
    return ImageFile(path.stat().st_size, io.sha256(path))


def refused(folder: Path, expected: str, got: str) -> DataError:
    """The error of a cache that must not be used; `folder` is the one to remove."""
    fix = f"remove {folder} (its tokens are encoded again), or set train_pruner.token_cache to null in params.yaml"
    return DataError(expected=expected, got=got, fix=fix)


def write_shard(path: Path, images: dict[str, ImageFile], tokens: Float[Tensor, "M N D"]) -> None:
    """Write tokens of `images` (by sample_data token) to `path`, then the index beside it: size and sha256 of the
    shard, and a line [token, image bytes, image sha256, row sha256] per row.

    Raises MachineError when the disk is full.
    """
    data = safetensors.torch.save({TOKENS: tokens})
    io.write_bytes(path, data)
    lines = [[token, *image, hash_of(row)] for (token, image), row in zip(images.items(), tokens, strict=True)]
    shard = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    io.write_json(path.with_suffix(".json"), {"shard": shard, "images": lines})


def read_index(path: Path) -> Index:
    """The index in `path`. Raises DataError when it is damaged or its shard is missing or of another size."""
    shard = path.with_suffix(".safetensors")
    try:
        read = io.read_json(path, "")
        index = Index(
            shard,
            read["shard"]["sha256"],
            {
                token: TokenRow(shard, row, row_sha256, ImageFile(size, image_sha256))
                for row, (token, size, image_sha256, row_sha256) in enumerate(read["images"])
            },
        )
        expected = f"{read['shard']['size']} bytes"
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise refused(path.parent, f"the index of a shard of tokens in {path}", f"{error!r:.200}") from error
    got = f"{shard.stat().st_size} bytes" if shard.is_file() else "no such file"
    if got != expected:
        raise refused(path.parent, f"{shard} of {expected}", got)
    return index


def check_shard(index: Index) -> None:
    """Raises DataError unless the bytes of the shard are those that were written."""
    if (got := io.sha256(index.shard)) != index.sha256:
        raise refused(index.shard.parent, f"{index.shard} with sha256 {index.sha256}", got)


def read_row(row: TokenRow, image: Path) -> Float[Tensor, "N D"]:
    """The tokens of the image in `image`, read alone and verified: a hash per row costs a row, one per shard a shard.

    Raises DataError when the row is not what was written, or the image is not what was encoded.
    """
    check_image(row, image)
    expected = f"tokens with sha256 {row.sha256} in row {row.row} of {row.shard}"
    try:
        stat = row.shard.stat()
        tokens = _open(row.shard, stat.st_mtime_ns, stat.st_ino).get_slice(TOKENS)[row.row]
    except (SafetensorError, OSError, IndexError) as error:
        raise refused(row.shard.parent, expected, f"{error!r:.200}") from error
    if (got := hash_of(tokens)) != row.sha256:
        raise refused(row.shard.parent, expected, got)
    return tokens


def check_image(row: TokenRow, image: Path, by_hash: bool = True) -> None:
    """Raises DataError unless the file in `image` is the one that was encoded; without `by_hash`, of its size."""
    expected = f"{image} as it was encoded, {row.image.size} bytes with sha256 {row.image.sha256}"
    size = image.stat().st_size if image.is_file() else None
    if size != row.image.size:
        raise refused(row.shard.parent, expected, "no such file" if size is None else f"{size} bytes")
    if by_hash and (got := io.sha256(image)) != row.image.sha256:
        raise refused(row.shard.parent, expected, f"sha256 {got}")


def hash_of(tokens: Float[Tensor, "N D"]) -> str:
    """SHA-256 of dtype, shape and bytes."""
    digest = hashlib.sha256(f"{tokens.dtype} {list(tokens.shape)}".encode())
    digest.update(tokens.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _open(shard: Path, mtime_ns: int, inode: int) -> Any:
    """The shard, mapped into memory, not read; mapped again when another file stands there."""
    return safe_open(shard, framework="pt")


class TokenCache:
    """Tokens of one encoder at one size, by sample_data token."""

    def __init__(self, folder: Path, tower: FastTower, facts: dict[str, Any]) -> None:
        self.folder, self._tower, self._facts = folder, tower, facts
        self._view = View((facts["size_px"][0], facts["size_px"][1]), facts["fit"], 1)
        h, w = tower.grid(self._view.size_px)
        self.shard_images = shard_images(h * w * tower.width * tower.dtype.itemsize)
        self._rows: dict[str, TokenRow] = {}

    @classmethod
    def of(cls, folder: Path, tower: FastTower, size_px: tuple[int, int], fit: str) -> "TokenCache":
        """The cache of `tower` at `size_px` and `fit` below `folder`, which may be empty yet.

        Raises DataError when bytes are missing.
        """
        facts = {"format": FORMAT, "encoder": tower.fingerprint, "size_px": list(size_px), "fit": fit}
        facts |= {"dtype": str(tower.dtype).removeprefix("torch."), "code": _code()}
        cache = cls(folder / io.fingerprint(facts), tower, facts)
        cache._read_indices()
        return cache

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, token: str) -> bool:
        return token in self._rows

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

        A killed build loses the shards in work. Raises DataError when an image is not what was encoded (its size is
        looked at; of one image in each shard also the hash), MachineError when the disk is full.
        """
        with _alone(self.folder) if rank == 0 else nullcontext():
            wait()
            listed = self._read_indices()
            self._check(pictures)
            missing = list({p.token: p for p in pictures if p.token not in self._rows}.values())
            shards = [missing[i : i + self.shard_images] for i in range(0, len(missing), self.shard_images)]
            if rank == 0:
                self._tidy(listed)
            wait()
            if missing and rank == 0:
                log.info("%d of %d images are not in %s and are encoded", len(missing), len(pictures), self.folder)
            self._encode(shards[rank::world], workers)
            wait()
            if rank == 0 and set(listed) != set(self._indices()):
                io.write_manifest(self.folder, self._indices(), self._facts)
            wait()
            self._read_indices()

    def _indices(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if path.name != io.MANIFEST)

    def _read_indices(self) -> list[Path]:
        """Read the indices of all whole shards; returns those that the manifest lists."""
        listed: list[Path] = []
        if (self.folder / io.MANIFEST).exists():
            try:
                io.read_manifest(self.folder, "")
                names = io.read_json(self.folder / io.MANIFEST, "")["files"]
                listed = [io.check_file(self.folder, name, "") for name in sorted(names)]
            except DataError as error:
                raise refused(self.folder, error.expected, error.got) from error
        self._rows = {token: row for path in self._indices() for token, row in read_index(path).rows.items()}
        return listed

    def _check(self, pictures: Sequence[Picture]) -> None:
        hashed = set[Path]()
        for picture in pictures:
            if row := self._rows.get(picture.token):
                check_image(row, picture.path, by_hash=row.shard not in hashed)
                hashed.add(row.shard)

    def _tidy(self, listed: Sequence[Path]) -> None:
        """Verify shards that an interrupted build left behind, and remove what it had not finished."""
        for index in set(self._indices()) - set(listed):
            check_shard(read_index(index))
        for shard in self.folder.glob("*.safetensors"):
            if not shard.with_suffix(".json").exists():
                shard.unlink()
        for stray in self.folder.glob(".*.tmp"):
            stray.unlink()

    def _encode(self, shards: Sequence[Sequence[Picture]], workers: int) -> None:
        """Encode and write `shards`; one is hashed and written while the next is encoded."""
        groups = [[shard[place] for place in group] for shard in shards for group in in_groups(len(shard))]
        with closing(self._encoded(groups, workers)) as encoded, ThreadPoolExecutor(1) as writer:
            last: Future[None] | None = None
            for shard in shards:
                parts = [next(encoded) for _ in in_groups(len(shard))]
                images = dict(zip([p.token for p in shard], [file for part in parts for file in part[1]], strict=True))
                path = self.folder / f"{io.fingerprint(list(images))}.safetensors"
                if last is not None:
                    last.result()
                last = writer.submit(write_shard, path, images, torch.cat([part[0] for part in parts]))
            if last is not None:
                last.result()

    def _encoded(
        self, groups: Sequence[Sequence[Picture]], workers: int
    ) -> Generator[tuple[Float[Tensor, "B N D"], list[ImageFile]], None, None]:
        if not groups:
            return
        from stages.training.loading import Job, read_groups  # here: it reads rows of this cache

        jobs = ([Job(picture.path) for picture in group] for group in groups)
        reads = read_groups(jobs, self._view, workers, self._tower.device.type == "cuda")
        for read in progress(reads, len(groups), f"encode images, {ENCODE_BATCH} a time"):
            yield self._tower.encode(read.images).cpu(), read.files


def _code() -> str:
    """A hash of all that is done to an image before and in the tower: other code, other tokens."""
    files = [_STAGES / "scenes/images.py", *sorted((_STAGES / "backbone").glob("*.py"))]
    return io.fingerprint(*map(io.sha256, files))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside, no other run fills `folder`: the first rank of each holds its lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "name another folder under train_pruner.token_cache in params.yaml, or null"
        raise ParamsError(expected=f"a folder {folder} to keep tokens in", got=str(error), fix=fix) from error
    with io.alone(folder / ".lock", f"fill {folder}"):
        yield
