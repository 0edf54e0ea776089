"""Tables 2 and 3: what the objective, the adversarial branch and text attention do to driving, beside the noise. Pure.

Each method is also set against the main trained pruner frame by frame, so that what is chance shows as chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from stages.core.params import Params
from stages.planning.intervals import paired_difference
from stages.planning.scoring import HORIZONS_S
from stages.report.look import top_rows
from stages.report.references import Samples, shared

Row = dict[str, Any]
Tables = dict[str, tuple[list[Row], Mapping[str, str]]]  # by file name: rows, and the columns that people read

PAPER_PERCENT = 50  # of Tables 2 and 3
MASKED, ATTENTION = "masked_text_attention", "text_attention"
MEASURES = {"l2": "L2", "collision": "collision", "intersection": "intersection"}  # rows' names and the words for them
_DIFFERENCE = "{{{0}:+.2f}} [{{{0}_low:+.2f}}, {{{0}_high:+.2f}}]"
DIFFERENCE_COLUMNS = {
    "Difference": "{method} − {main}",
    "N": "{n}",
    "L2 avg. (cm) [95 %]": _DIFFERENCE.format("l2"),
    "Collision avg. (points) [95 %]": _DIFFERENCE.format("collision"),
    "Intersection avg. (points) [95 %]": _DIFFERENCE.format("intersection"),
}


@dataclass(frozen=True)
class Comparison:
    """A table of the paper at one prune ratio, and the difference of its other rows to the main pruner."""

    percent: int
    rows: list[Row]  # columns of Table 1: what every table starts with, then methods in the paper's order
    differences: list[Row]


def objectives(samples: Samples, scores: Sequence[Row], params: Params) -> Comparison | None:
    """Table 2: every trained pruner by what it learned from, as params say; None where fewer than two are trained.

    The paper's order: mask prediction, then reconstruction without and with the adversarial background branch.
    """
    learned = {name: params.training(name) for name in params.grid.trained}
    if len(learned) < 2:
        return None
    facts = {name: (how.objective == "reconstruction", how.adversarial) for name, how in learned.items()}
    comparison = _compared(sorted(learned, key=facts.__getitem__), samples, scores, params)
    words = {name: [("no", "yes")[fact] for fact in pair] for name, pair in facts.items()}
    rows = [
        row | dict(zip(("pixels", "adversarial"), words.get(row["method"], (None, None)), strict=True))
        for row in comparison.rows
    ]
    return Comparison(comparison.percent, rows, comparison.differences)


def attentions(samples: Samples, scores: Sequence[Row], params: Params) -> Comparison | None:
    """Table 3: text attention with and without the true mask, and the main pruner; None where the grid lacks one."""
    grid = params.grid
    if MASKED not in grid.references or ATTENTION not in grid.pruners or not grid.trained:
        return None
    return _compared([MASKED, ATTENTION, grid.trained[0]], samples, scores, params)


def _compared(names: Sequence[str], samples: Samples, scores: Sequence[Row], params: Params) -> Comparison:
    percent, main, mine = compared_at(params.grid.percents), params.grid.trained[0], params.score_plans
    at = {row["method"]: row for row in scores if row["pruned_percent"] == percent}
    differences = [
        {"method": name, "main": main, "pruned_percent": percent}
        | difference(samples[name, percent], samples[main, percent], mine.resamples, mine.seed)
        for name in names
        if name != main
    ]
    return Comparison(percent, [*top_rows(scores), *(at[name] for name in names)], differences)


def compared_at(percents: Sequence[int]) -> int:
    """The paper's 50 % where the grid has it, else its middle ratio."""
    return PAPER_PERCENT if PAPER_PERCENT in percents else percents[len(percents) // 2]


def difference(method: Sequence[Row], baseline: Sequence[Row], resamples: int, seed: int) -> Row:
    """`method - baseline` of each of MEASURES with its interval, over the samples that both have; below 0 is better.

    L2 in cm and rates in percentage points, averaged over 1, 2, 3 s as in Table 1. `<measure>_same`: are all samples
    equal? N = 0 alone where they share none.
    """
    mine, theirs = shared(method, baseline)
    row: Row = {"n": len(mine)}
    scenes = [sample["scene"] for sample in mine]
    for name in MEASURES if mine else ():
        ours, others = averages(mine, name), averages(theirs, name)
        if np.isnan(ours).any():  # the protocol knows no such rate
            continue
        mean, low, high = paired_difference(ours, others, scenes, resamples, seed)
        same = bool((ours == others).all())
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_same": same}
    return row


def averages(samples: Sequence[Row], name: str) -> Float[np.ndarray, " N"]:
    """Table 1's average of a measure, of each sample alone: cm, or % of its three horizons."""
    column = "l2_m" if name == "l2" else name
    return 100 * np.array([[row[f"{column}_{s}s"] for s in HORIZONS_S] for row in samples], float).mean(axis=1)


def in_words(row: Row) -> str:
    """What a row of differences allows to say: for which measures it is chance as far as these samples can tell."""
    pair = f"{row['method']} and {row['main']}"
    if not row["n"]:
        return f"{pair} have no frame in common."
    measured = {name: words for name, words in MEASURES.items() if name in row}
    same = [words for name, words in measured.items() if row[f"{name}_same"]]
    open_ = [w for n, w in measured.items() if not row[f"{n}_same"] and row[f"{n}_low"] <= 0 <= row[f"{n}_high"]]
    parts = [
        f"the interval includes 0 for {_list(open_)}: these {row['n']} frames do not tell the two apart"
        if open_
        else "",
        f"every frame is the same for {_list(same)}" if same else "",
        *(
            f"{row['method']} is {'worse' if row[name] > 0 else 'better'} in {words} with its whole interval"
            for name, words in measured.items()
            if words not in (*same, *open_)
        ),
    ]
    return f"{pair}: {'; '.join(part for part in parts if part)}."


def _list(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
