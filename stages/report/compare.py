"""One page on what differs between two states of the results: driving, params, code, outputs, tables, charts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import DataError
from stages.core.io import write_bytes, write_text
from stages.planning.tables import Clear, Noise, cells, to_csv
from stages.report.both_pages import page_sections
from stages.report.page import Facts, Group, Section, Table, Words, render
from stages.report.revisions import commit_of, commits_between, revision
from stages.report.states import Change, State, changes, paired_rows, worst_first
from stages.report.tracked import tracked

RESAMPLES, SEED = 2000, 1  # of params.yaml where a state does not say
_BOTH = "{{{0}_a:.2f}} → {{{0}_b:.2f}}"
_MINUS = "{{{0}:+.2f}} [{{{0}_low:+.2f}}, {{{0}_high:+.2f}}]"
UNITS = {"l2": "L2 (cm)", "collision": "Collision (%)", "intersection": "Intersection (%)"}
COLUMNS = {
    "Method": "{method}",
    **{f"{title} {what}": form.format(name) for name, title in UNITS.items() for what, form in (("A → B", _BOTH),
       ("B − A [95 %]", _MINUS))},
    "TFLOPs A → B": "{tflops_a:.4g} → {tflops_b:.4g}",
    "N A → B": "{n_a} → {n_b}",
    "paired N": "{n}",
}  # fmt: skip
CAPTION = (
    "Averages over 1, 2, 3 s. B − A: of the samples that both have scores of, each by itself, means; below 0 B is "
    "better. 95 % intervals by resampling scenes. Grey: the interval includes 0, these frames do not tell the two "
    "states apart. Bold: it does not. Dashes in place of an interval: the scores of each sample are not at hand here "
    "(`dvc fetch -a` brings what a remote has). TFLOPs: language model and choosing at the paper's shapes."
)


def compare(names: tuple[str, str], folder: Path, root: Path) -> Path:
    """Write the page and its table as CSV into `folder`. Raises DataError for a name that means no state."""
    a, b = (state_of(name, root) for name in names)
    rows = paired_rows(a, b, int(_param(b, "resamples", RESAMPLES)), int(_param(b, "seed", SEED)))
    write_text(folder / "differences.csv", to_csv([{key: row.get(key) for key in _keys(rows)} for row in rows]))
    page = folder / "index.html"
    write_bytes(page, render(f"FastDrive: from {a.name} to {b.name}", sections(a, b, rows, root)).encode())
    return page


def state_of(name: str, root: Path) -> State:
    """The state of a commit, branch or tag, else of a run of MLflow."""
    if commit := commit_of(name, root):
        return revision(name, commit, root)
    neither = DataError(
        expected=f"a git revision of {root} or the id of an MLflow run",
        got=f"{name!r}, which is neither",
        fix="`git log --oneline -- metrics/summary.json` and `mlflow ui --backend-store-uri "
        f"{os.environ.get('MLFLOW_TRACKING_URI') or 'sqlite:///mlflow.db'}` list what there is",
    )
    if not os.environ.get("MLFLOW_TRACKING_URI") and not Path("mlflow.db").is_file():
        raise neither  # asking MLflow would make a store
    try:
        return tracked(name, root)
    except DataError as error:
        if "scores in the pipeline run" in error.expected:
            raise
        raise neither from error


def sections(a: State, b: State, rows: Sequence[dict[str, Any]], root: Path) -> list[Section]:
    """What stands on the page."""
    groups = [
        Group(_shaded(part), f"{percent} % pruned" if percent else "Unpruned, controls and bounds")
        for percent in sorted({row["pruned_percent"] for row in rows})
        if (part := [row for row in rows if row["pruned_percent"] == percent])
    ]
    return [
        Section("What is compared", [Words(_summary(rows)), Facts(_facts("A", a)), Facts(_facts("B", b))]),
        Section("Driving: B − A", [Table(CAPTION, list(COLUMNS), groups)]),
        Section(
            "Params that changed", [_changes("Key", changes(a.params, b.params), "params.yaml or the runs' params")]
        ),
        Section("Commits of code and params", _commits(a, b, root)),
        Section("Outputs that changed", [_changes("Output", changes(a.hashes, b.hashes), "DVC's hashes")]),
        *page_sections(a.made, b.made),
    ]


def _facts(letter: str, state: State) -> list[tuple[str, str]]:
    return [(letter, state.name), *((f"{letter}: {key}", value) for key, value in state.about.items())]


def _summary(rows: Sequence[dict[str, Any]]) -> str:
    clear, known = worst_first(rows), [row for row in rows if row["n"]]
    told = ", ".join(f"{row['method']} at {row['pruned_percent']} %" for row in clear[:8])
    more = f" and {len(clear) - 8} more" if len(clear) > 8 else ""
    said = f"These differ by more than chance: {told}{more}." if clear else "None differs by more than chance."
    alone = len([row for row in rows if row["n_a"] is None or row["n_b"] is None])
    parts = [
        f"{len(rows)} rows; {len(known)} could be paired sample by sample.",
        f"{said} One measure of twenty without any difference is bold by chance." if known else "No interval is known.",
        f"{alone} rows stand in one state only." if alone else "",
    ]
    return " ".join(part for part in parts if part)


def _shaded(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    lines = []
    for row, line in zip(rows, cells(rows, COLUMNS), strict=True):
        names = [
            next((name for name, title in UNITS.items() if head == f"{title} B − A [95 %]"), "") for head in COLUMNS
        ]
        lines.append([_tone(text, row, name) for text, name in zip(line, names, strict=True)])
    return lines


def _tone(text: str, row: dict[str, Any], name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if low is None or high is None:
        return text
    return Noise(text) if low <= 0 <= high else Clear(text)


def _changes(what: str, found: Sequence[Change], of: str) -> Table | Words:
    if not found:
        return Words(f"None, by {of}.")
    absent = "not there"
    lines = [[one.name, absent if one.a is None else one.a, absent if one.b is None else one.b] for one in found]
    return Table(f"{len(found)} changed, by {of}.", [what, "A", "B"], [Group(lines)], prose=True)


def _commits(a: State, b: State, root: Path) -> list[Table | Words]:
    if not (a.commit and b.commit and commit_of(a.commit, root) and commit_of(b.commit, root)):
        return [Words("Not known here: a commit of the two is not in this checkout.")]
    found = [list(pair) for pair in commits_between(a.commit, b.commit, root)]
    words = "Commits of one of the two alone that touch stages, flows, params.yaml or dvc.yaml, newest first."
    return [Table(words, ["Commit", "Subject"], [Group(found)], prose=True)] if found else [Words("None between them.")]


def _param(state: State, key: str, otherwise: int) -> str:
    return state.params.get(f"score_plans.{key}", str(otherwise))


def _keys(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))
