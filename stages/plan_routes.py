"""Drive: one pruner, all its prune ratios -> planned waypoints of the evaluation split.

Inputs: scenes.root, vla.checkpoint, the pruner's own weights. Out: results/plans/<pruner>/<percent>.parquet.

    python -m stages.plan_routes divprune
"""

import logging
from itertools import islice
from pathlib import Path

import torch

from stages import tracking
from stages.command import cell, run
from stages.params import Params
from stages.progress import progress
from stages.pruning import base as pruning
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla import base as vla
from stages.vla.base import DriverOptions, Plan
from stages.vla.bounds import BOUNDS, plan_bound
from stages.vla.plans import plans_path, write_plans

log = logging.getLogger(__name__)
CHUNK_FRAMES = 64  # frames held at a time, and one step of the progress display


def main(params: Params) -> None:
    """Plan every key frame of the evaluation split with the pruner, or bound, of this matrix cell."""
    grid = params.grid
    name = cell(grid.pruners + grid.trained + list(grid.bounds))
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    tokens = scenes.tokens(params.scenes.eval_split)
    with tracking.stage_run("plan_routes", params, cell=name) as record:
        plans = _bound(name, scenes, tokens) if name in BOUNDS else _driven(name, params, scenes, tokens)
        for percent, part in plans.items():
            write_plans(plans_path(name, percent), part)
            record.metrics(
                {f"parsed_share_{percent}": sum(p.parsed for p in part) / len(part), f"frames_{percent}": len(part)}
            )
    log.info("plan_routes %s: %d key frames at %s %% pruned", name, len(tokens), sorted(plans))


def _bound(name: str, scenes: Scenes, tokens: list[str]) -> dict[int, list[Plan]]:
    return {0: [plan_bound(name, scenes.frame(token)) for token in tokens]}


def _driven(name: str, params: Params, scenes: Scenes, tokens: list[str]) -> dict[int, list[Plan]]:
    torch.set_num_threads(params.plan_routes.threads)
    pruner = pruning.load(name, params.pruners[name])
    checkpoint, batch_size = Path(params.vla.checkpoint), params.plan_routes.batch_size
    driver = vla.load(params.vla.name, DriverOptions(checkpoint, params.vla.size_px, params.vla.fit, batch_size))
    percents = [0] if name == "none" else list(params.grid.percents)
    plans: dict[int, list[Plan]] = {percent: [] for percent in percents}
    todo = iter(tokens)
    for _ in progress(range(0, len(tokens), CHUNK_FRAMES), -(-len(tokens) // CHUNK_FRAMES), f"plan {name}"):
        frames = [scenes.frame(token) for token in islice(todo, CHUNK_FRAMES)]
        for percent, part in driver.plan(frames, pruner, percents).items():
            plans[percent].extend(part)
    return plans


if __name__ == "__main__":
    run(main)
