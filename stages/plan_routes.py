"""Drive: one pruner, all its prune ratios, a control or a bound -> planned waypoints of the evaluation split.

Inputs: scenes.root, vla.checkpoint, the pruner's own weights (the rulers: scenes.oracle_root, or data/masks).
Out: results/plans/<pruner>/<percent>.parquet, the scores of a pruner that ranks in the file of its lowest ratio.

    python -m stages.plan_routes divprune
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import torch

from stages import tracking
from stages.command import cell, run
from stages.masks.shards import MaskSet
from stages.params import Params
from stages.progress import progress
from stages.pruning import base as pruning
from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.sections import Control, Masked
from stages.vla import base as vla
from stages.vla.base import DriverOptions, Plan
from stages.vla.bounds import BOUNDS, plan_bound, read_blind_floor
from stages.vla.controls import blackened, partners, with_images_of
from stages.vla.plans import plans_path, write_plans
from stages.vla.ranking import remembering

log = logging.getLogger(__name__)
CHUNK_FRAMES = 64  # frames held at a time, and one step of the progress display


def main(params: Params) -> None:
    """Plan every key frame of the evaluation split with the pruner, control or bound of this matrix cell."""
    name = cell(params.grid.names)
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    tokens = scenes.tokens(params.scenes.eval_split)
    with tracking.stage_run("plan_routes", params, cell=name) as record, TemporaryDirectory() as folder:
        plans = _blind(name, params, scenes) or _driven(
            name, params, tokens, _shown(name, params, scenes, Path(folder))
        )
        for percent, part in plans.items():
            write_plans(plans_path(name, percent), part)
            record.metrics(
                {f"parsed_share_{percent}": sum(p.parsed for p in part) / len(part), f"frames_{percent}": len(part)}
            )
    log.info("plan_routes %s: %d key frames at %s %% pruned", name, len(tokens), sorted(plans))


def _blind(name: str, params: Params, scenes: Scenes) -> dict[int, list[Plan]]:
    """Plans that look at no image; none where `name` is a pruner or shows the driver something."""
    plan: Callable[[Frame], Plan]
    if name in BOUNDS:
        plan = partial(plan_bound, name)
    elif name == "blind_floor":
        plan = read_blind_floor(Path(params.vla.checkpoint)).plan
    else:
        return {}
    return {0: [plan(scenes.frame(token)) for token in scenes.tokens(params.scenes.eval_split)]}


def _shown(name: str, params: Params, scenes: Scenes, folder: Path) -> Callable[[str], Frame]:
    """How a key frame is looked up: as recorded, or with the images of a control; black ones lie in `folder`."""
    if name == "black_image":
        return lambda token: blackened(scenes.frame(token), folder)
    if name == "other_image":
        names = scenes.split(params.scenes.eval_split)
        partner = partners({token: scene for scene in names for token in scenes.tokens_of_scene(scene)})
        return lambda token: with_images_of(scenes.frame(token), scenes.frame(partner[token]))
    return scenes.frame


def _driven(name: str, params: Params, tokens: list[str], frame_of: Callable[[str], Frame]) -> dict[int, list[Plan]]:
    torch.set_num_threads(params.plan_routes.threads)
    method = "none" if name in get_args(Control) else name
    pruner, scores = remembering(pruning.load(method, params.pruners[method]))
    checkpoint, batch_size = Path(params.vla.checkpoint), params.plan_routes.batch_size
    mask_of = MaskSet().mask if method in get_args(Masked) else None
    options = DriverOptions(checkpoint, params.vla.size_px, params.vla.fit, batch_size, mask_of)
    driver = vla.load(params.vla.name, options)
    percents = params.grid.ratios_of(name)
    plans: dict[int, list[Plan]] = {percent: [] for percent in percents}
    todo = iter(tokens)
    for _ in progress(range(0, len(tokens), CHUNK_FRAMES), -(-len(tokens) // CHUNK_FRAMES), f"plan {name}"):
        frames = [frame_of(token) for token in islice(todo, CHUNK_FRAMES)]
        for percent, part in driver.plan(frames, pruner, percents).items():
            ranked = percent == min(percents)
            plans[percent].extend([replace(p, scores=scores.pop(p.token, None)) for p in part] if ranked else part)
    return plans


if __name__ == "__main__":
    run(main)
