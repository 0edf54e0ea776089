"""Table 4 in parts: the paper's figures beside ours, every component, and every way of summing them. Pure.

The page shows the comparison and the components at both sizes of the paper's model; the sums are for machines.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.efficiency import paper_table
from stages.planning.tables import cells
from stages.report import paper
from stages.report.ablations import Tables
from stages.report.inputs import Inputs
from stages.report.page import Group, Table, Words
from stages.report.sections import by_ratio, plain

Row = dict[str, Any]

PARTS = {  # of accounts.account, in the order in which a request meets them
    "patch_embed": "Patch embedding",
    "vision_linears": "Vision linears",
    "vision_window_attention": "Vision attention, windows",
    "vision_full_attention": "Vision attention, full",
    "merger": "Merger",
    "pruner": "Choosing",
    "watch": "of it, watching the tower",
    "llm_linears": "LLM linears",
    "llm_attention": "LLM attention, full",
    "llm_attention_causal": "causal",
    "lm_head_last": "LM head, last",
    "lm_head_all": "all",
}
COMPONENT_COLUMNS = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Tokens": "{tokens_kept}",
    **{title: f"{{{name}:.4g}}" for name, title in PARTS.items()},
}
ACCOUNTING_COLUMNS = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Unit": "{unit}",
    "Vision": "{vision}",
    "LLM attention": "{attention}",
    "LM head": "{lm_head}",
    "Text tokens": "{prompt_tokens}",
    "Total (T)": "{total_t:.4g}",
    "unpruned / pruned": "{ratio:.3f}",
}
BESIDE = (
    "The paper's Table 4 beside our counts at the same shapes. TFLOP counts two for a multiply-add, TMAC one; without "
    "vision is the language model and the choice. The nearest of 24 accountings (unit, with or without the tower, how "
    "attention counts, logits of the last or of all positions) is looked up for each printed figure: they differ"
)
SIZES = (("3B", "paper", "table4_components"), ("7B", "paper_7b", "table4_components_7b"))
ACCOUNTED = ("Nearest accounting", "gives (T)", "Why not one accounting")  # sentences: a table of their own
NEAREST = "Of the same table: the nearest accounting of each figure, and why one accounting does not give all of them."
COMPONENTS = "TFLOPs by component until the first answer token, Qwen2.5-VL-{size} at the paper's grid"


def component_rows(efficiency: Mapping[str, Row], at: str) -> list[Row]:
    """TFLOPs of each component by method and ratio at the shapes `at`; no pruning once, first."""
    return [{**about, **{name: row["flops"][name] / 1e12 for name in PARTS}} for about, row in _rows(efficiency, at)]


def accounting_rows(efficiency: Mapping[str, Row], at: str) -> list[Row]:
    """Every way of summing the components by method and ratio, in T, and unpruned / pruned in the same way."""
    first = efficiency["none"][at]["rows"][0]["accountings"]
    return [
        {**about, **{key: value for key, value in one.items() if key != "total"}}
        | {"total_t": one["total"] / 1e12, "ratio": full["total"] / one["total"]}
        for about, row in _rows(efficiency, at)
        for one, full in zip(row["accountings"], first, strict=True)
    ]


def _rows(efficiency: Mapping[str, Row], at: str) -> list[tuple[Row, Row]]:
    found = [
        ({"method": name, "pruned_percent": row["percent"], "tokens_kept": row["tokens_kept"]}, row)
        for name, record in efficiency.items()
        for row in record[at]["rows"]
        if name == "none" or row["percent"]
    ]
    return sorted(found, key=lambda pair: pair[0]["pruned_percent"])


def written(inputs: Inputs) -> Tables:
    """All of them, for people and machines."""
    return {
        "table4": (paper_table.rows(inputs.efficiency, paper.table_4()), paper_table.COLUMNS),
        "table4_components": (component_rows(inputs.efficiency, "paper"), COMPONENT_COLUMNS),
        "table4_components_7b": (component_rows(inputs.efficiency, "paper_7b"), COMPONENT_COLUMNS),
        "table4_accountings": (accounting_rows(inputs.efficiency, "paper"), ACCOUNTING_COLUMNS),
    }


def blocks(inputs: Inputs, single: str) -> Sequence[Table | Words]:
    """The comparison, followed by the sentence `single`, and the components at 3B and 7B."""
    beside = paper_table.rows(inputs.efficiency, paper.table_4())
    tables = [
        by_ratio(COMPONENTS.format(size=size), component_rows(inputs.efficiency, at), COMPONENT_COLUMNS, file)
        for size, at, file in SIZES
    ]
    numbers = {heading: form for heading, form in paper_table.COLUMNS.items() if heading not in ACCOUNTED}
    told = {heading: paper_table.COLUMNS[heading] for heading in ("Method", *ACCOUNTED)}
    why = Table(NEAREST, list(told), [Group(cells(beside, told))], prose=True)
    return [plain(BESIDE, beside, numbers, "table4"), why, Words(single), *tables]
