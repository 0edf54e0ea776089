"""The paper's Tables 1 to 4 as printed (paper.json) in the columns of ours, and our FLOP counts beside its Table 4."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from stages.report.page import interval

Row = dict[str, Any]

METRICS = {"l2": "l2_cm", "collision": "collision_pct", "intersection": "intersection_pct"}
TITLES = {"l2": "L2 (cm)", "collision": "Collision (%)", "intersection": "Intersection (%)"}
HORIZONS = ("1s", "2s", "3s")
OTHER_N = "†"  # marks a Rel. whose row and baseline have another N
ENTRIES = 6019  # of the paper's sample list
TOKENS = 3249  # of an unpruned image, 57 x 57
RATIO_2, RATIO_4 = 50, 75  # percent pruned in the paper's Tables 2 and 3, and 4 (812 of 3,249 tokens)
BASELINE = "Impromptu-VLA"
OURS = {  # the paper's name -> file name of the method here
    BASELINE: "none",
    "FastV": "fastv",
    "SparseVLM": "sparsevlm",
    "VisPruner": "vispruner",
    "DivPrune": "divprune",
    "FastDriveVLA": "recon",
    "mask prediction": "mask_prediction",
    "foreground reconstruction only": "foreground_only",
    "Gt-mask+Text-attn": "masked_text_attention",
    "Text-attn": "text_attention",
}
LEARNED = {"Pixel rec.": "{pixels}", "Adv.": "{adversarial}"}  # of Table 2
YES = {False: "no", True: "yes"}


def columns(*, printed: bool = False) -> dict[str, str]:
    """Return the columns of Tables 1 to 3: 1, 2, 3 s, average, Rel.; ours have events and intervals, too."""
    found = {}
    for name, column in METRICS.items():
        for s in HORIZONS:
            events = "" if printed or name == "l2" else f" ({{{name}_events_{s}}})"
            found[f"{TITLES[name]} | {s[0]} s"] = f"{{{column}_{s}:.2f}}{events}"
        average = {"avg.": f"{{{column}_avg:.2f}}"} if printed else {"avg. [95 %]": interval(f"{column}_avg")}
        for what, form in (average | {"rel.": f"{{{name}_rel:.1f}}{{rel_mark}}"}).items():
            found[f"{TITLES[name]} | {what}"] = form
    return found


@cache
def _printed() -> dict[str, Any]:
    tables: dict[str, Any] = json.loads((Path(__file__).parent / "paper.json").read_text(encoding="utf-8"))
    return tables


def table(number: int) -> list[Row]:
    """Return Table 1, 2 or 3 with `method` (the paper's name), `ours` (this repository's) and the columns of Table 1.

    Rel. is computed from the printed horizons, by the function that makes ours; all 66 cells come out as printed.
    """
    rows = [_row(row, RATIO_2 if number > 1 else row["pruned_percent"]) for row in _printed()[f"table{number}"]]
    return with_rel([_row(_printed()["table1"][0], 0), *rows], BASELINE)[1:]


def _row(printed: Row, percent: int) -> Row:
    row: Row = {"method": printed["method"], "ours": OURS[printed["method"]], "pruned_percent": percent}
    if "adversarial" in printed:
        row |= {"pixels": YES[printed["pixel_reconstruction"]], "adversarial": YES[printed["adversarial"]]}
    for name, column in METRICS.items():
        row |= {f"{column}_{s}": value for s, value in zip(HORIZONS, printed[column], strict=True)}
        row[f"{column}_avg"] = printed[f"{name}_avg"]
    return row


def with_rel(rows: Sequence[Mapping[str, Any]], baseline: str = "none") -> list[Row]:
    """Return the rows with Rel. to the method `baseline`: 100 * sum of its three horizons / sum of the row's.

    More than 100 is better. Of the unrounded values: with the printed averages 21 of the 22 collision cells of Tables
    1 to 3 come out wrong. None where a value is missing or the row's sum is 0.
    """
    reference = next((row for row in rows if row["method"] == baseline), {})
    return [
        {
            **row,
            **{f"{name}_rel": _rel(reference, row, column) for name, column in METRICS.items()},
            "rel_mark": OTHER_N if reference and row.get("n") != reference.get("n") else "",
        }
        for row in rows
    ]


def _rel(baseline: Mapping[str, Any], row: Mapping[str, Any], column: str) -> float | None:
    base: list[Any] = [baseline.get(f"{column}_{s}") for s in HORIZONS]
    own: list[Any] = [row.get(f"{column}_{s}") for s in HORIZONS]
    return 100 * sum(base) / sum(own) if None not in (*base, *own) and sum(own) else None


def same_setting(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], driver: str) -> bool:
    """Return True where our numbers may stand beside the paper's: its protocol, split, driver, tokens and entries."""
    named = (about.get("protocol"), about.get("split"), about.get("listed"), driver)
    tokens = {row.get("tokens_total") for row in rows} - {None}
    entries = {row["n"] for row in rows}
    return named == ("omnidrive", "val", ENTRIES, "impromptu") and (tokens, entries) == ({TOKENS}, {ENTRIES})


def beside(rows: Sequence[Row], printed: Sequence[Row]) -> list[Row]:
    """Return `rows` with the paper's under each that it has a counterpart of."""
    found: list[Row] = []
    for row in rows:
        twins = [p for p in printed if (p["ours"], p["pruned_percent"]) == (row["method"], row["pruned_percent"])]
        found += [row, *({**twin, "method": f"{twin['method']}, the paper"} for twin in twins)]
    return found


# Table 4. Which of our 24 ways of summing FLOPs comes nearest to a printed figure is looked up, not chosen.

TABLE_4 = {
    "Method": "{method}",
    "Tokens": "{tokens}",
    "Paper (T)": "{paper_tflops}",
    "Prefill (ms)": "{paper_prefill_ms}",
    "Decode (ms)": "{paper_decode_ms}",
    "paper, unpruned / pruned": "{paper_ratio:.1f}",
    "Ours with vision (TFLOP)": "{with_vision_tflops:.4g}",
    "without (TFLOP)": "{without_vision_tflops:.4g}",
    "with (TMAC)": "{with_vision_tmac:.4g}",
    "without (TMAC)": "{without_vision_tmac:.4g}",
    "ours, unpruned / pruned": "{without_vision_ratio:.2f}",
    "Nearest accounting": "{nearest}",
    "gives (T)": "{nearest_total:.4g}",
}


def table_4(efficiency: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return a row for each of the paper's Table 4, with our counts of results/efficiency/ and the nearest accounting.

    A method without a record at the paper's ratio has None where ours would stand. Raises KeyError without `none`.
    """
    printed = _printed()["table4"]
    ours = {(name, row["percent"]): row for name, record in efficiency.items() for row in record["paper"]["rows"]}
    unpruned = ours["none", 0]
    found = []
    for row in printed:
        name = OURS[row["method"]]
        counts = ours.get((name, 0 if name == "none" else RATIO_4))
        new: Row = {f"paper_{key}": row[key] for key in ("tflops", "prefill_ms", "decode_ms")}
        new |= {"method": row["method"], "tokens": row["tokens"], "paper_ratio": printed[0]["tflops"] / row["tflops"]}
        flops = counts and counts["flops"]
        for total in ("with_vision", "without_vision"):
            new[f"{total}_tflops"] = flops and flops[total] / 1e12
            new[f"{total}_tmac"] = flops and flops[total] / 2e12
        near = counts and nearest(row["tflops"], counts["accountings"])
        new["without_vision_ratio"] = flops and unpruned["flops"]["without_vision"] / flops["without_vision"]
        new |= {"nearest": near and described(near), "nearest_total": near and near["total"] / 1e12}
        found.append(new)
    return found


def nearest(tera: float, accountings: Sequence[Row]) -> Row:
    """Return the accounting whose total is nearest to `tera`, by ratio."""
    return min(accountings, key=lambda row: max(row["total"] / 1e12 / tera, tera / (row["total"] / 1e12)))


def described(accounting: Row) -> str:
    """Return an accounting in words."""
    pairs = {"full": "", "causal": ", causal half of attention", "none": ", LLM attention not counted"}
    vision, head = "with" if accounting["vision"] else "without", ", logits of all" * (accounting["lm_head"] == "all")
    return f"{accounting['unit'].upper()}, {vision} vision{pairs[accounting['attention']]}{head}"
