"""Drive: one pruner, all its prune ratios, a control or a bound -> planned waypoints of the evaluation split.

Inputs: scenes.root, vla.checkpoint, vla.questions, the pruner's own weights (the rulers: scenes.oracle_root, or
data/masks). Outs: results/plans/<row>/<percent>.parquet, the scores of a pruner that ranks in the file of its lowest
ratio; results/throughput/<row>.json, measured (not of a bound).

    python -m stages.plan_routes divprune                # on this machine or a Ray cluster (plan_routes.engine)
    python -m stages.plan_routes divprune --shard 3/64   # every 64th shard from number 3 on, and end; or --shard slurm
"""

import argparse
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from stages.core import io, tracking
from stages.core.array import share_of
from stages.core.command import cell, run
from stages.core.params import Control, Masked, Params, PlanRoutes
from stages.core.progress import progress
from stages.core.ray import map_on_ray
from stages.core.shards import map_shards
from stages.core.tracking import Run
from stages.routes.questions import FROM_FILE
from stages.routes.recipe import PlanRecipe, PlanShard, plan_shards
from stages.routes.shard_planner import ShardPlanner, finished, part_path
from stages.routes.throughput import throughput, throughput_path
from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla.base import Plan
from stages.vla.bounds import BOUNDS, plan_bound, read_blind_floor
from stages.vla.plans import join_plans, plans_path, write_plans
from stages.vla.question_file import read_questions

log = logging.getLogger(__name__)


def main(params: Params, share: str | None = None) -> None:
    """Plan every key frame of the evaluation split for the row of this matrix cell; with a share, its shards alone."""
    name = cell(params.grid.names)
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    plan_blind = _blind(name, params)
    if plan_blind is not None:
        with tracking.stage_run("plan_routes", params, cell=name) as record:
            _write_blind(name, [plan_blind(scenes.frame(t)) for t in scenes.tokens(params.scenes.eval_split)], record)
        return
    recipe = recipe_of(name, params)
    work = recipe.work_folder()
    maker, shards = ShardPlanner(recipe, work), plan_shards(_tokens_of(scenes, recipe.split), recipe.scenes_per_shard)
    if share is not None:
        part = share_of(shards, share)
        for _ in progress(map(maker, part), len(part), f"shards of {name} in share {share}"):
            pass
        log.info("plan_routes %s: %d of %d shards are in %s", name, len(part), len(shards), work)
        return
    with tracking.stage_run("plan_routes", params, cell=name) as record:
        todo = [shard for shard in shards if finished(work, shard, recipe.percents) is None]
        done = spread(maker, todo, params.plan_routes)
        for _ in progress(done, len(shards), f"shards of {name}", start=len(shards) - len(todo)):
            pass
        publish(recipe, work, shards, params.plan_routes, record)


def recipe_of(name: str, params: Params) -> PlanRecipe:
    """All that shapes the plans of a row; a control drives unpruned."""
    method, source, mine = "none" if name in get_args(Control) else name, params.scenes, params.plan_routes
    return PlanRecipe(
        name,
        method,
        params.pruners[method],
        tuple(params.grid.ratios_of(name)),
        source.root,
        source.version,
        source.eval_split,
        params.vla.model_dump(mode="json"),
        mine.batch_size,
        mine.threads,
        mine.scenes_per_shard,
        method in get_args(Masked),
    )


def _tokens_of(scenes: Scenes, split: str) -> Iterator[tuple[str, list[str]]]:
    return ((scene, scenes.tokens_of_scene(scene)) for scene in scenes.split(split))


def spread(maker: Callable[[PlanShard], str], todo: Sequence[PlanShard], mine: PlanRoutes) -> Iterator[str]:
    """Names of shards as they are finished, by whoever is to work."""
    if mine.engine == "ray" and todo:
        return map_on_ray(maker, todo, mine.ray)
    return map_shards(maker, todo, mine.workers if todo else 1)


def publish(recipe: PlanRecipe, work: Path, shards: Sequence[PlanShard], mine: PlanRoutes, record: Run) -> None:
    """Finished shards -> the plans of the row and how fast they were made; then the work folders of the row go."""
    made_by = f"python -m stages.plan_routes {recipe.row}"
    for percent in recipe.percents:
        table = join_plans([part_path(work, s, percent) for s in shards], plans_path(recipe.row, percent), made_by)
        parsed = sum(table["parsed"].to_pylist())
        record.metrics({f"parsed_share_{percent}": parsed / len(table), f"frames_{percent}": len(table)})
    notes = [note for shard in shards if (note := finished(work, shard, recipe.percents)) is not None]
    workers = mine.ray.actors if mine.engine == "ray" else mine.workers
    pace = throughput(notes, len(recipe.percents), min(workers, len(shards)))
    if pace["questions"] and recipe.vla["questions"]:
        asked = read_questions(Path(recipe.vla["questions"]), recipe.vla["questions_sha256"]).text_of
        pace["questions"]["of_other_images"] = len(asked) - pace["questions"][FROM_FILE]
    io.write_json(throughput_path(recipe.row), {"row": recipe.row, "driver": recipe.vla["name"], **pace})
    record.metrics({"samples_per_s": pace["samples_per_s"], "full_run_hours_projected": pace["full_run"]["hours"]})
    shutil.rmtree(recipe.folder())
    log.info(
        "plan_routes %s: %d key frames at %s %% pruned, %.2f samples/s a worker; %s samples in %s cells would take "
        "%.1f h with %d at this pace (projected)",
        *(recipe.row, pace["samples"], list(recipe.percents), pace["samples_per_s"]),
        *(pace["full_run"][key] for key in ("samples", "cells", "hours", "workers")),
    )


def _blind(name: str, params: Params) -> Callable[[Frame], Plan] | None:
    """How a row plans that looks at no image; None where `name` is a pruner or shows the driver something."""
    if name in BOUNDS:
        return partial(plan_bound, name)
    return read_blind_floor(Path(params.vla.checkpoint)).plan if name == "blind_floor" else None


def _write_blind(name: str, plans: Sequence[Plan], record: Run) -> None:
    write_plans(plans_path(name, 0), plans)
    if name not in BOUNDS:  # DVC wants of each reference what a driver's rows have
        io.write_json(throughput_path(name), {"row": name, "driver": None, "samples": len(plans)})
    record.metrics({"parsed_share_0": sum(plan.parsed for plan in plans) / len(plans), "frames_0": len(plans)})
    log.info("plan_routes %s: %d key frames without an image", name, len(plans))


def arguments() -> argparse.Namespace:
    """The command line; the row is read by `cell`."""
    parser = argparse.ArgumentParser(prog="python -m stages.plan_routes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("row", nargs="?", help="of the grid; without it the cell of DVC_STAGE")
    parser.add_argument("--shard", metavar="i/n|slurm", help="work on every n-th shard from i (0 to n - 1) on, and end")
    return parser.parse_args()


if __name__ == "__main__":
    run(partial(main, share=arguments().shard))
