"""Annotate: camera images of both splits -> nuScenes-FG, one foreground mask per image.

Inputs: scenes.root, and scenes.oracle_root where the truth is known. Outs: data/masks, metrics/masks.json.

    python -m stages.generate_masks                # on this machine or a Ray cluster (generate_masks.engine)
    python -m stages.generate_masks --shard 3/64   # every 64th shard from number 3 on, and end; or --shard slurm

The plain command publishes the set: it makes the shards that are not there, whoever made the others.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from stages.core import io, tracking
from stages.core.array import share_of
from stages.core.command import run
from stages.core.params import GenerateMasks, Params
from stages.core.progress import progress
from stages.core.ray import map_on_ray
from stages.core.shards import map_shards
from stages.core.tracking import Run
from stages.masks import shards, summary
from stages.masks.collecting import collect, keep_only
from stages.masks.placing import check_actors, local_workers
from stages.masks.plan import Shard
from stages.masks.recipe import Recipe
from stages.masks.shard_maker import ShardMaker, annotator_of, finished, planned

log = logging.getLogger(__name__)
METRICS = Path("metrics/masks.json")


def main(params: Params, share: str | None = None) -> None:
    """Make the masks of every image of the training and evaluation splits; with a share, its shards alone."""
    source, mine = params.scenes, params.generate_masks
    options = params.annotators.get(mine.annotator, {})
    recipe = Recipe(source.root, source.version, mine.annotator, options, mine.images_per_shard, source.oracle_root)
    work = recipe.work_folder()
    maker, plan = ShardMaker(recipe, work), planned(recipe, (source.train_split, source.eval_split))
    if share is not None:
        part = share_of(plan, share)
        for _ in progress(map(maker, part), len(part), f"mask shards of share {share}"):
            pass
        log.info("generate_masks: %d of %d shards are in %s", len(part), len(plan), work)
        return
    with tracking.stage_run("generate_masks", params) as record:
        todo = [shard for shard in plan if finished(work, shard) is None]
        for _ in progress(spread(maker, todo, mine), len(plan), "mask shards", start=len(plan) - len(todo)):
            pass
        publish(params, recipe, work, plan, record)


def spread(maker: ShardMaker, todo: Sequence[Shard], mine: GenerateMasks) -> Iterator[str]:
    """Names of shards as they are finished, by whoever is to work. Raises ParamsError for one that cannot."""
    if not todo:
        return iter(())
    annotator = annotator_of(maker.recipe)  # here first: what is wrong with it is told once, before anyone starts
    if mine.engine == "ray":
        check_actors(annotator, mine.ray.gpus_per_actor)
        return map_on_ray(maker, todo, mine.ray)
    return map_shards(maker, todo, local_workers(annotator, mine.workers))


def publish(params: Params, recipe: Recipe, work: Path, plan: Sequence[Shard], record: Run) -> None:
    """Finished shards -> the set and its metrics."""
    found = collect(work, plan)
    shares = summary.share_table(found.index.select(["split", "camera", "foreground_share"]).to_pylist())
    agreements = summary.agreement_table(found.overlaps, shares)
    io.write_json(METRICS, summary.metrics_tree(shares, agreements))
    notes = {"annotator": recipe.annotator, "options": dict(recipe.options), "images": len(found.index)}
    shards.publish(work, shards.FOLDER, found.index, notes)
    keep_only(work)
    record.metrics({f"images_{row['split']}_{row['camera']}": row["images"] for row in shares})
    record.metrics({f"iou_{r['of']}_{r['name']}": r["iou"] for r in agreements if r["iou"] is not None})
    record.metrics({"images_taken": found.taken})
    record.table("foreground_share", shares)
    record.table("agreement_with_truth", agreements)
    record.dataset("nuScenes-FG", shards.FOLDER, "training")
    told = (len(found.index), len(plan), shards.FOLDER, found.taken)
    log.info("generate_masks: %d masks in %d shards in %s; %d of them taken from an earlier set", *told)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.generate_masks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shard", metavar="i/n|slurm", help="work on every n-th shard from i (0 to n - 1) on, and end")
    return parser.parse_args()


if __name__ == "__main__":
    run(partial(main, share=arguments().shard))
