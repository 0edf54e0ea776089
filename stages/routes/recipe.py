"""All that shapes the plans of a row, the shards that they are made in, and the folder where finished shards wait."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stages.core import io
from stages.core.errors import DataError
from stages.scenes import layout

WORK = Path("runs/plans")
STAGES = Path(__file__).parents[1]
MASKS = Path("data/masks")
FOLDERS = ("backbone", "core", "pruning", "registry", "routes", "scenes", "vla")
CODE = (*FOLDERS, "masks/shards.py", "plan_routes.py")
NO_CODE = ("scenes/world",)  # in those folders, but not run by a row
LIBRARIES = ("transformers", "tokenizers", "opencv-python-headless", "pillow", "numpy")
CAN_MESSAGES = ("pose", "steeranglefeedback")  # those that a question is made of: half a GB of several in nuScenes
SMALL_BYTES = 64 * 2**20  # the tokenizer of Qwen2.5-VL has 11 MB, a shard of its weights GBs


@dataclass(frozen=True)
class PlanShard:
    """Consecutive scenes of a split, whole: planned at one go by one process."""

    number: int
    scenes: tuple[str, ...]
    tokens: tuple[str, ...]  # of their key frames, scene by scene, in the order of time

    @property
    def name(self) -> str:
        """Stem of its files."""
        return f"shard-{self.number:04d}"


def plan_shards(scenes: Iterable[tuple[str, Sequence[str]]], scenes_per_shard: int) -> list[PlanShard]:
    """Shards of so many scenes each, in their order; a scene comes with the tokens of its key frames.

    Raises DataError when a key frame would be in two of them, or twice in one.
    """
    seen, whole = dict[str, str](), list(scenes)
    for scene, tokens in whole:
        for token in tokens:
            if token in seen:
                raise DataError(
                    expected="each sample token in one scene of the split, and once in it",
                    got=f"{token} in {seen[token]} and again in {scene}",
                    fix="mend the data set's sample.json (prev and next) or its splits.json",
                )
            seen[token] = scene
    groups = [whole[i : i + scenes_per_shard] for i in range(0, len(whole), scenes_per_shard)]
    return [
        PlanShard(number, tuple(scene for scene, _ in group), tuple(token for _, tokens in group for token in tokens))
        for number, group in enumerate(groups)
    ]


@dataclass(frozen=True)
class PlanRecipe:
    """A plain value, so that it can be sent to another process."""

    row: str  # of the grid
    method: str  # the pruner that drives it; `none` in a control
    options: Mapping[str, Any]  # of the pruner
    percents: tuple[int, ...]
    root: str
    version: str
    split: str
    vla: Mapping[str, Any]  # the section of params
    batch_size: int
    threads: int
    scenes_per_shard: int
    masked: bool  # reads the masks of generate_masks

    def key(self) -> str:
        """Equal recipes, equal keys."""
        return json.dumps(vars(self), sort_keys=True)

    @classmethod
    def of(cls, key: str) -> "PlanRecipe":
        """The recipe of a key."""
        fields = json.loads(key)
        return cls(**fields | {"percents": tuple(fields["percents"])})

    def folder(self) -> Path:
        """Where the work on this row waits, by any recipe."""
        return WORK / self.row

    def work_folder(self) -> Path:
        """Where finished shards wait: another param, input, library or line of code, another folder."""
        libraries = {name: version(name) for name in LIBRARIES}
        return self.folder() / io.fingerprint(self.key(), self._inputs(), code_hashes(), libraries, torch.__version__)

    def _inputs(self) -> dict[str, Any]:
        """What is read beside params: small files by content, weights and images by name and size.

        34k images are too many to be hashed at each start; the manifest of a drawn world has their hashes. Weights have
        theirs in params or in a manifest.
        """
        root = Path(self.root)
        checkpoints = [self.vla["checkpoint"], self.options.get("checkpoint")]
        folders = [self.options.get("oracle_root"), MASKS if self.masked else None]
        manifests = [Path(str(folder)) / io.MANIFEST for folder in folders if folder]
        can_bus = [path for name in CAN_MESSAGES for path in sorted((root / "can_bus").glob(f"*_{name}.json"))]
        return {
            "tables": layout.table_hashes(root, self.version),
            "can_bus": {path.name: io.sha256(path) for path in can_bus},
            "images": [] if (root / io.MANIFEST).is_file() else _sizes(root / "samples" / "CAM_FRONT"),
            "checkpoints": [_checkpoint(Path(str(folder))) for folder in checkpoints if folder],
            "manifests": {str(path): io.sha256(path) for path in manifests if path.is_file()},
        }


def code_hashes() -> dict[str, str]:
    """By path in stages/, the SHA-256 of each file of code that plans may hang on."""
    found = {path for name in CODE for path in (STAGES / name, *(STAGES / name).rglob("*")) if path.is_file()}
    others = {STAGES / name for name in NO_CODE}
    return {
        str(path.relative_to(STAGES)): io.sha256(path)
        for path in sorted(found)
        if path.parent.name != "__pycache__" and others.isdisjoint(path.parents)
    }


def _checkpoint(folder: Path) -> dict[str, str | int]:
    """Small files of a folder by content, others by size; not what a download leaves in hidden folders."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        str(name): io.sha256(path) if path.stat().st_size <= SMALL_BYTES else path.stat().st_size
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.parts)
    }


def _sizes(folder: Path) -> list[tuple[str, int]]:
    entries = os.scandir(folder) if folder.is_dir() else ()
    return sorted((entry.name, entry.stat().st_size) for entry in entries)
