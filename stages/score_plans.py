"""Score: the plans of every row against what was driven -> L2, collisions, intersections with counts and intervals.

Where the truth is known also how much of the foreground a pruner kept, and how well it ranks it. The rows that look at
no image (grid.bounds) are planned here.

Inputs: results/plans/<row>/<percent>.parquet, scenes.root with its map expansion, scenes.oracle_root where there is
one, the blind floor beside vla.checkpoint; a question file where score_plans.samples names one.
Outs: results/scores/<row>.{json,parquet}, results/blind_plans/<row>/0.parquet, metrics/scores.json.

    python -m stages.score_plans
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.core import io, tracking
from stages.core.command import run
from stages.core.params import Params
from stages.core.progress import progress
from stages.core.shards import map_shards
from stages.planning import base as planning
from stages.planning import sample_lists
from stages.planning.base import KeyFrame
from stages.planning.plans import COLUMNS, TOKEN_COLUMNS, PlannedSample, planned_samples
from stages.planning.sample_lists import SampleList
from stages.planning.scoring import (
    AVERAGES,
    SAMPLE_COLUMNS,
    ScenePlans,
    SceneScorer,
    Scores,
    joined,
    metrics_tree,
    ratio_row,
)
from stages.planning.truths import SceneTruths, key_frames
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla.bounds import BOUNDS, plan_bound, read_blind_floor
from stages.vla.plans import plans_path, write_plans

log = logging.getLogger(__name__)
SCORES, METRICS = Path("results/scores"), Path("metrics/scores.json")
Rows = list[dict[str, Any]]


def main(params: Params) -> None:
    """Score every prune ratio of every row of the grid."""
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    split = key_frames(scenes, params.scenes.eval_split)
    samples = listed(params, split)
    with tracking.stage_run("score_plans", params) as record:
        plan_blind(params, scenes, [frame.token for frame in split])
        plans = {row: read_plans(params, row, samples, split) for row in params.grid.names}
        scores = score(params, split, samples, plans)
        table = []
        for name, part in plans.items():
            rows = rows_of(params, name, part, samples, scores)
            write(name, rows, scores, notes(params, samples, rows))
            table += rows
        io.write_json(METRICS, {name: metrics_tree([row for row in table if row["method"] == name]) for name in plans})
        for row in table:
            named = {key.removesuffix("_avg"): row[key] for key in AVERAGES if row[key] is not None}
            record.metrics({f"{row['method']}/{key}_{row['pruned_percent']}": value for key, value in named.items()})
        record.table("scores", table)
    counts = sum(scores.counted.values()), samples.listed
    log.info("score_plans: %s counts %d of %d samples in %d rows", params.score_plans.protocol, *counts, len(plans))


def listed(params: Params, split: Sequence[KeyFrame]) -> SampleList:
    """Return the samples to score; a line in the log where the protocol's own code scores others."""
    options = params.score_plans
    departure = sample_lists.departure(options.protocol, options.samples)
    if departure:
        log.warning("%s", departure)
    sample_lists.check_name(options.samples)
    if options.samples in sample_lists.NAMED:
        return sample_lists.named_list(options.samples, split)
    questions = sample_lists.read_questions(Path(options.samples), options.samples_sha256)
    return sample_lists.question_list(options.samples, questions, split)


def plan_blind(params: Params, scenes: Scenes, tokens: Sequence[str]) -> None:
    """Write the plans of the rows that look at no image."""
    for name in params.grid.bounds:
        plan = partial(plan_bound, name) if name in BOUNDS else read_blind_floor(Path(params.vla.checkpoint)).plan
        write_plans(plans_path(name, 0), [plan(scenes.frame(token)) for token in tokens])


def read_plans(
    params: Params, name: str, samples: SampleList, split: Sequence[KeyFrame]
) -> dict[int, dict[str, PlannedSample]]:
    """Return the plans of a row by prune ratio and sample token."""
    made_by = f"dvc repro {params.grid.plan_stage(name)}"
    columns = (*COLUMNS, *TOKEN_COLUMNS) if params.scenes.oracle_root else COLUMNS
    plans = {}
    for percent in params.grid.ratios_of(name):
        path = plans_path(name, percent)
        table = io.read_parquet(path, made_by, columns)
        plans[percent] = planned_samples(table, samples.times, [f.token for f in split], str(path), made_by)
    return plans


def score(
    params: Params,
    split: Sequence[KeyFrame],
    samples: SampleList,
    plans: Mapping[str, Mapping[int, Mapping[str, PlannedSample]]],
) -> Scores:
    """Score a scene at a time in worker processes, each with the plans of all rows for it."""
    source, options = params.scenes, params.score_plans
    scorer = SceneScorer(
        SceneTruths(source.root, source.version, source.oracle_root),
        options.protocol,
        options.unparsed,
        options.answers_follow,
        frozenset(params.grid.bounds),
        params.vla.size_px,
        params.vla.fit,
    )
    times: dict[str, dict[str, int]] = {frame.scene: {} for frame in split}
    for frame in split:
        if frame.token in samples.times:
            times[frame.scene][frame.token] = samples.times[frame.token]
    parts = [
        ScenePlans(
            scene,
            tokens,
            {
                row: {percent: {token: one[token] for token in tokens} for percent, one in part.items()}
                for row, part in plans.items()
            },
        )
        for scene, tokens in times.items()
    ]
    return joined(list(progress(map_shards(scorer, parts, options.workers), len(parts), "scenes scored")))


def rows_of(
    params: Params,
    name: str,
    plans: Mapping[int, Mapping[str, PlannedSample]],
    samples: SampleList,
    scores: Scores,
) -> Rows:
    """Return the totals of a row of the grid, one for each prune ratio."""
    options = params.score_plans
    return [
        {
            "method": name,
            "pruned_percent": percent,
            **ratio_row(part, samples, scores.counted, scores.rows[name][percent], options.resamples, options.seed),
        }
        for percent, part in plans.items()
    ]


def notes(params: Params, samples: SampleList, rows: Rows) -> dict[str, Any]:
    """Return every choice that shapes the numbers, for whoever shows them."""
    options = params.score_plans
    return {
        "protocol": options.protocol,
        "times": planning.times(options.protocol),
        "split": params.scenes.eval_split,
        "samples": options.samples,
        "listed": samples.listed,
        "repeated": samples.repeated,
        "incomplete": samples.incomplete,
        "not_counted": rows[0]["not_counted"],
        "answers_follow": options.answers_follow,
        "unparsed": options.unparsed,
        "skipped": sum(row["skipped"] for row in rows),
        "departs": sample_lists.departure(options.protocol, options.samples),
    }


def write(name: str, rows: Rows, scores: Scores, about: Mapping[str, Any]) -> None:
    """Write the totals of a row and its samples."""
    table = [{"pruned_percent": percent, **row} for percent, part in scores.rows[name].items() for row in part]
    schema = pa.schema(list(SAMPLE_COLUMNS.items()))
    io.write_parquet(SCORES / f"{name}.parquet", pa.Table.from_pylist(table, schema=schema))
    io.write_json(SCORES / f"{name}.json", {"method": name, **about, "rows": rows})


if __name__ == "__main__":
    run(main)
