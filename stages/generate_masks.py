"""Annotate: camera images of both splits -> nuScenes-FG, one foreground mask per image.

Inputs: scenes.root, and scenes.oracle_root where the truth is known. Outs: data/masks, metrics/masks.json.

    python -m stages.generate_masks                # on this machine or a Ray cluster (generate_masks.engine)
    python -m stages.generate_masks --shard 3/64   # every 64th shard from number 3 on, and end; or --shard slurm

The plain command publishes the set: it makes the shards that are not there, whoever made the others.
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from stages.core import io, tracking
from stages.core.command import run
from stages.core.errors import ParamsError
from stages.core.params import GenerateMasks, Params
from stages.core.progress import progress
from stages.core.shards import map_on_ray, map_shards, share_of
from stages.core.tracking import Run
from stages.masks import agreement, mask_set
from stages.masks.job import Job, Shard, annotator_of, collect, finished, keep_only, make_shard, planned

log = logging.getLogger(__name__)
METRICS = Path("metrics/masks.json")


def main(params: Params, share: str | None = None) -> None:
    """Make the masks of every image of the training and evaluation splits; with a share, its shards alone."""
    source, options = params.scenes, params.generate_masks
    own = params.annotators.get(options.annotator, {})
    job = Job(source.root, source.version, options.annotator, own, options.images_per_shard, source.oracle_root)
    maker, plan = partial(make_shard, job), planned(job, (source.train_split, source.eval_split))
    if share is not None:
        part = share_of(plan, share)
        for _ in progress(map(maker, part), len(part), f"mask shards of share {share}"):
            pass
        log.info("generate_masks: %d of %d shards are in %s", len(part), len(plan), job.work)
        return
    with tracking.stage_run("generate_masks", params) as record:
        todo = [shard for shard in plan if finished(job.work, shard) is None]
        for _ in progress(spread(job, maker, todo, options), len(plan), "mask shards", start=len(plan) - len(todo)):
            pass
        publish(params, job, plan, record)


def spread(job: Job, maker: Callable[[Shard], str], todo: Sequence[Shard], options: GenerateMasks) -> Iterator[str]:
    """Yield names of shards as they are finished, on local processes or Ray."""
    if not todo:
        return iter(())
    gpus = annotator_of(job).gpus  # made here first: its faults are reported once, before anyone starts
    if options.engine == "ray":
        if gpus is not None and not options.ray.gpus_per_actor:
            raise ParamsError(
                expected="a part of a GPU for each actor (generate_masks.ray.gpus_per_actor) of this annotator",
                got="0, with which Ray hides the GPUs and the models would run on the CPU",
                fix="set gpus_per_actor: 1 (0.5: two actors share one), or the annotator's device: cpu",
            )
        return map_on_ray(maker, todo, options.ray)
    workers = options.workers
    if gpus and workers > gpus:  # one process on each GPU
        log.warning("generate_masks.workers: %d of %d, because %d GPUs are here", gpus, workers, gpus)
        workers = gpus
    return map_shards(maker, todo, workers)


def publish(params: Params, job: Job, plan: Sequence[Shard], record: Run) -> None:
    """Finished shards -> the set and its metrics."""
    index, overlaps, taken = collect(job.work, plan)
    shares = agreement.share_table(index.select(["split", "camera", "foreground_share"]).to_pylist())
    agreements = agreement.agreement_table(overlaps, shares)
    io.write_json(METRICS, agreement.metrics_tree(shares, agreements))
    notes = {"annotator": job.annotator, "options": dict(job.options), "images": len(index)}
    mask_set.publish(job.work, mask_set.FOLDER, index, notes)
    keep_only(job.work)
    record.metrics({f"images_{row['split']}_{row['camera']}": row["images"] for row in shares})
    record.metrics({f"iou_{r['of']}_{r['name']}": r["iou"] for r in agreements if r["iou"] is not None})
    record.metrics({"images_taken": taken})
    record.table("foreground_share", shares)
    record.table("agreement_with_truth", agreements)
    record.dataset("nuScenes-FG", mask_set.FOLDER, "training")
    counts = (len(index), len(plan), mask_set.FOLDER, taken)
    log.info("generate_masks: %d masks in %d shards in %s; %d of them taken from an earlier set", *counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.generate_masks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shard", metavar="i/n|slurm", help="work on every n-th shard from i (0 to n - 1) on, and end")
    run(partial(main, share=parser.parse_args().shard))
