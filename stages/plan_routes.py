"""Drive: one pruner at all its prune ratios, or a control -> planned waypoints of the evaluation split.

Inputs: scenes.root, vla.checkpoint, vla.questions, the pruner's own weights (the oracles: scenes.oracle_root, or
data/masks). Outs: results/plans/<row>/<percent>.parquet (grid.references: results/reference_plans), the scores of a
pruner that ranks in the file of its lowest ratio; results/throughput/<row>.json, measured.

    python -m stages.plan_routes divprune                # on this machine or a Ray cluster (plan_routes.engine)
    python -m stages.plan_routes references              # the rows of grid.references, one after another
    python -m stages.plan_routes divprune --shard 3/64   # every 64th shard from number 3 on, and end; or --shard slurm
"""

import argparse
import logging
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, get_args

from stages.core import io, tracking
from stages.core.command import cell, run
from stages.core.params import Control, Masked, Params, PlanRoutes
from stages.core.progress import progress
from stages.core.shards import map_on_ray, map_shards, share_of
from stages.core.tracking import Run
from stages.vla.plan_job import PlanJob, PlanShard, plan_shards, scenes_of
from stages.vla.plans import join_plans, pace_path, plans_path

log = logging.getLogger(__name__)
FULL_SAMPLES, FULL_CELLS = 6019, 16  # nuScenes' val key frames; rows times ratios of Table 1


def main(params: Params, share: str | None = None) -> None:
    """Plan every key frame of the evaluation split for the row of this matrix cell; with a share, its shards alone."""
    name = cell([*(row for row in params.grid.names if row not in params.grid.bounds), "references"])
    for row in params.grid.references if name == "references" else [name]:
        plan_row(row, params, share)


def plan_row(name: str, params: Params, share: str | None) -> None:
    """Plan a row, or its shards of a share."""
    job, options = job_of(name, params), params.plan_routes
    scenes = scenes_of(job.root, job.version)
    shards = plan_shards(map(scenes.tokens_of_scene, scenes.split(job.split)), job.scenes_per_shard)
    if share is not None:
        part = share_of(shards, share)
        for _ in progress(map(job.plan, part), len(part), f"shards of {name} in share {share}"):
            pass
        log.info("plan_routes %s: %d of %d shards are in %s", name, len(part), len(shards), job.work)
        return
    with tracking.stage_run("plan_routes", params, cell=name) as record:
        todo = [shard for shard in shards if job.finished(shard) is None]
        if options.engine == "ray" and todo:
            done = map_on_ray(job.plan, todo, options.ray)
        else:
            done = map_shards(job.plan, todo, options.workers if todo else 1)
        for _ in progress(done, len(shards), f"shards of {name}", start=len(shards) - len(todo)):
            pass
        publish(job, shards, options, record)


def job_of(name: str, params: Params) -> PlanJob:
    """Return all that shapes the plans of a row; a control drives unpruned."""
    method, source, options = "none" if name in get_args(Control) else name, params.scenes, params.plan_routes
    return PlanJob(
        name,
        method,
        params.pruners[method],
        tuple(params.grid.ratios_of(name)),
        source.root,
        source.version,
        source.eval_split,
        params.vla.model_dump(mode="json"),
        options.batch_size,
        options.threads,
        options.scenes_per_shard,
        method in get_args(Masked),
    )


def publish(job: PlanJob, shards: Sequence[PlanShard], options: PlanRoutes, record: Run) -> None:
    """Join finished shards to the plans of the row, write how fast they were made, and remove the work folders."""
    for percent in job.percents:
        parts = [job.part(shard, percent) for shard in shards]
        table = join_plans(parts, plans_path(job.row, percent), f"python -m stages.plan_routes {job.row}")
        parsed = sum(table["parsed"].to_pylist())
        record.metrics({f"parsed_share_{percent}": parsed / len(table), f"frames_{percent}": len(table)})
    notes = [note for shard in shards if (note := job.finished(shard)) is not None]
    workers = options.ray.actors if options.engine == "ray" else options.workers
    pace = throughput(notes, len(job.percents), min(workers, len(shards)))
    io.write_json(pace_path(job.row), {"row": job.row, "driver": job.vla["name"], **pace})
    record.metrics({"samples_per_s": pace["samples_per_s"], "full_run_hours_projected": pace["full_run"]["hours"]})
    shutil.rmtree(job.work.parent)
    log.info(
        "plan_routes %s: %d key frames at %s %% pruned, %.2f samples/s a worker; %s samples in %s cells would take "
        "%.1f h with %d at this pace (projected)",
        *(job.row, pace["samples"], list(job.percents), pace["samples_per_s"]),
        *(pace["full_run"][key] for key in ("samples", "cells", "hours", "workers")),
    )


def throughput(notes: Sequence[Mapping[str, Any]], ratios: int, workers: int) -> dict[str, Any]:
    """Return counts and pace of a row from the notes of its shards, planned at so many ratios by so many workers.

    `seconds` are those of the shards added up, so a resumed run and one with more workers say the same, but for what
    workers on one machine take from each other. Loading the driver is left out. `full_run` is projected, not measured.
    """
    samples = sum(len(note["tokens"]) for note in notes)
    seconds = sum(float(note["seconds"]) for note in notes)
    counts, questions, remarks = Counter[str](), Counter[str](), defaultdict[str, Counter[str]](Counter)
    for note in notes:
        counts.update(note["counts"])
        questions.update(note["questions"])
        for percent, part in note["remarks"].items():
            remarks[percent].update(part)
    answers_per_s = samples * ratios / seconds
    hours = FULL_SAMPLES * FULL_CELLS / answers_per_s / workers / 3600
    full_run = {"projected": True, "samples": FULL_SAMPLES, "cells": FULL_CELLS, "workers": workers, "hours": hours}
    pace = {"seconds": seconds, "samples_per_s": samples / seconds, "answers_per_s": answers_per_s}
    counted = {"samples": samples, "ratios": ratios, "shards": len(notes), "workers": workers, **counts}
    return counted | {"questions": questions, "remarks": remarks} | pace | {"full_run": full_run}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.plan_routes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("row", nargs="?", help="of the grid; without it the cell of DVC_STAGE")
    parser.add_argument("--shard", metavar="i/n|slurm", help="work on every n-th shard from i (0 to n - 1) on, and end")
    run(partial(main, share=parser.parse_args().shard))
