"""The plans of one shard: frames looked up, driven at every ratio, written, and noted last.

A finished shard is not planned again. It waits in a work folder named by a fingerprint of all that shapes it, outside
of DVC's outs (DVC deletes those before it runs a stage). kill -9 loses the shards in work.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from stages.core import io
from stages.core.errors import DataError
from stages.core.progress import progress
from stages.masks.shards import MaskSet
from stages.pruning import base as pruning
from stages.pruning.base import Pruner
from stages.routes.questions import Questions, open_questions
from stages.routes.recipe import MASKS, PlanRecipe, PlanShard
from stages.routes.showing import shown
from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla import base as vla
from stages.vla.base import Driver, Plan, driver_options
from stages.vla.plans import write_plans
from stages.vla.ranking import Scores, remembering


@dataclass(frozen=True)
class Ready:
    """What a process keeps open, however many shards it plans."""

    scenes: Scenes
    driver: Driver
    pruner: Pruner
    scores: Scores  # by sample token, of a pruner that ranks
    questions: Questions


@dataclass(frozen=True)
class ShardPlanner:
    """Plans a shard, if it is not there and whole: a parquet per ratio and, last, a note in JSON."""

    recipe: PlanRecipe
    work: Path

    def __call__(self, shard: PlanShard) -> str:
        """Name of the shard, which is then finished."""
        if finished(self.work, shard, self.recipe.percents) is None:
            self._make(shard, ready(self.recipe.key()))
        return shard.name

    def _make(self, shard: PlanShard, at_hand: Ready) -> None:
        began_s, before = time.perf_counter(), at_hand.driver.counts()
        with TemporaryDirectory() as folder:
            frame_of = shown(self.recipe.row, at_hand.scenes, self.recipe.split, Path(folder))
            plans = self._planned([frame_of(token) for token in shard.tokens], at_hand)
        paths = {percent: part_path(self.work, shard, percent) for percent in self.recipe.percents}
        for percent, path in paths.items():
            write_plans(path, plans[percent])
        remarks = {
            str(percent): Counter(filter(None, (at_hand.driver.remark(plan.answer) for plan in part)))
            for percent, part in plans.items()
        }
        note = {
            "tokens": list(shard.tokens),
            "sha256": {path.name: io.sha256(path) for path in paths.values()},
            "counts": {name: count - before[name] for name, count in at_hand.driver.counts().items()},
            "questions": at_hand.questions.counts(shard.tokens),
            "remarks": remarks,
            "seconds": time.perf_counter() - began_s,
        }
        io.write_json(_note(self.work, shard), note)

    def _planned(self, frames: Sequence[Frame], at_hand: Ready) -> dict[int, list[Plan]]:
        """Plans by ratio in the order of `frames`; the scores of a ranking lie beside the lowest ratio alone."""
        percents, found = self.recipe.percents, dict[int, dict[str, Plan]]()
        batches = list(at_hand.driver.batches(frames))
        for batch in progress(batches, len(batches), f"plan {self.recipe.row}"):
            for percent, part in at_hand.driver.plan(batch, at_hand.pruner, percents).items():
                found.setdefault(percent, {}).update((plan.token, plan) for plan in part)
        for token, plan in found[min(percents)].items():
            found[min(percents)][token] = replace(plan, scores=at_hand.scores.pop(token, None))
        return {percent: [of[frame.token] for frame in frames] for percent, of in found.items()}


@lru_cache(maxsize=1)
def ready(key: str) -> Ready:
    """Driver, pruner and data set of a recipe, once in a process."""
    recipe = PlanRecipe.of(key)
    torch.set_num_threads(recipe.threads)
    scenes = open_scenes(recipe.root, recipe.version)
    questions = open_questions(recipe.vla, scenes)
    mask_of = MaskSet(MASKS).mask if recipe.masked else None
    options = driver_options(recipe.vla, recipe.batch_size, questions.text, mask_of)
    pruner, scores = remembering(pruning.load(recipe.method, recipe.options))
    return Ready(scenes, vla.load(recipe.vla["name"], options), pruner, scores, questions)


def part_path(work: Path, shard: PlanShard, percent: int) -> Path:
    """The plans of a shard at a ratio."""
    return work / f"{shard.name}-{percent}.parquet"


def finished(work: Path, shard: PlanShard, percents: Sequence[int]) -> Mapping[str, Any] | None:
    """What is noted of a whole shard: tokens, sha256, counts, questions, remarks and seconds; None of any other."""
    try:
        note: Mapping[str, Any] = io.read_json(_note(work, shard), "")
    except DataError:  # none, or a damaged one
        return None
    paths = [part_path(work, shard, percent) for percent in percents]
    whole = all(path.is_file() and io.sha256(path) == note["sha256"].get(path.name) for path in paths)
    return note if whole and note["tokens"] == list(shard.tokens) else None


def _note(work: Path, shard: PlanShard) -> Path:
    return work / f"{shard.name}.json"
