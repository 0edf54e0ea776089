"""Tables of driving: Tables 1 to 3, the driver's controls, the oracle bound, events, and how methods rank tokens.

Rows are pure. Differences are paired by sample and resampled by scene: one whose interval includes 0 is noise as far
as these samples can tell. `method - baseline` below 0 is better. A value `x` has its interval as `x_low`, `x_high`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from stages.core.params import Masked, OracleBound, Params
from stages.planning.intervals import paired_difference
from stages.report import paper
from stages.report.inputs import Inputs, Row, Samples
from stages.report.page import GREY_AND_BOLD, Sheet, interval

CONTROLS = ("black_image", "other_image", "blind_floor")  # the image taken away, swapped, never there
UNPRUNED = "none"
MEASURES = {"l2": "L2 avg. (cm)", "collision": "Collision avg. (points)", "intersection": "Intersection avg. (points)"}
RECALLS = {"foreground_recall": "foreground", "object_recall": "objects"}  # columns of the per-sample scores
AUCS = {"foreground_auc": "foreground", "object_auc": "objects"}
BY_SCENE = "95 % intervals by resampling scenes"
MINUS_UNPRUNED = "{0}_minus_none"
Drawn = tuple[int, int]  # resamples and seed of the intervals

METHOD = {"Method": "{method}", "Pruned (%)": "{pruned_percent}"}
TABLE_1 = {
    **METHOD,
    "Tokens": "{tokens_kept} / {tokens_total}",
    **paper.columns(),
    "N": "{n}",
    "Unparsed": "{unparsed}",
}
INTERVALS = {
    **METHOD,
    **{
        f"{paper.TITLES[name]} [95 %] | {s[0]} s": interval(f"{column}_{s}")
        for name, column in paper.METRICS.items()
        for s in paper.HORIZONS
    },
    "N": "{n}",
}
DIFFERENCES_1 = {
    **METHOD,
    "N": "{minus_none_n}",
    **{f"{title} [95 %]": interval(f"{name}_minus_none", "+.2f") for name, title in MEASURES.items()},
}
DIFFERENCES = {
    "Difference": "{method} − {main}",
    "N": "{n}",
    **{f"{title} [95 %]": interval(name, "+.2f") for name, title in MEASURES.items()},
}
METRES = interval("difference_m", "+.2f")
DRIVER = {
    "Plan": "{method}",
    "N": "{n}",
    "L2 (m) [95 %]": interval("l2_m"),
    "/ unpruned": "{ratio:.2f}",
    "Unparsed": "{unparsed}",
}
EVENTS = {
    "Event": "{event}",
    "N": "{n}",
    "Scenes": "{scenes}",
    "L2 (m)": "{none_m:.2f}",
    "other image": "{other_image_m:.2f}",
    "blind floor": "{blind_floor_m:.2f}",
    "driver − blind floor [95 %]": METRES,
}
POOL = {
    "Plan, event or choice": "{name}",
    "N": "{n}",
    "L2 (m) [95 %]": interval("l2_m"),
    "Difference [95 %]": METRES,
    "to": "{to}",
}
ORACLE_BOUND = {**METHOD, "N": "{n}", "L2 (m)": "{l2_m:.2f}", "− unpruned [95 %]": METRES}


def driving(inputs: Inputs, params: Params, papers: bool) -> tuple[list[Row], list[Row], dict[str, Sheet]]:
    """Return every driven row in the order of the page, those of Table 1, and the tables by file name.

    Table 1 leaves out what reads the truth or the masks. `papers`: the setting is the paper's, so that its rows stand
    among ours.
    """
    grid, samples, drawn = params.grid, inputs.samples, (params.score_plans.resamples, params.score_plans.seed)
    every = driving_rows(samples, inputs.scores, params)
    methods = [row for row in every if row["method"] not in set(grid.references) - set(CONTROLS)]
    whole = {cell: recorded(part) for cell, part in samples.items()}
    bounded = {"oracle", "inverse"} <= set(grid.references)
    learned = {name: params.training(name) for name in grid.trained}  # below in the paper's order
    objectives = sorted(learned, key=lambda n: (learned[n].objective == "reconstruction", learned[n].adversarial))
    attentions = ["masked_text_attention", "text_attention", *grid.trained[:1]]
    known = attentions[0] in grid.references and attentions[1] in grid.pruners and grid.trained
    events = {"Event": "{event}", "Method": "{method}", "N": "{n}", "Scenes": "{scenes}"}
    for p in grid.percents:
        events[f"{p} % pruned | L2 (m)"] = f"{{l2_{p}:.2f}}"
        events[f"{p} % pruned | − unpruned [95 %]"] = interval(f"difference_{p}", "+.2f")
    tables = {
        "table1": Sheet(
            "L2, collision and intersection at 1, 2, 3 s and their average; rates with their events. Rel. = 100 x "
            f"unpruned / method, more is better. {GREY_AND_BOLD}",
            paper.beside(methods, paper.table(1) if papers else []),
            TABLE_1,
            MINUS_UNPRUNED,
        ),
        "table1_intervals": Sheet(
            "Table 1 at each time with 95 % intervals: bootstrap over scenes, Wilson's for rates of events.",
            methods,
            INTERVALS,
        ),
        "table1_differences": Sheet(
            f"Method − unpruned on the same frames, {BY_SCENE}; below 0 the method is better. {GREY_AND_BOLD}",
            [row for row in methods if row.get("minus_none_n")],
            DIFFERENCES_1,
        ),
        **(_ablation(2, objectives, inputs, every, params, papers) if len(learned) > 1 else {}),
        **(_ablation(3, attentions, inputs, every, params, papers) if known else {}),
        "driver": Sheet(
            f"The driver beside plans that see no image or another one: mean L2 at 1, 2, 3 s, {BY_SCENE}.",
            driver_rows(every),
            DRIVER,
        ),
        "driver_events": Sheet(
            f"The driver by what shapes the next 3 s. {BY_SCENE}; few scenes make a rough interval.",
            event_rows(whole, drawn),
            EVENTS,
        ),
        "driver_pool": Sheet(
            "The driver on scenes of its own pool that it was not trained on: plans, events, and choices of tokens.",
            pool_rows(inputs.driver),
            POOL,
        ),
        "oracle_bound": Sheet(
            "oracle keeps what the true class map says a driver needs, inverse the reverse: a driver that can tell "
            "choices apart has oracle < random_keep < inverse. masked_text_attention reads the masks. L2 and paired "
            f"difference to the unpruned driver, {BY_SCENE}.",
            bound_rows(whole, params) if bounded else [],
            ORACLE_BOUND,
        ),
        "scenarios": Sheet(
            "L2 by what shapes the next 3 s, minus the unpruned driver's on the same key frames; below 0 is better. "
            f"{BY_SCENE}. {GREY_AND_BOLD}",
            scenario_rows(whole, params),
            events,
        ),
        "ranking": _ranking(every, params),
    }
    return every, methods, {name: sheet for name, sheet in tables.items() if sheet.rows}


def averages(samples: pd.DataFrame, name: str) -> Float[np.ndarray, " N"]:
    """Return Table 1's average of a measure for each sample: cm, or % of its three horizons."""
    column = "l2_m" if name == "l2" else name
    return 100 * samples[[f"{column}_{s}" for s in paper.HORIZONS]].to_numpy(float).mean(axis=1)


_AT_CM = [f"l2_at_cm_{s}" for s in paper.HORIZONS]


def l2_m(samples: pd.DataFrame) -> Float[np.ndarray, " N"]:
    """Return the mean error at 1, 2 and 3 s of each sample."""
    return samples[_AT_CM].to_numpy(float).mean(axis=1) / 100


def recorded(samples: pd.DataFrame) -> pd.DataFrame:
    """Return those with an error at each of 1, 2 and 3 s: a protocol may count frames whose future ends before."""
    return samples.dropna(subset=_AT_CM)


Measures = Mapping[str, Callable[[pd.DataFrame], Float[np.ndarray, " N"]]]
IN_TABLE_1: Measures = {name: partial(averages, name=name) for name in MEASURES}


def difference(method: pd.DataFrame, baseline: pd.DataFrame, drawn: Drawn, of: Measures = IN_TABLE_1) -> Row:
    """Return `method - baseline` of each measure with its interval, over the N samples that both have.

    Table 1's L2 in cm and rates in percentage points. N = 0 alone where they share none; nothing of a measure with an
    unknown value.
    """
    by_token = baseline.drop_duplicates("token", keep="last").set_index("token", drop=False)
    ours = method[method["token"].isin(by_token.index)]
    if ours.empty:
        return {"n": 0}
    row: Row = {"n": len(ours)}
    for name, values in of.items():
        own, other = values(ours), values(by_token.loc[ours["token"]])
        if not np.isnan(own).any():
            found = paired_difference(own, other, list(ours["scene"]), *drawn)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
    return row | {"scenes": ours["scene"].nunique()}


def in_metres(method: pd.DataFrame, baseline: pd.DataFrame, drawn: Drawn) -> Row:
    """Return N, L2 and `method - baseline` in metres with its interval; N = 0 alone where they share no sample."""
    ours = method[method["token"].isin(baseline["token"])]
    l2 = {} if ours.empty else {"l2_m": float(l2_m(ours).mean())}
    return {"n": len(ours)} | l2 | difference(ours, baseline, drawn, {"difference_m": l2_m})


def driving_rows(samples: Samples, scores: Sequence[Row], params: Params) -> list[Row]:
    """Return all rows with Rel. and the paired difference to the unpruned driver.

    Order: controls, the unpruned driver, methods by prune ratio in the order of the grid, bounds.
    """
    drawn = params.score_plans.resamples, params.score_plans.seed
    first = ("method", "pruned_percent", "tokens_kept", "tokens_total", "n", "scenes")

    def place(row: Row) -> tuple[int, int]:
        name = row["method"]
        if name in CONTROLS:
            return 0, CONTROLS.index(name)
        return (2, 0) if name in params.grid.bounds else (1, row["pruned_percent"])

    rows = []
    for row in sorted(paper.with_rel(scores), key=place):
        found: Row = {key: row.get(key) for key in first} | row
        cell = (row["method"], row["pruned_percent"])
        if cell != (UNPRUNED, 0):
            minus = difference(samples[cell], samples[UNPRUNED, 0], drawn)
            found |= {"minus_none_n": minus["n"]}
            for name in MEASURES:
                found |= {f"{name}_minus_none{end}": minus.get(f"{name}{end}") for end in ("", "_low", "_high")}
        rows.append(found)
    return rows


def _ablation(
    number: int, names: Sequence[str], inputs: Inputs, every: Sequence[Row], params: Params, papers: bool
) -> dict[str, Sheet]:
    """Return Table 2 or 3 at 50 % or else the middle ratio, and the difference of its rows to the main pruner."""
    percents, main = params.grid.percents, params.grid.trained[0]
    percent = paper.RATIO_2 if paper.RATIO_2 in percents else percents[len(percents) // 2]
    drawn = params.score_plans.resamples, params.score_plans.seed
    at = {row["method"]: row for row in every if row["pruned_percent"] == percent}
    rows = [row for row in every if row["method"] in (*CONTROLS, UNPRUNED)]
    rows += [at[name] for name in names]
    if number == 2:
        how = {name: params.training(name) for name in names}
        pixels = {name: paper.YES[one.objective == "reconstruction"] for name, one in how.items()}
        facts = {name: {"pixels": pixels[name], "adversarial": paper.YES[one.adversarial]} for name, one in how.items()}
        rows = [row | facts.get(row["method"], {"pixels": None, "adversarial": None}) for row in rows]
    differences = [
        {"method": name, "main": main, "pruned_percent": percent}
        | difference(inputs.samples[name, percent], inputs.samples[main, percent], drawn)
        for name in names
        if name != main
    ]
    title = {2: "What training learns from", 3: "Text attention with and without the true mask"}[number]
    return {
        f"table{number}": Sheet(
            f"{title}, {percent} % pruned. {GREY_AND_BOLD}",
            paper.beside(rows, paper.table(number) if papers else []),
            TABLE_1 if number == 3 else {"Method": "{method}", **paper.LEARNED, **TABLE_1},
            MINUS_UNPRUNED,
        ),
        f"table{number}_differences": Sheet(
            f"Method − {main} on the same frames at {percent} % pruned, {BY_SCENE}; below 0 the method is better. One "
            "training run each: the spread of other seeds is not in the intervals.",
            differences,
            DIFFERENCES,
        ),
    }


def driver_rows(scores: Sequence[Row]) -> list[Row]:
    """Return every row without pruning, with its ratio to the unpruned driver's L2."""
    unpruned_cm = next(row["l2_at_cm_avg"] for row in scores if row["method"] == UNPRUNED)
    rows = []
    for row in (row for row in scores if row["pruned_percent"] == 0):
        found: Row = {key: row[key] for key in ("method", "n", "unparsed")}
        if row["l2_at_cm_avg"] is not None:
            found |= {f"l2_m{end}": row[f"l2_at_cm_avg{end}"] / 100 for end in ("", "_low", "_high")}
            found["ratio"] = row["l2_at_cm_avg"] / unpruned_cm if unpruned_cm else None
        rows.append(found)
    return rows


def event_rows(samples: Samples, drawn: Drawn) -> list[Row]:
    """Return L2 of driver and controls by event, and the driver's difference to the blind floor; `all` first."""
    nothing = samples[UNPRUNED, 0].iloc[:0]
    parts = {name: samples.get((name, 0), nothing) for name in (UNPRUNED, "other_image", "blind_floor")}
    events = sorted(parts[UNPRUNED]["event"].dropna().unique())
    rows = []
    for event in ["all", *events] if events else []:
        seen = {n: part if event == "all" else part[part["event"] == event] for n, part in parts.items()}
        means = {f"{name}_m": None if part.empty else float(l2_m(part).mean()) for name, part in seen.items()}
        better = in_metres(seen[UNPRUNED], seen["blind_floor"], drawn)
        counts = {"n": better["n"] or len(seen[UNPRUNED]), "scenes": seen[UNPRUNED]["scene"].nunique()}
        rows.append({"event": event, **better, **counts, **means})
    return rows


def pool_rows(driver: Row) -> list[Row]:
    """Return the driver's held-out examination (metrics/train_driver.json): plans, events, choices, each best first.

    More scenes than the data set has. A choice is named with its prune ratio: `oracle_50`.
    """
    names = {"n": "n", "l2_m": "l2_m", "l2_m_low": "l2_low", "l2_m_high": "l2_high", "difference_m": "difference_m"}
    names |= {"difference_m_low": "difference_low", "difference_m_high": "difference_high"}
    rows = []
    for part, to in {"sees": None, "events": "blind floor", "pruned": "unpruned"}.items():
        found = sorted(driver.get(part, {}).items(), key=lambda item: item[1]["l2_m"])
        if part == "pruned":
            found.sort(key=lambda item: item[0].rpartition("_")[2])
        rows += [{"name": name, "to": to} | {new: one.get(old) for new, old in names.items()} for name, one in found]
    return rows


def bound_rows(samples: Samples, params: Params) -> list[Row]:
    """Return L2 and difference to the unpruned driver: controls, then oracle, methods and inverse at each ratio."""
    grid, drawn = params.grid, (params.score_plans.resamples, params.score_plans.seed)
    tested = [name for name in grid.methods if name != UNPRUNED]
    masked = [name for name in grid.references if name in get_args(Masked)]
    cells = [(name, 0) for name in CONTROLS if (name, 0) in samples and len(samples[name, 0])]
    cells += [(name, p) for p in grid.percents for name in ("oracle", *masked, *tested, "inverse")]
    unpruned = samples[UNPRUNED, 0]
    return [{"method": n, "pruned_percent": p, **in_metres(samples[n, p], unpruned, drawn)} for n, p in cells]


def scenario_rows(samples: Samples, params: Params) -> list[Row]:
    """Return a row per event and method, ratios as `difference_<percent>`; none where no event is known."""
    grid, drawn = params.grid, (params.score_plans.resamples, params.score_plans.seed)
    unpruned = samples[UNPRUNED, 0]
    rows = []
    for event, theirs in unpruned[unpruned["event"].notna()].groupby("event"):
        about = {"event": event, "scenes": theirs["scene"].nunique(), "n": len(theirs)}
        for name in (name for name in grid.methods if name != UNPRUNED):
            row: Row = {**about, "method": name}
            for percent in grid.percents:
                ours = samples[name, percent]
                found = in_metres(ours[ours["event"] == event], theirs, drawn)
                row[f"l2_{percent}"] = found.get("l2_m")
                row |= {f"difference_{percent}{e}": found.get(f"difference_m{e}") for e in ("", "_low", "_high")}
            rows.append(row)
    return rows


def _ranking(scores: Sequence[Row], params: Params) -> Sheet:
    """Return AUC and kept foreground of each method; without rows where no truth is known."""
    grid = params.grid
    bounds = [name for name in grid.references if name in (*get_args(OracleBound), *get_args(Masked))]
    names = [*(name for name in grid.methods if name != UNPRUNED), *bounds]
    known = any(row.get(name) is not None for row in scores for name in RECALLS)
    columns = {"Method": "{method}", "N": "{n}"}
    columns |= {f"AUC [95 %] | {title}": interval(auc, ".3f") for auc, title in AUCS.items()}
    for p in grid.percents:
        kept = f"kept at {p} % pruned [95 %]"
        columns |= {f"{kept} | {title}": interval(f"{recall}_{p}", ".3f") for recall, title in RECALLS.items()}
    return Sheet(
        "Against the drawn world's truth in the front image. AUC: the chance that a foreground (or object) token "
        f"outscores another; kept: the share of these tokens that is kept. {BY_SCENE}.",
        [ranking_row(name, [row for row in scores if row["method"] == name]) for name in names if known],
        columns,
    )


def ranking_row(name: str, scores: Sequence[Row]) -> Row:
    """Return the AUCs of a method (equal at each ratio) and its recalls as `<recall>_<percent>`, with intervals."""
    lowest = min(scores, key=lambda row: row["pruned_percent"])
    row: Row = {"method": name, "n": lowest["n"]}
    for end in ("", "_low", "_high"):
        row |= {f"{auc}{end}": lowest.get(f"{auc}{end}") for auc in AUCS}
        for at in scores:
            row |= {f"{recall}_{at['pruned_percent']}{end}": at.get(f"{recall}{end}") for recall in RECALLS}
    return row


def summary(rows: Sequence[Row], training: Mapping[str, Any]) -> dict[str, float]:
    """Return what `dvc metrics diff` shows: L2 of the unpruned driver, L2 and AUC of each trained pruner; 4 digits."""
    numbers = {
        f"{row['method']}_{row['pruned_percent']}_l2_cm": row["l2_cm_avg"]
        for row in rows
        if row["method"] in (UNPRUNED, *training)
    }
    numbers |= {f"{name}_auc": metrics["held_out"]["auc"] for name, metrics in training.items()}
    return {name: round(value, 4) for name, value in numbers.items()}
