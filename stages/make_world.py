"""Draw the embedded default's world: a nuScenes data set of simple street scenes, and the truth of it:
the class of every pixel, the event of every key frame.

Inputs: params only. Outs: the folders scenes.root and scenes.oracle_root, each sealed by its manifest.

    python -m stages.make_world
"""

import logging
from collections import Counter
from functools import partial

from stages.core import io, tracking
from stages.core.command import run
from stages.core.params import Params
from stages.core.progress import progress
from stages.core.shards import map_shards
from stages.scenes.layout import EVENTS_FILE
from stages.scenes.world.recording import claim, lay_out, record, scene_names, seal, write_tables
from stages.scenes.world.scenario import CONDITIONS, EVENTS, simulate

log = logging.getLogger(__name__)


def main(params: Params) -> None:
    """Draw every scene in worker processes, write the tables, seal both folders."""
    job, scenes = params.make_world, params.scenes
    root, oracle_root = claim(scenes.root, scenes.oracle_root)
    names = scene_names(job.train_scenes + job.val_scenes)
    splits = {scenes.train_split: names[: job.train_scenes], scenes.eval_split: names[job.train_scenes :]}
    with tracking.stage_run("make_world", params) as note:
        sites = lay_out(names, [simulate(job.seed + i, job.samples_per_scene) for i in range(len(names))])
        draw = partial(record, root=root, oracle_root=oracle_root, size_px=job.size_px)
        for _ in progress(map_shards(draw, sites, job.workers), len(sites), "scenes drawn"):
            pass
        write_tables(root, scenes.version, sites, job.size_px, splits)
        steps = range(job.samples_per_scene)
        events = {site.token("sample", step): site.scenario.event(step) for site in sites for step in steps}
        io.write_json(oracle_root / EVENTS_FILE, events)
        images = seal(root, oracle_root, scenes.version)
        frames, weathers = Counter(events.values()), Counter(site.scenario.condition for site in sites)
        note.metrics({"scenes": len(names), "images": images})
        note.metrics({f"frames_{event}": frames[event] for event in EVENTS})
        note.metrics({f"scenes_{condition}": weathers[condition] for condition in CONDITIONS})
    log.info("make_world: %d scenes, %d images in %s", len(names), images, root)


if __name__ == "__main__":
    run(main)
