"""Tables of driving: Tables 1 to 3, the driver's controls, the oracle bound, events, and how methods rank tokens.

Rows are pure. Differences are paired by sample and resampled by scene: one whose interval includes 0 is noise as far
as these samples can tell. `method - baseline` below 0 is better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from stages.core.params import Masked, OracleBound, Params
from stages.planning.intervals import paired_difference
from stages.planning.tables import fields
from stages.report import paper
from stages.report.inputs import Inputs, Row, Samples
from stages.report.tables import GREY_AND_BOLD, Sheet

CONTROLS = ("black_image", "other_image", "blind_floor")  # the image taken away, swapped, never there
UNPRUNED = "none"
MASKED, ATTENTION = "masked_text_attention", "text_attention"
ORDER = ("oracle", "random_keep", "inverse")  # best first, if the driver can tell them apart
MEASURES = ("l2", "collision", "intersection")
RECALLS = ("foreground_recall", "object_recall")  # columns of the per-sample scores
AUCS = ("foreground_auc", "object_auc")
BY_SCENE = "95 % intervals by resampling scenes"

_TRAINED_FOR = {"Pixel rec.": "{pixels}", "Adv.": "{adversarial}"}
_INTERVAL = "{{{0}:.2f}} [{{{0}_low:.2f}}, {{{0}_high:.2f}}]"
_RATE = "{{{0}_pct_{1}:.2f}} ({{{0}_events_{1}}})"
TABLE_1 = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Tokens": "{tokens_kept} / {tokens_total}",
    **{
        f"{paper.TITLES[name]} | {what}": form
        for name, column in paper.METRICS.items()
        for what, form in (
            *(
                (f"{s[0]} s", f"{{{column}_{s}:.2f}}" if name == "l2" else _RATE.format(name, s))
                for s in paper.HORIZONS
            ),
            ("avg. [95 %]", _INTERVAL.format(f"{column}_avg")),
            ("rel.", f"{{{name}_rel:.1f}}{{rel_mark}}"),
        )
    },
    "N": "{n}",
    "Unparsed": "{unparsed}",
}
INTERVALS = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    **{
        f"{paper.TITLES[name]} [95 %] | {s[0]} s": _INTERVAL.format(f"{column}_{s}")
        for name, column in paper.METRICS.items()
        for s in paper.HORIZONS
    },
    "N": "{n}",
}


def _minus(form: str) -> dict[str, str]:
    titles = ("L2 avg. (cm) [95 %]", "Collision avg. (points) [95 %]", "Intersection avg. (points) [95 %]")
    cell = "{{{0}:+.2f}} [{{{0}_low:+.2f}}, {{{0}_high:+.2f}}]"
    return {title: cell.format(form.format(name)) for title, name in zip(titles, MEASURES, strict=True)}


MINUS_UNPRUNED = "{0}_minus_none"
DIFFERENCES_1 = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "N": "{minus_none_n}",
    **_minus(MINUS_UNPRUNED),
}
DIFFERENCES = {"Difference": "{method} − {main}", "N": "{n}", **_minus("{0}")}
_METRES = "{difference_m:+.2f} [{difference_low:+.2f}, {difference_high:+.2f}]"
DRIVER = {
    "Plan": "{method}",
    "N": "{n}",
    "L2 (m) [95 %]": "{l2_m:.2f} [{l2_low:.2f}, {l2_high:.2f}]",
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
    "driver − blind floor [95 %]": _METRES,
}
ORACLE_BOUND = {
    "Keeps": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "N": "{n}",
    "L2 (m)": "{l2_m:.2f}",
    "− unpruned [95 %]": _METRES,
}
POOL = {"Plan": "{name}", "N": "{n}", "L2 (m) [95 %]": "{l2_m:.2f} [{l2_low:.2f}, {l2_high:.2f}]"}
POOL_EVENTS = {"Event": "{name}", "N": "{n}", "L2 (m)": "{l2_m:.2f}", "driver − blind floor [95 %]": _METRES}
POOL_PRUNED = {
    "Keeps": "{name}",
    "Pruned (%)": "{pruned_percent}",
    "N": "{n}",
    "L2 (m)": "{l2_m:.2f}",
    "− unpruned [95 %]": _METRES,
}
RECALL = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Tokens": "{tokens_kept} / {tokens_total}",
    "N": "{n}",
    "Foreground kept [95 %]": "{foreground_recall:.3f} [{foreground_recall_low:.3f}, {foreground_recall_high:.3f}]",
    "Objects kept [95 %]": "{object_recall:.3f} [{object_recall_low:.3f}, {object_recall_high:.3f}]",
}


@dataclass(frozen=True)
class Driving:
    """Every driven row in the order of the page, and the tables by file name."""

    every: list[Row]
    methods: list[Row]  # rows of Table 1: without those that read the truth or the masks
    order: list[Row]  # L2 of oracle, random_keep and inverse by ratio
    tables: dict[str, Sheet]


def driving(inputs: Inputs, params: Params, papers: bool) -> Driving:
    """Compute all of it. `papers`: the setting is the paper's, so that its rows stand among ours."""
    grid, samples, drawn = params.grid, inputs.samples, (params.score_plans.resamples, params.score_plans.seed)
    every = driving_rows(samples, inputs.scores, params)
    methods = [row for row in every if row["method"] not in set(grid.references) - set(CONTROLS)]
    recorded_samples = {cell: recorded(part) for cell, part in samples.items()}
    bounded = {"oracle", "inverse"} <= set(grid.references)
    tables = {
        "table1": Sheet(
            "L2, collision and intersection at 1, 2, 3 s and their average; rates with their events. Rel. = 100 x "
            "unpruned / method, more is better. " + GREY_AND_BOLD,
            paper.beside(methods, paper.table(1) if papers else []),
            TABLE_1,
            MINUS_UNPRUNED,
        ),
        "table1_intervals": Sheet(
            "Table 1 at each time with 95 % intervals: bootstrap over scenes, Wilson's for rates of events.",
            [{key: row.get(key) for form in INTERVALS.values() for key in fields(form)} for row in methods],
            INTERVALS,
        ),
        "table1_differences": Sheet(
            f"Method − unpruned on the same frames, {BY_SCENE}; below 0 the method is better. {GREY_AND_BOLD}",
            [row for row in methods if row.get("minus_none_n")],
            DIFFERENCES_1,
        ),
        **_ablation(2, _objectives(params), inputs, every, params, papers),
        **_ablation(3, _attentions(params), inputs, every, params, papers),
        "driver": Sheet(
            f"The driver beside plans that see no image or another one: mean L2 at 1, 2, 3 s, {BY_SCENE}.",
            driver_rows(every),
            DRIVER,
        ),
        "driver_events": Sheet(
            f"The driver by what shapes the next 3 s. {BY_SCENE}; few scenes make a rough interval.",
            event_rows(recorded_samples, *drawn),
            EVENTS,
        ),
        "driver_pool": Sheet(
            "The driver on scenes of its own pool that it was not trained on.", pool_rows(inputs.driver, "sees"), POOL
        ),
        "driver_pool_events": Sheet(
            "The same by event.",
            pool_rows(inputs.driver, "events"),
            POOL_EVENTS,
        ),
        "oracle_bound": Sheet(
            "oracle keeps what the true class map says a driver needs, inverse the reverse; masked_text_attention "
            f"reads the masks. L2 and paired difference to the unpruned driver, {BY_SCENE}.",
            bound_rows(recorded_samples, params) if bounded else [],
            ORACLE_BOUND,
        ),
        "oracle_bound_pool": Sheet(
            "The same on scenes of the driver's own pool.", pool_rows(inputs.driver, "pruned"), POOL_PRUNED
        ),
        "scenarios": Sheet(
            "L2 by what shapes the next 3 s, minus the unpruned driver's on the same key frames; below 0 is better. "
            f"{BY_SCENE}. {GREY_AND_BOLD}",
            scenario_rows(recorded_samples, params),
            scenario_columns(grid.percents),
        ),
        **_ranking(samples, every, params),
        "recall": Sheet(
            f"Share of the true foreground and object tokens that is kept, {BY_SCENE}.",
            [row for row in methods if row.get("foreground_recall") is not None],
            RECALL,
        ),
    }
    order = order_rows(recorded_samples, grid.percents, *drawn) if bounded else []
    return Driving(every, methods, order, {name: sheet for name, sheet in tables.items() if sheet.rows})


# Paired differences.


def shared(method: pd.DataFrame, baseline: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the samples that both have, in the order of `method`."""
    by_token = baseline.drop_duplicates("token", keep="last").set_index("token", drop=False)
    ours = method[method["token"].isin(by_token.index)]
    return ours, by_token.loc[ours["token"]]


def difference(method: pd.DataFrame, baseline: pd.DataFrame, resamples: int, seed: int) -> Row:
    """Return `method - baseline` of each measure with its interval, over the samples that both have.

    L2 in cm and rates in percentage points, averaged over 1, 2, 3 s as in Table 1. `<measure>_same`: all samples are
    equal. N = 0 alone where they share none.
    """
    ours, theirs = shared(method, baseline)
    row: Row = {"n": len(ours)}
    for name in MEASURES if len(ours) else ():
        mine, other = averages(ours, name), averages(theirs, name)
        if np.isnan(mine).any():  # the protocol knows no such rate
            continue
        mean, low, high = paired_difference(mine, other, ours["scene"].tolist(), resamples, seed)
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_same": bool((mine == other).all())}
    return row


def averages(samples: pd.DataFrame, name: str) -> Float[np.ndarray, " N"]:
    """Return Table 1's average of a measure for each sample: cm, or % of its three horizons."""
    column = "l2_m" if name == "l2" else name
    return 100 * samples[[f"{column}_{s}" for s in paper.HORIZONS]].to_numpy(float).mean(axis=1)


def l2_m(samples: pd.DataFrame) -> Float[np.ndarray, " N"]:
    """Return the mean error at 1, 2 and 3 s of each sample."""
    return samples[_AT_CM].to_numpy(float).mean(axis=1) / 100


_AT_CM = [f"l2_at_cm_{s}" for s in paper.HORIZONS]


def recorded(samples: pd.DataFrame) -> pd.DataFrame:
    """Return those with an error at each of 1, 2 and 3 s: a protocol may count frames whose future ends before."""
    return samples.dropna(subset=_AT_CM)


def paired(method: pd.DataFrame, baseline: pd.DataFrame, resamples: int, seed: int) -> Row:
    """Return N, L2 and `method - baseline` in metres with its interval; N = 0 alone where they share no sample."""
    ours, theirs = shared(method, baseline)
    if ours.empty:
        return {"n": 0}
    errors_m = l2_m(ours)
    ends = paired_difference(errors_m, l2_m(theirs), ours["scene"].tolist(), resamples, seed)
    names = ("difference_m", "difference_low", "difference_high")
    return {"n": len(ours), "l2_m": float(errors_m.mean()), **dict(zip(names, ends, strict=True))}


# Tables 1 to 3.


def driving_rows(samples: Samples, scores: Sequence[Row], params: Params) -> list[Row]:
    """Return all rows with Rel. and the paired difference to the unpruned driver.

    Order: controls, the unpruned driver, methods by prune ratio in the order of the grid, bounds.
    """
    drawn = params.score_plans.resamples, params.score_plans.seed
    first = ("method", "pruned_percent", "tokens_kept", "tokens_total", "n", "scenes")
    rows = []
    for row in sorted(paper.with_rel(scores), key=lambda row: _place(row, params)):
        found: Row = {key: row.get(key) for key in first} | row
        cell = (row["method"], row["pruned_percent"])
        if cell != (UNPRUNED, 0):
            minus = difference(samples[cell], samples[UNPRUNED, 0], *drawn)
            found |= {"minus_none_n": minus["n"]}
            for name in MEASURES:
                found |= {f"{name}_minus_none{end}": minus.get(f"{name}{end}") for end in ("", "_low", "_high")}
        rows.append(found)
    return rows


def _place(row: Row, params: Params) -> tuple[int, int]:
    name = row["method"]
    if name in CONTROLS:
        return 0, CONTROLS.index(name)
    return (2, 0) if name in params.grid.bounds else (1, row["pruned_percent"])


def controls_first(rows: Sequence[Row]) -> list[Row]:
    """Return the controls that there are, then the unpruned driver."""
    return [r for name in (*CONTROLS, UNPRUNED) for r in rows if r["method"] == name and not r.get("pruned_percent")]


def _objectives(params: Params) -> list[str]:
    """Return the rows of Table 2 in the paper's order: mask prediction, then reconstruction without and with Adv."""
    learned = {name: params.training(name) for name in params.grid.trained}
    key = {name: (how.objective == "reconstruction", how.adversarial) for name, how in learned.items()}
    return sorted(learned, key=key.__getitem__) if len(learned) > 1 else []


def _attentions(params: Params) -> list[str]:
    """Return the rows of Table 3: text attention with and without the true mask, and the main pruner."""
    grid = params.grid
    complete = MASKED in grid.references and ATTENTION in grid.pruners and grid.trained
    return [MASKED, ATTENTION, grid.trained[0]] if complete else []


def _ablation(
    number: int, names: Sequence[str], inputs: Inputs, every: Sequence[Row], params: Params, papers: bool
) -> dict[str, Sheet]:
    """Return Table 2 or 3 at one prune ratio, and the difference of its rows to the main pruner."""
    if not names:
        return {}
    percent, main, drawn = compared_at(params.grid.percents), params.grid.trained[0], params.score_plans
    at = {row["method"]: row for row in every if row["pruned_percent"] == percent}
    rows = [*controls_first(every), *(at[name] for name in names)]
    if number == 2:
        learned = {name: params.training(name) for name in names}
        yes = {False: "no", True: "yes"}
        facts = {n: (yes[how.objective == "reconstruction"], yes[how.adversarial]) for n, how in learned.items()}
        pairs = [facts.get(row["method"], (None, None)) for row in rows]
        rows = [row | {"pixels": one, "adversarial": other} for row, (one, other) in zip(rows, pairs, strict=True)]
    differences = [
        {"method": name, "main": main, "pruned_percent": percent}
        | difference(inputs.samples[name, percent], inputs.samples[main, percent], drawn.resamples, drawn.seed)
        for name in names
        if name != main
    ]
    title = {2: "What training learns from", 3: "Text attention with and without the true mask"}[number]
    columns = TABLE_1 if number == 3 else {"Method": "{method}", **_TRAINED_FOR, **TABLE_1}
    return {
        f"table{number}": Sheet(
            f"{title}, {percent} % pruned. {GREY_AND_BOLD}",
            paper.beside(rows, paper.table(number) if papers else []),
            columns,
            MINUS_UNPRUNED,
        ),
        f"table{number}_differences": Sheet(
            f"Method − {main} on the same frames at {percent} % pruned, {BY_SCENE}; below 0 the method is better. One "
            "training run each: the spread of other seeds is not in the intervals.",
            differences,
            DIFFERENCES,
        ),
    }


def compared_at(percents: Sequence[int]) -> int:
    """Return the paper's 50 % where the grid has it, else its middle ratio."""
    return paper.RATIO_2 if paper.RATIO_2 in percents else percents[len(percents) // 2]


# The driver and the oracle bound.


def driver_rows(scores: Sequence[Row]) -> list[Row]:
    """Return every row without pruning, with its ratio to the unpruned driver's L2; controls first."""
    unpruned_cm = next(row["l2_at_cm_avg"] for row in scores if row["method"] == UNPRUNED)
    rows = []
    for row in (row for row in scores if row["pruned_percent"] == 0):
        found: Row = {key: row[key] for key in ("method", "n", "unparsed")}
        if row["l2_at_cm_avg"] is not None:
            names = {"l2_m": "l2_at_cm_avg", "l2_low": "l2_at_cm_avg_low", "l2_high": "l2_at_cm_avg_high"}
            found |= {new: row[name] / 100 for new, name in names.items()}
            found["ratio"] = row["l2_at_cm_avg"] / unpruned_cm if unpruned_cm else None
        rows.append(found)
    top = controls_first(rows)
    return [*top, *(row for row in rows if row not in top)]


def event_rows(samples: Samples, resamples: int, seed: int) -> list[Row]:
    """Return L2 of driver and controls by event, and the driver's difference to the blind floor; `all` first."""
    nothing = samples[UNPRUNED, 0].iloc[:0]
    parts = {name: samples.get((name, 0), nothing) for name in (UNPRUNED, "other_image", "blind_floor")}
    events = sorted(parts[UNPRUNED]["event"].dropna().unique())
    rows = []
    for event in ["all", *events] if events else []:
        seen = {n: part if event == "all" else part[part["event"] == event] for n, part in parts.items()}
        means = {f"{name}_m": None if part.empty else float(l2_m(part).mean()) for name, part in seen.items()}
        better = paired(seen[UNPRUNED], seen["blind_floor"], resamples, seed)
        counts = {"n": better["n"] or len(seen[UNPRUNED]), "scenes": seen[UNPRUNED]["scene"].nunique()}
        rows.append({"event": event, **better, **counts, **means})
    return rows


def pool_rows(driver: Row, table: str) -> list[Row]:
    """Return `sees`, `events` or `pruned` of metrics/train_driver.json, best first, by prune ratio where it has one.

    The driver's held-out examination: more scenes than the data set has. A name such as `oracle_50` is split.
    """
    rows: list[Row] = [{"name": name, **figures} for name, figures in driver.get(table, {}).items()]
    for row in rows if table == "pruned" else []:
        name, _, percent = row["name"].rpartition("_")
        row |= {"name": name, "pruned_percent": int(percent)}
    return sorted(rows, key=lambda row: (row.get("pruned_percent", 0), row["l2_m"]))


def bound_rows(samples: Samples, params: Params) -> list[Row]:
    """Return L2 and difference to the unpruned driver: controls, then oracle, methods and inverse at each ratio."""
    grid, drawn = params.grid, params.score_plans
    tested = [name for name in grid.methods if name != UNPRUNED]
    masked = [name for name in grid.references if name in get_args(Masked)]
    cells = [(name, 0) for name in CONTROLS if (name, 0) in samples and len(samples[name, 0])]
    cells += [(name, p) for p in grid.percents for name in ("oracle", *masked, *tested, "inverse")]
    unpruned = samples[UNPRUNED, 0]
    return [
        {"method": n, "pruned_percent": p, **paired(samples[n, p], unpruned, drawn.resamples, drawn.seed)}
        for n, p in cells
    ]


def order_rows(samples: Samples, percents: Sequence[int], resamples: int, seed: int) -> list[Row]:
    """Return L2 of oracle, random_keep and inverse at each ratio, and what inverse costs over random_keep."""
    rows: list[Row] = []
    for p in (p for p in percents if all(len(samples.get((name, p), ())) for name in ORDER)):
        means = {name: float(l2_m(samples[name, p]).mean()) for name in ORDER}
        costs = paired(samples["inverse", p], samples["random_keep", p], resamples, seed)
        holds = means["oracle"] < means["random_keep"] < means["inverse"]
        rows.append({"pruned_percent": p, **means, "holds": holds, **costs})
    return rows


# Events.


def scenario_rows(samples: Samples, params: Params) -> list[Row]:
    """Return a row per event and method, ratios as `difference_<percent>`; none where no event is known."""
    grid, drawn = params.grid, (params.score_plans.resamples, params.score_plans.seed)
    unpruned = samples[UNPRUNED, 0]
    ends = {"": "difference_m", "_low": "difference_low", "_high": "difference_high"}
    rows = []
    for event, theirs in unpruned[unpruned["event"].notna()].groupby("event"):
        about = {"event": event, "scenes": theirs["scene"].nunique(), "n": len(theirs)}
        for name in (name for name in grid.methods if name != UNPRUNED):
            row: Row = {**about, "method": name}
            for percent in grid.percents:
                ours = samples[name, percent]
                found = paired(ours[ours["event"] == event], theirs, *drawn)
                row |= {f"l2_{percent}": found.get("l2_m")}
                row |= {f"difference_{percent}{end}": found.get(key) for end, key in ends.items()}
            rows.append(row)
    return rows


def scenario_columns(percents: Sequence[int]) -> dict[str, str]:
    """Return headings and formats."""
    minus = "{{difference_{0}:+.2f}} [{{difference_{0}_low:+.2f}}, {{difference_{0}_high:+.2f}}]"
    columns = {"Event": "{event}", "Method": "{method}", "N": "{n}", "Scenes": "{scenes}"}
    for p in percents:
        columns |= {f"{p} % pruned | L2 (m)": f"{{l2_{p}:.2f}}", f"{p} % pruned | − unpruned [95 %]": minus.format(p)}
    return columns


# How methods rank and keep the true foreground.


def _ranking(samples: Samples, scores: Sequence[Row], params: Params) -> dict[str, Sheet]:
    """Return AUC and kept foreground of each method, and what the main pruner has over each; empty without a truth."""
    grid, drawn = params.grid, (params.score_plans.resamples, params.score_plans.seed)
    if all(row.get(name) is None for row in scores for name in RECALLS):
        return {}
    bounds = [name for name in grid.references if name in (*get_args(OracleBound), *get_args(Masked))]
    methods = [name for name in grid.methods if name != UNPRUNED]
    rows = [ranking_row(name, [row for row in scores if row["method"] == name]) for name in [*methods, *bounds]]
    main = grid.trained[0] if grid.trained else ""
    others = [name for name in methods if main and name != main]
    differences = [
        {"method": name, "main": main, **ranking_difference(samples, main, name, grid.percents, *drawn)}
        for name in others
    ]
    return {
        "ranking": Sheet(
            "Against the drawn world's truth in the front image. AUC: the chance that a foreground (or object) token "
            f"outscores another; kept: the share of these tokens that is kept. {BY_SCENE}.",
            rows,
            {"Method": "{method}", **ranking_columns(grid.percents)},
        ),
        "ranking_differences": Sheet(
            f"{main} − method on the same frames; above 0 {main} is better. {GREY_AND_BOLD}",
            differences,
            {"Method": "{method}", **ranking_columns(grid.percents, "+")},
        ),
    }


def ranking_row(name: str, scores: Sequence[Row]) -> Row:
    """Return the AUCs of a method (equal at each ratio) and its recalls as `<recall>_<percent>`, with intervals."""
    lowest = min(scores, key=lambda row: row["pruned_percent"])
    row: Row = {"method": name, "n": lowest["n"]}
    for end in ("", "_low", "_high"):
        row |= {f"{auc}{end}": lowest.get(f"{auc}{end}") for auc in AUCS}
        for at in scores:
            row |= {f"{recall}_{at['pruned_percent']}{end}": at.get(f"{recall}{end}") for recall in RECALLS}
    return row


def ranking_difference(samples: Samples, main: str, name: str, percents: Sequence[int], *drawn: int) -> Row:
    """Return `main - name` of AUCs and of recalls at each ratio with intervals; None where they share no frame.

    `drawn`: resamples and seed.
    """
    measures = {auc: (auc, min(percents)) for auc in AUCS}
    measures |= {f"{recall}_{percent}": (recall, percent) for percent in percents for recall in RECALLS}
    row: Row = {}
    for measure, (column, percent) in measures.items():
        ours, theirs = shared(*(samples[method, percent].dropna(subset=[column]) for method in (main, name)))
        found: Sequence[float | None] = (None, None, None)
        if len(ours):
            values = ours[column].to_numpy(float), theirs[column].to_numpy(float)
            found = paired_difference(*values, ours["scene"].tolist(), *drawn)
        row |= dict(zip((measure, f"{measure}_low", f"{measure}_high"), found, strict=True))
    return row


def ranking_columns(percents: Sequence[int], sign: str = "") -> dict[str, str]:
    """Return headings and formats; `sign` is + for differences."""
    titles = {"foreground_auc": "AUC [95 %] | foreground", "object_auc": "AUC [95 %] | objects"}
    for p in percents:
        titles |= {f"{r}_{p}": f"kept at {p} % pruned [95 %] | {name}" for r, name in zip(RECALLS, NAMES, strict=True)}
    cell = "{{{0}:{1}.3f}} [{{{0}_low:{1}.3f}}, {{{0}_high:{1}.3f}}]"
    return {title: cell.format(key, sign) for key, title in titles.items()}


NAMES = ("foreground", "objects")


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what `dvc metrics diff` shows by row and prune ratio: averages, Rel. and N; 4 digits."""
    keys = ["l2_cm_avg", "l2_at_cm_avg", "collision_pct_avg", "intersection_pct_avg"]
    keys += ["l2_rel", "collision_rel", "intersection_rel"]
    tree: dict[str, Any] = {}
    for row in rows:
        values = {key: round(row[key], 4) for key in keys if row.get(key) is not None}
        tree.setdefault(row["method"], {})[f"pruned_{row['pruned_percent']}"] = values | {"n": row["n"]}
    return tree
