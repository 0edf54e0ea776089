"""One row's plans in shards of whole scenes, as work that several processes share and a killed run resumes.

A finished shard is not planned again. It waits in a work folder named by a fingerprint of all that shapes it, outside
of DVC's outs (DVC deletes those before it runs a stage). kill -9 loses the shards in work.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from stages.core import io
from stages.core.errors import DataError
from stages.core.progress import progress
from stages.pruning import base as pruning
from stages.pruning.base import Pruner
from stages.scenes import layout
from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla import base as vla
from stages.vla.base import Driver, Plan, driver_options
from stages.vla.controls import frames_of
from stages.vla.plans import write_plans
from stages.vla.questions import Questions, open_questions
from stages.vla.ranking import Scores, remembering

WORK = Path("runs/plans")
STAGES = Path(__file__).parents[1]
MASKS = Path("data/masks")
CODE = ("backbone", "pruning", "scenes", "vla")
LIBRARIES = ("transformers", "tokenizers", "opencv-python-headless", "pillow", "numpy")
CAN_MESSAGES = ("pose", "steeranglefeedback")  # those that a question is made of: half a GB of several in nuScenes
SMALL_BYTES = 64 * 2**20  # the tokenizer of Qwen2.5-VL has 11 MB, a shard of its weights GBs


@dataclass(frozen=True)
class PlanShard:
    """Consecutive scenes of a split, planned at one go by one process."""

    number: int
    scenes: tuple[str, ...]
    tokens: tuple[str, ...]  # of their key frames, scene by scene, in the order of time

    @property
    def name(self) -> str:
        """Stem of its files."""
        return f"shard-{self.number:04d}"


def plan_shards(scenes: Iterable[tuple[str, Sequence[str]]], scenes_per_shard: int) -> list[PlanShard]:
    """Return shards of so many scenes each, in their order; a scene comes with the tokens of its key frames."""
    whole = list(scenes)
    groups = [whole[i : i + scenes_per_shard] for i in range(0, len(whole), scenes_per_shard)]
    return [
        PlanShard(number, tuple(scene for scene, _ in group), tuple(token for _, tokens in group for token in tokens))
        for number, group in enumerate(groups)
    ]


@dataclass(frozen=True)
class PlanJob:
    """Settings and inputs that shape the plans of a row. A plain value, so that it can be sent to another process."""

    row: str  # of the grid
    method: str  # the pruner; `none` in a control
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
        """Return the job as JSON: equal jobs, equal keys."""
        return json.dumps(vars(self), sort_keys=True)

    @classmethod
    def of(cls, key: str) -> "PlanJob":
        """Return the job of a key."""
        fields = json.loads(key)
        return cls(**fields | {"percents": tuple(fields["percents"])})

    def folder(self) -> Path:
        """Return where the work on this row waits, under any settings."""
        return WORK / self.row

    def work_folder(self) -> Path:
        """Return where finished shards wait: another param, input, library or line of code, another folder."""
        libraries = {name: version(name) for name in LIBRARIES}
        code = io.code_hashes(*(STAGES / name for name in CODE))
        return self.folder() / io.fingerprint(self.key(), self._inputs(), code, libraries, torch.__version__)

    def _inputs(self) -> dict[str, Any]:
        """Return what is read beside params: small files by content, weights and images by name and size.

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


def _checkpoint(folder: Path) -> dict[str, str | int]:
    """Return small files of a folder by content, others by size; not what a download leaves in hidden folders."""
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        str(name): io.sha256(path) if path.stat().st_size <= SMALL_BYTES else path.stat().st_size
        for name, path in files.items()
        if not any(part.startswith(".") for part in name.parts)
    }


def _sizes(folder: Path) -> list[tuple[str, int]]:
    entries = os.scandir(folder) if folder.is_dir() else ()
    return sorted((entry.name, entry.stat().st_size) for entry in entries)


@dataclass(frozen=True)
class Loaded:
    """Data set, driver and pruner that a process keeps open, however many shards it plans."""

    scenes: Scenes
    driver: Driver
    pruner: Pruner
    scores: Scores  # by sample token, of a pruner that ranks
    questions: Questions


@lru_cache(maxsize=1)
def load(key: str) -> Loaded:
    """Open data set, driver and pruner of the job with that key, once in a process."""
    job = PlanJob.of(key)
    torch.set_num_threads(job.threads)
    scenes = open_scenes(job.root, job.version)
    questions = open_questions(job.vla, scenes)
    mask_of = None
    if job.masked:
        from stages.masks.mask_set import MaskSet  # here: it needs PIL and pyarrow

        mask_of = MaskSet(MASKS).mask
    options = driver_options(job.vla, job.batch_size, questions.text, mask_of)
    pruner, scores = remembering(pruning.load(job.method, job.options))
    return Loaded(scenes, vla.load(job.vla["name"], options), pruner, scores, questions)


@dataclass(frozen=True)
class ShardPlanner:
    """Plans a shard, if it is not there and whole: a parquet per ratio and, last, a note in JSON."""

    job: PlanJob
    work: Path

    def __call__(self, shard: PlanShard) -> str:
        """Return the name of the shard, which is then finished."""
        if finished(self.work, shard, self.job.percents) is None:
            self._make(shard, load(self.job.key()))
        return shard.name

    def _make(self, shard: PlanShard, loaded: Loaded) -> None:
        began_s, before = time.perf_counter(), loaded.driver.counts()
        with TemporaryDirectory() as folder:
            frame_of = frames_of(self.job.row, loaded.scenes, self.job.split, Path(folder))
            plans = self._planned([frame_of(token) for token in shard.tokens], loaded)
        paths = {percent: part_path(self.work, shard, percent) for percent in self.job.percents}
        for percent, path in paths.items():
            write_plans(path, plans[percent])
        remarks = {
            str(percent): Counter(filter(None, (loaded.driver.remark(plan.answer) for plan in part)))
            for percent, part in plans.items()
        }
        note = {
            "tokens": list(shard.tokens),
            "sha256": {path.name: io.sha256(path) for path in paths.values()},
            "counts": {name: count - before[name] for name, count in loaded.driver.counts().items()},
            "questions": loaded.questions.counts(shard.tokens),
            "remarks": remarks,
            "seconds": time.perf_counter() - began_s,
        }
        io.write_json(_note(self.work, shard), note)

    def _planned(self, frames: Sequence[Frame], loaded: Loaded) -> dict[int, list[Plan]]:
        """Return plans by ratio in the order of `frames`; scores of a ranking lie beside the lowest ratio alone."""
        percents, by_token = self.job.percents, dict[int, dict[str, Plan]]()
        batches = list(loaded.driver.batches(frames))
        for batch in progress(batches, len(batches), f"plan {self.job.row}"):
            for percent, part in loaded.driver.plan(batch, loaded.pruner, percents).items():
                by_token.setdefault(percent, {}).update((plan.token, plan) for plan in part)
        for token, plan in by_token[min(percents)].items():
            by_token[min(percents)][token] = replace(plan, scores=loaded.scores.pop(token, None))
        return {percent: [plans[frame.token] for frame in frames] for percent, plans in by_token.items()}


def part_path(work: Path, shard: PlanShard, percent: int) -> Path:
    """Return the path of a shard's plans at a ratio."""
    return work / f"{shard.name}-{percent}.parquet"


def finished(work: Path, shard: PlanShard, percents: Sequence[int]) -> Mapping[str, Any] | None:
    """Return the note of a whole shard: tokens, sha256, counts, questions, remarks and seconds; None of any other."""
    try:
        note: Mapping[str, Any] = io.read_json(_note(work, shard), "")
    except DataError:  # none, or a damaged one
        return None
    paths = [part_path(work, shard, percent) for percent in percents]
    whole = all(path.is_file() and io.sha256(path) == note["sha256"].get(path.name) for path in paths)
    return note if whole and note["tokens"] == list(shard.tokens) else None


def _note(work: Path, shard: PlanShard) -> Path:
    return work / f"{shard.name}.json"
