"""Score: one row's plans against what was driven -> L2, collisions, intersections with counts and intervals.

Where the truth is known also how much of the foreground a pruner kept, and how well it ranks it.

Inputs: results/plans/<pruner>/<percent>.parquet, data/truths; a question file where score_plans.samples names one.
Outs: results/scores/<pruner>.{json,parquet}, metrics/scores/<pruner>.json.

    python -m stages.score_plans divprune
"""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stages.core import io, tracking
from stages.core.command import cell, run
from stages.core.params import Params
from stages.core.progress import progress
from stages.planning import base as planning
from stages.planning import sample_lists
from stages.planning.plans import COLUMNS, TOKEN_COLUMNS, PlannedSample, check_plans, plan_rows
from stages.planning.question_file import read_questions
from stages.planning.sample_lists import SampleList
from stages.planning.scoring import Scored, Scorer, score_list
from stages.planning.totals import AVERAGES, SAMPLE_COLUMNS, metrics_tree, ratio_row
from stages.planning.truth_store import TruthStore
from stages.scenes.oracle import fitted

log = logging.getLogger(__name__)
PLANS, SCORES, METRICS = Path("results/plans"), Path("results/scores"), Path("metrics/scores")
Rows = list[dict[str, Any]]


def main(params: Params) -> None:
    """Score every prune ratio of the pruner, control or bound of this matrix cell."""
    mine, name = params.score_plans, cell(params.grid.names)
    store = TruthStore(params.scenes.eval_split)
    if store.drawn:
        import torch  # for class maps, which real data has not

        torch.set_num_threads(1)  # pooling one map: threads take longer to meet than to work
    samples = _listed(params, store)
    plans = _read_plans(params, name, samples, store)
    answered = name not in (*params.grid.bounds, "blind_floor")  # by the driver; those follow the IMU
    scorer = Scorer(
        *planning.load_parts(mine.protocol),
        unparsed=mine.unparsed,
        follow=mine.answers_follow if answered else "imu",
        fitted=partial(fitted, size_px=params.vla.size_px, fit=params.vla.fit),
    )
    with tracking.stage_run("score_plans", params, cell=name) as record:
        truths = progress(store.known(), len(store.key_frames), f"score {name}")
        scored = score_list(truths, samples, plans, scorer)
        rows = [
            {
                "method": name,
                "pruned_percent": percent,
                **ratio_row(part, samples, scored.counted, scored.rows[percent], mine.resamples, mine.seed),
            }
            for percent, part in plans.items()
        ]
        _write(name, rows, scored, _notes(params, samples, rows))
        for row in rows:
            record.metrics({f"{key}_{row['pruned_percent']}": row[key] for key in AVERAGES if row[key] is not None})
        record.table("scores", rows)
    counts = sum(scored.counted.values()), samples.listed
    log.info("score_plans %s: %s counts %d of %d samples", name, mine.protocol, *counts)


def _listed(params: Params, store: TruthStore) -> SampleList:
    """The samples to score; a line in the log where the protocol's own code scores others."""
    mine = params.score_plans
    departure = sample_lists.departure(mine.protocol, mine.samples)
    if departure:
        log.warning("%s", departure)
    sample_lists.check_name(mine.samples)
    if mine.samples in sample_lists.NAMED:
        return sample_lists.named_list(mine.samples, store.key_frames)
    questions = read_questions(Path(mine.samples), mine.samples_sha256)
    return sample_lists.question_list(mine.samples, questions, store.key_frames)


def _read_plans(
    params: Params, name: str, samples: SampleList, store: TruthStore
) -> dict[int, dict[str, PlannedSample]]:
    """By prune ratio and sample token."""
    kind, split = params.grid.list_of(name), [frame.token for frame in store.key_frames]
    made_by = f"dvc repro plan_{'routes' if kind == 'pruners' else kind}@{name}"
    columns = (*COLUMNS, *TOKEN_COLUMNS) if store.drawn else COLUMNS
    plans = {}
    for percent in params.grid.ratios_of(name):
        path = PLANS / name / f"{percent}.parquet"
        rows = plan_rows(io.read_parquet(path, made_by, columns))
        plans[percent] = check_plans(rows, samples.times, split, str(path), made_by, columns)
    return plans


def _notes(params: Params, samples: SampleList, rows: Rows) -> dict[str, Any]:
    """Every choice that shapes the numbers, for whoever shows them."""
    mine = params.score_plans
    return {
        "protocol": mine.protocol,
        "times": planning.times(mine.protocol),
        "split": params.scenes.eval_split,
        "samples": mine.samples,
        "listed": samples.listed,
        "repeated": samples.repeated,
        "incomplete": samples.incomplete,
        "not_counted": rows[0]["not_counted"],
        "answers_follow": mine.answers_follow,
        "unparsed": mine.unparsed,
        "skipped": sum(row["skipped"] for row in rows),
        "departs": sample_lists.departure(mine.protocol, mine.samples),
    }


def _write(name: str, rows: Rows, scored: Scored, notes: Mapping[str, Any]) -> None:
    import pyarrow as pa

    table = [{"pruned_percent": percent, **row} for percent, part in scored.rows.items() for row in part]
    schema = pa.schema(list(SAMPLE_COLUMNS.items()))
    io.write_parquet(SCORES / f"{name}.parquet", pa.Table.from_pylist(table, schema=schema))
    io.write_json(SCORES / f"{name}.json", {"method": name, **notes, "rows": rows})
    io.write_json(METRICS / f"{name}.json", metrics_tree(rows))


if __name__ == "__main__":
    run(main)
