"""The paper's Tables 1 to 4 as printed (paper.json), in the columns of ours, and where they may stand beside ours."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from stages.planning.tables import HORIZONS, METRICS, table_1

Row = dict[str, Any]

ENTRIES = 6019  # of the paper's sample list
TOKENS = 3249  # of an unpruned image, 57 x 57
UNKNOWN = (
    "Of the paper's rows N, checkpoint and what became of answers without a plan are not known: it does not state them."
)
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
COLUMNS = {  # of Tables 1 to 3, as printed
    f"{title} {what}": f"{{{name}:{digits}}}"
    for title, short, column in (
        ("L2", "l2", "l2_cm"),
        ("Collision", "collision", "collision_pct"),
        ("Intersection", "intersection", "intersection_pct"),
    )
    for what, name, digits in (
        *((f"{s[0]} s", f"{column}_{s}", ".2f") for s in HORIZONS),
        ("avg.", f"{column}_avg", ".2f"),
        ("rel.", f"{short}_rel", ".1f"),
    )
}


@cache
def _printed() -> dict[str, Any]:
    tables: dict[str, Any] = json.loads((Path(__file__).parent / "paper.json").read_text(encoding="utf-8"))
    return tables


def table(number: int) -> list[Row]:
    """Table 1, 2 or 3 with `method` (the paper's name), `ours` (this repository's) and the columns of Table 1.

    Rel. is computed from the printed horizons, by the function that makes ours; all 66 cells come out as printed.
    """
    rows = [_row(row, 50 if number > 1 else row["pruned_percent"]) for row in _printed()[f"table{number}"]]
    baseline = _row(_printed()["table1"][0], 0)
    return table_1([baseline, *rows], BASELINE)[1:]


def table_4() -> list[Row]:
    """Table 4: method, tokens, TFLOPs, prefill and decode in ms."""
    return [dict(row) for row in _printed()["table4"]]


def _row(printed: Row, percent: int) -> Row:
    row: Row = {"method": printed["method"], "ours": OURS[printed["method"]], "pruned_percent": percent}
    if "adversarial" in printed:
        row |= {"pixels": _word(printed["pixel_reconstruction"]), "adversarial": _word(printed["adversarial"])}
    for name, column in METRICS.items():
        row |= {f"{column}_{s}": value for s, value in zip(HORIZONS, printed[column], strict=True)}
        row[f"{column}_avg"] = printed[f"{name}_avg"]
    return row


def _word(holds: bool) -> str:
    return "yes" if holds else "no"


def same_setting(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], driver: str) -> bool:
    """Are the numbers to be set beside the paper's?

    Its protocol, split, driver and tokens, and its 6,019 entries, which every row counts.
    """
    named = (about.get("protocol"), about.get("split"), about.get("listed"), driver)
    seen = {row.get("tokens_total") for row in rows} - {None}
    return (
        named == ("omnidrive", "val", ENTRIES, "impromptu") and seen == {TOKENS} and {r["n"] for r in rows} == {ENTRIES}
    )


def beside(rows: Sequence[Row], printed: Sequence[Row]) -> list[Row]:
    """`rows` with the paper's under each that it has a counterpart of, named so."""
    found: list[Row] = []
    for row in rows:
        twins = [p for p in printed if (p["ours"], p["pruned_percent"]) == (row["method"], row["pruned_percent"])]
        found += [row, *({**twin, "method": f"{twin['method']}, the paper"} for twin in twins)]
    return found
