"""Score: one row's plans against what was driven -> L2, collisions, intersections with counts and intervals.

Where the truth is known also how much of the foreground a pruner kept, and how well it ranks it.

Inputs: results/plans/<pruner>/<percent>.parquet, scenes.root and, where there is one, scenes.oracle_root.
Outs: results/scores/<pruner>.{json,parquet}, metrics/scores/<pruner>.json.

    python -m stages.score_plans divprune
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages import files, tracking
from stages.command import cell, run
from stages.errors import DataError
from stages.params import Params
from stages.planning import base as planning
from stages.planning.plans import PlannedSample, check_plans, plan_rows
from stages.planning.recalls import token_aucs, token_recalls
from stages.planning.totals import AVERAGES, SAMPLE_COLUMNS, metrics_tree, ratio_row, sample_row
from stages.planning.truths import truth_from_frame
from stages.progress import progress
from stages.scenes.base import Frame
from stages.scenes.layout import MADE_BY
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.scenes.oracle import fitted, read_class_map, read_events

log = logging.getLogger(__name__)
PLANS, SCORES, METRICS = Path("results/plans"), Path("results/scores"), Path("metrics/scores")
Rows = list[dict[str, Any]]


def main(params: Params) -> None:
    """Score every prune ratio of the pruner, control or bound of this matrix cell."""
    grid, mine = params.grid, params.score_plans
    name = cell(grid.names)
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    tokens = scenes.tokens(params.scenes.eval_split)
    percents, kind = grid.ratios_of(name), grid.list_of(name)
    made_by = f"dvc repro plan_{'routes' if kind == 'pruners' else kind}@{name}"
    plans = {percent: _read_plans(f"{name}/{percent}", tokens, made_by) for percent in percents}
    events = _events(params.scenes.oracle_root, tokens)
    samples: dict[int, Rows] = {percent: [] for percent in percents}
    complete: list[str] = []
    with tracking.stage_run("score_plans", params, cell=name) as record:
        for token in progress(tokens, len(tokens), f"score {name}"):
            found = _score(scenes.frame(token), scenes, {p: plans[p][token] for p in percents}, params)
            if found is not None:
                complete.append(token)
                for percent, row in found.items():
                    samples[percent].append({**row, "event": events[token]})
        rows = [
            {
                "method": name,
                "pruned_percent": p,
                **ratio_row(plans[p], complete, samples[p], mine.resamples, mine.seed),
            }
            for p in percents
        ]
        _write(name, rows, samples, params)
        for row in rows:
            record.metrics({f"{key}_{row['pruned_percent']}": row[key] for key in AVERAGES if row[key] is not None})
        record.table("scores", rows)
    log.info("score_plans %s: %s counts %d of %d key frames", name, mine.protocol, len(complete), len(tokens))


def _read_plans(name: str, tokens: Sequence[str], made_by: str) -> dict[str, PlannedSample]:
    path = PLANS / f"{name}.parquet"
    return check_plans(plan_rows(files.read_parquet(path, made_by)), tokens, str(path), made_by)


def _events(oracle_root: str | None, tokens: Sequence[str]) -> Mapping[str, str | None]:
    """What shapes the next 3 s of each key frame, where the truth is known."""
    if oracle_root is None:
        return dict.fromkeys(tokens)
    events = read_events(Path(oracle_root))
    lacking = [token for token in tokens if token not in events]
    if lacking:
        wanted = f"an event for each of the {len(tokens)} key frames in {oracle_root}"
        came = f"none for {len(lacking)} (first: {lacking[0]})"
        raise DataError(wanted=wanted, came=came, then=f"run `{MADE_BY}`")
    return events


def _score(
    frame: Frame, scenes: Scenes, plans: Mapping[int, PlannedSample], params: Params
) -> dict[int, dict[str, Any]] | None:
    """The numbers of one key frame by prune ratio; plans that could not be parsed are left out where params say so.

    None when the protocol does not count the key frame.
    """
    prepare, judge = planning.load_parts(params.score_plans.protocol)
    truth = truth_from_frame(frame, scenes.drivable_mask(frame), scenes.surroundings(frame))
    prepared = prepare(truth)
    if prepared is None:
        return None
    root, driver = params.scenes.oracle_root, params.vla
    classes = fitted(read_class_map(Path(root), frame, "CAM_FRONT"), driver.size_px, driver.fit) if root else None
    aucs = token_aucs(plans[min(plans)], classes)  # the scores lie beside the lowest ratio, and hold for all
    return {
        percent: {
            **sample_row(plan, truth, lambda path_m, _: judge(path_m, prepared)),
            **token_recalls(plan, classes),
            **aucs,
        }
        for percent, plan in plans.items()
        if plan.parsed or params.score_plans.unparsed == "zeros"
    }


def _write(name: str, rows: Rows, samples: Mapping[int, Rows], params: Params) -> None:
    import pyarrow as pa

    table = [{"pruned_percent": percent, **row} for percent, part in samples.items() for row in part]
    schema = pa.schema(list(SAMPLE_COLUMNS.items()))
    files.write_parquet(SCORES / f"{name}.parquet", pa.Table.from_pylist(table, schema=schema))
    mine = params.score_plans
    notes = {"protocol": mine.protocol, "split": params.scenes.eval_split, "unparsed": mine.unparsed}
    files.write_json(SCORES / f"{name}.json", {"method": name, **notes, "rows": rows})
    files.write_json(METRICS / f"{name}.json", metrics_tree(rows))


if __name__ == "__main__":
    run(main)
