"""Visual tokens of the frozen tower, encoded once: `<folder>/<key>/` with shards, an index beside each, manifest last.

The key is of the encoder, the code that runs it, the image size, the fit and the dtype. What was encoded from other
images, by another encoder, or is damaged, is refused and never used: a row is hashed whenever it is read, and so is its
image.
"""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stages.backbone.vision import FastTower
from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.core.progress import progress
from stages.training.data import ENCODE_BATCH, View, in_groups
from stages.training.pictures import Picture
from stages.training.reading import Job
from stages.training.token_shards import (
    ImageFile,
    TokenRow,
    check_image,
    check_shard,
    read_index,
    refused,
    shard_images,
    write_shard,
)
from stages.training.workers import read_ahead

log = logging.getLogger(__name__)
FORMAT = 1
_STAGES = Path(__file__).parents[1]
# What is done to an image before and in the tower: other code, other tokens.
CODE = [
    _STAGES / "scenes/images.py",
    *(_STAGES / f"backbone/{name}.py" for name in ("attention", "patches", "qwen", "vision")),
]


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

        Raises DataError when what is there is of another encoder, size, fit or dtype, or lacks bytes.
        """
        facts = {"format": FORMAT, "encoder": tower.fingerprint, "size_px": list(size_px), "fit": fit}
        facts |= {"dtype": str(tower.dtype).removeprefix("torch."), "code": io.fingerprint(*map(io.sha256, CODE))}
        cache = cls(folder / io.fingerprint(facts), tower, facts)
        cache._look()
        return cache

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, token: str) -> bool:
        return token in self._rows

    def row(self, token: str) -> TokenRow:
        """Where the tokens of an image lie. Raises DataError when `fill` has put none there."""
        if token not in self._rows:
            wanted, came = f"the tokens of image {token} in {self.folder}", f"those of {len(self)} others"
            then = "name a folder under train_pruner.token_cache in params.yaml that all machines share, or null"
            raise DataError(expected=wanted, got=came, fix=then)
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
            listed = self._look()
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
            self._look()

    def _indices(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if path.name != io.MANIFEST)

    def _look(self) -> list[Path]:
        """Read the indices of all whole shards; returns those that the manifest lists."""
        listed: list[Path] = []
        if (self.folder / io.MANIFEST).exists():
            try:
                self._compare(io.read_manifest(self.folder, ""), self.folder / io.MANIFEST)
                names = io.read_json(self.folder / io.MANIFEST, "")["files"]
                listed = [io.check_file(self.folder, name, "") for name in sorted(names)]
            except DataError as error:
                raise refused(self.folder, error.expected, error.got) from error
        self._rows = {}
        for path in self._indices():
            index = read_index(path)
            self._compare(index.facts, path)
            self._rows |= index.rows
        return listed

    def _compare(self, facts: dict[str, Any], path: Path) -> None:
        differ = [name for name in self._facts if facts.get(name) != self._facts[name]]
        if differ:
            wanted, came = (", ".join(f"{name} {of.get(name)}" for name in differ) for of in (self._facts, facts))
            raise refused(self.folder, f"tokens of {wanted} in {path}", came)

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
                last = writer.submit(write_shard, path, self._facts, images, torch.cat([part[0] for part in parts]))
            if last is not None:
                last.result()

    def _encoded(
        self, groups: Sequence[Sequence[Picture]], workers: int
    ) -> Generator[tuple[Float[Tensor, "B N D"], list[ImageFile]], None, None]:
        if not groups:
            return
        jobs = ([Job(picture.path) for picture in group] for group in groups)
        reads = read_ahead(jobs, self._view, workers, self._tower.device.type == "cuda")
        for read in progress(reads, len(groups), f"encode images, {ENCODE_BATCH} a time"):
            yield self._tower.encode(read.images).cpu(), read.files


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside, no other run fills `folder`: the first rank of each holds its lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        then = "name another folder under train_pruner.token_cache in params.yaml, or null"
        raise ParamsError(expected=f"a folder {folder} to keep tokens in", got=str(error), fix=then) from error
    with io.alone(folder / ".lock", f"fill {folder}"):
        yield
