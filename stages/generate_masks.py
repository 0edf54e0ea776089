"""Annotate: camera images of both splits -> nuScenes-FG, one foreground mask per image.

Inputs: scenes.root, and scenes.oracle_root where the truth is known. Outs: data/masks, metrics/masks.json.

    python -m stages.generate_masks
"""

import logging
import shutil
from pathlib import Path

from stages import files, tracking
from stages.command import run
from stages.masks import shards, summary
from stages.masks.scene import Recipe, SceneMaker, split_of_scene
from stages.params import Params
from stages.progress import progress
from stages.scaling.map_shards import map_shards

log = logging.getLogger(__name__)
METRICS = Path("metrics/masks.json")


def main(params: Params) -> None:
    """Make the masks of every image of the training and evaluation splits."""
    source, mine = params.scenes, params.generate_masks
    options = params.annotators.get(mine.annotator, {})
    recipe = Recipe(source.root, source.version, mine.annotator, options, mine.images_per_shard, source.oracle_root)
    split_of = split_of_scene(source.root, source.version, (source.train_split, source.eval_split))
    work = recipe.work_folder()
    with tracking.stage_run("generate_masks", params) as record:
        maker = SceneMaker(recipe, work)
        results = list(progress(map_shards(maker, list(split_of), mine.workers), len(split_of), "masks of scenes"))
        rows = [{**row, "split": split_of[row["scene"]]} for result in results for row in result["rows"]]
        shares = summary.share_table(rows)
        agreements = summary.agreement_table([result["overlap"] for result in results], shares)
        files.write_json(METRICS, summary.metrics_tree(shares, agreements))
        notes = {"annotator": mine.annotator, "options": dict(options), "images": len(rows)}
        shards.publish(work, shards.FOLDER, rows, notes)
        record.metrics({f"images_{row['split']}_{row['camera']}": row["images"] for row in shares})
        record.metrics({f"iou_{r['of']}_{r['name']}": r["iou"] for r in agreements if r["iou"] is not None})
        record.table("foreground_share", shares)
        record.table("agreement_with_truth", agreements)
        record.dataset("nuScenes-FG", shards.FOLDER, "training")
    shutil.rmtree(work)
    log.info("generate_masks: %d masks of %d scenes in %s", len(rows), len(split_of), shards.FOLDER)


if __name__ == "__main__":
    run(main)
