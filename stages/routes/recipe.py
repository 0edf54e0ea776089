"""All that shapes the plans of a row, the shards that they are made in, and the folder where finished shards wait."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages import files
from stages.errors import DataError
from stages.scenes import layout

WORK = Path("runs/plans")
STAGES = Path(__file__).parents[1]
MASKS = Path("data/masks")
FOLDERS = ("routes", "vla", "pruning", "backbone", "scenes", "registry")
CODE = (*(f"{folder}/*.*" for folder in FOLDERS), "masks/shards.py", "tokens.py")


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
                    wanted="each sample token in one scene of the split, and once in it",
                    came=f"{token} in {seen[token]} and again in {scene}",
                    then="mend the data set's sample.json (prev and next) or its splits.json",
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
        """Where finished shards wait: another param, table, checkpoint, mask or line of code, another folder."""
        code = {
            str(path.relative_to(STAGES)): files.sha256(path) for glob in CODE for path in sorted(STAGES.glob(glob))
        }
        return self.folder() / files.fingerprint(self.key(), self._inputs(), code, torch.__version__)

    def _inputs(self) -> dict[str, Any]:
        root = Path(self.root)
        folders = [self.vla["checkpoint"], self.options.get("checkpoint"), self.options.get("oracle_root")]
        manifests = [Path(str(name)) / files.MANIFEST for name in [*folders, MASKS if self.masked else None] if name]
        return {
            "tables": layout.table_hashes(root, self.version),
            "can_bus": sorted((path.name, path.stat().st_size) for path in (root / "can_bus").glob("*.json")),
            "manifests": {str(path): files.sha256(path) for path in manifests if path.is_file()},
        }
