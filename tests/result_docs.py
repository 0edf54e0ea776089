"""Puts the figures of the last run into the result tables of README.md and docs/explanation/what_the_default_shows.md.

python -m tests.result_docs     # behind `make reproduce`: reads reports/tables/*.csv; words around the tables stay
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "reports/tables"
PAGE = ROOT / "docs/explanation/what_the_default_shows.md"
README = ROOT / "README.md"
NONE = "–"
NAMES = {"random": "random_keep"}  # as the driver's own record calls it

Row = dict[str, str]


def rows(name: str) -> list[Row]:
    """The rows of a table of the report."""
    with open(TABLES / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interval(row: Row | None, key: str, digits: int, sign: str = "") -> str:
    """`0.98 [0.97, 0.99]`; a dash where there is none."""
    if row is None or not row.get(key):
        return NONE
    low, high = (row.get(f"{key}{end}") or row[f"{key.rsplit('_', 1)[0]}{end}"] for end in ("_low", "_high"))
    return f"{float(row[key]):{sign}.{digits}f} [{float(low):{sign}.{digits}f}, {float(high):{sign}.{digits}f}]"


def filled(text: str, header: str, line: Callable[[list[str]], list[str]]) -> str:
    """`text` with each row of the table under `header` as `line` makes it of the cells that stand there."""
    start = text.index(header)
    head, rule, *body = text[start:].split("\n\n", 1)[0].split("\n")
    new = ["| " + " | ".join(line([cell.strip() for cell in row.strip("|").split("|")])) + " |" for row in body]
    return text.replace("\n".join([head, rule, *body]), "\n".join([head, rule, *new]))


def ruler(cells: list[str]) -> list[str]:
    """Cost in L2 m against the unpruned driver, on the data set and on the pool."""
    found = {(row["method"], row["pruned_percent"]): row for row in rows("ruler")}
    pool = {(NAMES.get(row["name"], row["name"]), row["pruned_percent"]): row for row in rows("ruler_pool")}
    percents = ("25", "50", "75")
    told = [interval(source.get((cells[0], at)), "difference_m", 2, "+") for source in (found, pool) for at in percents]
    return [cells[0], *told]


def table_one(cells: list[str]) -> list[str]:
    """A row of Table 1."""
    row = next(row for row in rows("table1") if [row["method"], row["pruned_percent"]] == cells[:2])
    told = [*cells[:2], row["n"], row["unparsed"], interval(row, "l2_cm_avg", 1)]
    told.append(f"{float(row['l2_rel']):.1f}" if row["l2_rel"] else NONE)
    for name in ("collision", "intersection"):
        told.append(interval(row, f"{name}_pct_avg", 2))
        told.append(" / ".join(row[f"{name}_events_{second}s"] for second in (1, 2, 3)))
    return [*told, f"{float(row['object_recall']):.2f}" if row["object_recall"] else NONE]


def ranking(cells: list[str]) -> list[str]:
    """How a method ranks tokens against the drawn truth."""
    row = next(row for row in rows("ranking") if row["method"] == cells[0])
    keys = ("foreground_auc", "object_auc", "object_recall_25", "object_recall_50", "object_recall_75")
    return [cells[0], *(interval(row, key, 2) for key in keys)]


def short(cells: list[str]) -> list[str]:
    """A row of the README's table: L2 at three ratios, TFLOPs of language model and choosing at the paper's shapes."""
    found = {row["pruned_percent"]: row for row in rows("table1") if row["method"] == cells[0]}
    counted = [float(row["without_vision"]) for row in rows("table4_flops") if row["method"] == cells[0]]
    tera = " / ".join(f"{value:.4g}" for value in counted)
    if cells[0] == "none":
        return [cells[0], interval(found["0"], "l2_cm_avg", 1), NONE, NONE, tera]
    return [cells[0], *(interval(found[at], "l2_cm_avg", 1) for at in ("25", "50", "75")), tera]


def main() -> None:
    """Rewrite both pages."""
    page = PAGE.read_text(encoding="utf-8")
    page = filled(page, "| keeps | 25 % pruned", ruler)
    page = filled(page, "| method | pruned % | N |", table_one)
    page = filled(page, "| method | AUC foreground |", ranking)
    PAGE.write_text(page, encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(filled(readme, "| method | 25 % pruned: L2", short), encoding="utf-8")
    print(re.sub(r"\s+", " ", f"wrote {README.name} and {PAGE.name}; look at `git diff`: the words are a person's"))


if __name__ == "__main__":
    main()
