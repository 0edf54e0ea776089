"""Prepare: the evaluation split as the protocols want it, once for every pruner and ratio that is scored on it.

The recorded future, boxes in the ego frame and the drivable area of each key frame; its event and the class map of its
front image where the world is drawn.

Inputs: scenes.root with its map expansion and, where there is one, scenes.oracle_root. Out: data/truths.

    python -m stages.prepare_truths
"""

import logging

from stages.core import tracking
from stages.core.command import run
from stages.core.params import Params
from stages.core.progress import progress
from stages.core.shards import map_shards
from stages.planning.scene_truths import SceneTruths, opened
from stages.planning.truth_store import FOLDER, clear, publish

log = logging.getLogger(__name__)


def main(params: Params) -> None:
    """Write a shard for each scene in worker processes, then seal the folder."""
    source = params.scenes
    names = opened(source.root, source.version).split(source.eval_split)
    with tracking.stage_run("prepare_truths", params) as record:
        clear(FOLDER)
        work = SceneTruths(source.root, source.version, source.oracle_root, FOLDER)
        shards = progress(map_shards(work, names, params.prepare_truths.workers), len(names), "scenes prepared")
        key_frames = [frame for shard in shards for frame in shard]
        notes = {"split": source.eval_split, "version": source.version, "drawn": source.oracle_root is not None}
        publish(FOLDER, key_frames, notes)
        complete = sum(frame.complete for frame in key_frames)
        record.metrics({"scenes": len(names), "key_frames": len(key_frames), "complete": complete})
        record.dataset("truths", FOLDER, "evaluation")
    log.info("prepare_truths: %d key frames, %d with a whole future, in %s", len(key_frames), complete, FOLDER)


if __name__ == "__main__":
    run(main)
