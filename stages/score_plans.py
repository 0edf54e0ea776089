"""Score: the plans of every row against what was driven -> L2, collisions, intersections with counts and intervals.

Where the truth is known also how a pruner ranks the foreground. Rows without an image (grid.bounds) are planned here.

Inputs: results/plans/<row>/<percent>.parquet, scenes.root with its map expansion, scenes.oracle_root where there is
one, the blind floor beside vla.checkpoint; a question file where score_plans.samples names one.
Outs: results/scores/<row>.{json,parquet}, results/blind_plans/<row>/0.parquet, metrics/scores.json.

    python -m stages.score_plans
"""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.core import io, tracking
from stages.core.command import run
from stages.core.params import Params
from stages.core.progress import progress
from stages.core.shards import map_shards
from stages.planning.base import KeyFrame, load
from stages.planning.samples import COLUMNS, TOKEN_COLUMNS, departure, list_counts, planned_samples, sample_list
from stages.planning.scoring import AVERAGES, SAMPLE_COLUMNS, Plans, Scores, metrics_tree, ratio_row, score_scene
from stages.planning.truths import key_frames
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla.plans import BOUNDS, blind_plan, plans_path, read_blind_floor, write_plans

log = logging.getLogger(__name__)
SCORES, METRICS = Path("results/scores"), Path("metrics/scores.json")


def main(params: Params) -> None:
    """Score every prune ratio of every row of the grid."""
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    split, options = key_frames(scenes, params.scenes.eval_split), params.score_plans
    departs = departure(options.protocol, options.samples)
    if departs:
        log.warning("%s", departs)
    samples = sample_list(options.samples, options.samples_sha256, split)
    listed = list_counts(samples, split)
    with tracking.stage_run("score_plans", params) as record:
        plan_blind(params, scenes, [frame.token for frame in split])
        plans = read_plans(params, samples, split)
        counted, scored = score(params, split, samples, plans)
        table: list[dict[str, Any]] = []
        for name in params.grid.names:
            rows, columns = [], []
            for percent in params.grid.ratios_of(name):
                cell = name, percent
                row = ratio_row(plans[cell], listed, counted, scored[cell], options.resamples, options.seed)
                rows.append({"method": name, "pruned_percent": percent, **row})
                columns += [{"pruned_percent": percent, **sample} for sample in scored[cell]]
            about = {
                "method": name,
                "protocol": options.protocol,
                "times": getattr(load(options.protocol), "TIMES", ""),
                "split": params.scenes.eval_split,
                "samples": options.samples,
                **listed,
                "not_counted": rows[0]["not_counted"],
                "answers_follow": options.answers_follow,
                "unparsed": options.unparsed,
                "skipped": sum(row["skipped"] for row in rows),
                "departs": departs,
            }
            io.write_json(SCORES / f"{name}.json", {**about, "rows": rows})
            samples_table = pa.Table.from_pylist(columns, schema=pa.schema(list(SAMPLE_COLUMNS.items())))
            io.write_parquet(SCORES / f"{name}.parquet", samples_table)
            table += rows
        trees = {name: metrics_tree([row for row in table if row["method"] == name]) for name in params.grid.names}
        io.write_json(METRICS, trees)
        for row in table:
            named = {key.removesuffix("_avg"): row[key] for key in AVERAGES if row[key] is not None}
            record.metrics({f"{row['method']}/{key}_{row['pruned_percent']}": value for key, value in named.items()})
        record.table("scores", table)
    counts = sum(counted.values()), samples.total(), len(trees)
    log.info("score_plans: %s counts %d of %d samples in %d rows", options.protocol, *counts)


def plan_blind(params: Params, scenes: Scenes, tokens: Sequence[str]) -> None:
    """Write the plans of the rows that look at no image."""
    for name in params.grid.bounds:
        path_of = BOUNDS[name] if name in BOUNDS else read_blind_floor(Path(params.vla.checkpoint))
        write_plans(plans_path(name, 0), [blind_plan(frame, path_of(frame)) for frame in map(scenes.frame, tokens)])


def read_plans(params: Params, samples: Counter[str], split: Sequence[KeyFrame]) -> Plans:
    """Return the plans of every row at every prune ratio, by sample token."""
    columns = (*COLUMNS, *TOKEN_COLUMNS) if params.scenes.oracle_root else COLUMNS
    tokens, plans = [frame.token for frame in split], {}
    for name in params.grid.names:
        made_by = f"dvc repro {params.grid.plan_stage(name)}"
        for percent in params.grid.ratios_of(name):
            path = plans_path(name, percent)
            table = io.read_parquet(path, made_by, columns)
            plans[name, percent] = planned_samples(table, samples, tokens, str(path), made_by)
    return plans


def score(params: Params, split: Sequence[KeyFrame], samples: Counter[str], plans: Plans) -> Scores:
    """Score a scene at a time in worker processes, each with the plans of all rows for it."""
    times: dict[str, dict[str, int]] = {frame.scene: {} for frame in split}
    for frame in split:
        if frame.token in samples:
            times[frame.scene][frame.token] = samples[frame.token]
    parts = [
        (scene, tokens, {cell: {token: part[token] for token in tokens} for cell, part in plans.items()})
        for scene, tokens in times.items()
    ]
    counted, rows = dict[str, int](), {cell: list[dict[str, Any]]() for cell in plans}
    work = map_shards(partial(score_scene, params=params), parts, params.score_plans.workers)
    for tokens, scored in progress(work, len(parts), "scenes scored"):
        counted |= tokens
        for cell, samples_of_scene in scored.items():
            rows[cell] += samples_of_scene
    return counted, rows


if __name__ == "__main__":
    run(main)
