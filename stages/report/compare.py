"""Two states of the results as one paired table: git commits, or MLflow runs."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages.core import tracking
from stages.core.errors import DataError
from stages.core.io import write_text
from stages.core.params import Params
from stages.core.provenance import git_says
from stages.report.driving import MEASURES, METHOD, Drawn, averages, difference
from stages.report.inputs import Row, Samples
from stages.report.page import GREY_AND_BOLD, Section, Sheet, block, frame_of, interval, render
from stages.report.paper import TITLES

SCORES = "results/scores"  # of score_plans; an artifact `scores` of make_report's run in MLflow
COLUMNS = dict(METHOD)
for _name, _title in TITLES.items():
    COLUMNS |= {f"{_title} | A": f"{{{_name}_a:.2f}}", f"{_title} | B": f"{{{_name}_b:.2f}}"}
    COLUMNS[f"{_title} | B − A [95 %]"] = interval(_name, "+.2f")
COLUMNS |= {"N A": "{n_a}", "N B": "{n_b}", "paired N": "{n}"}
CAPTION = (
    "Averages over 1, 2, 3 s of each state; B − A over the samples that both have, below 0 B is better. 95 % intervals "
    f"by resampling scenes. {GREY_AND_BOLD}"
)


State = tuple[dict[str, str], Samples]  # of a commit or a pipeline run of MLflow: what it is, and its scores


def compare(names: tuple[str, str], folder: Path, root: Path, params: Params) -> tuple[Path, Sheet]:
    """Write the page and differences.csv into `folder`; return the page and its table.

    Raises DataError for a name that means no state, or whose scores are not at hand.
    """
    (of_a, a), (of_b, b) = (state_of(name, root) for name in names)
    sheet = Sheet(CAPTION, paired_rows(a, b, (params.score_plans.resamples, params.score_plans.seed)), COLUMNS)
    facts = {f"{letter}: {key}": value for letter, one in (("A", of_a), ("B", of_b)) for key, value in one.items()}
    shown = [Section("What is compared", [facts]), Section("Driving: B − A", [block(sheet)])]
    write_text(folder / "differences.csv", frame_of(sheet.rows).to_csv(index=False))
    write_text(folder / "index.html", render(f"FastDrive: from {names[0]} to {names[1]}", shown))
    return folder / "index.html", sheet


def paired_rows(a: Samples, b: Samples, drawn: Drawn) -> list[Row]:
    """Return a row for each method and prune ratio of either state: averages of both, and B − A with its interval."""
    rows: list[Row] = []
    for cell in sorted({*a, *b}, key=lambda cell: (cell[1], cell[0])):
        row: Row = {"method": cell[0], "pruned_percent": cell[1]}
        for end, state in (("a", a), ("b", b)):
            samples = state.get(cell)
            row[f"n_{end}"] = None if samples is None else len(samples)
            for name in MEASURES:
                known = samples is not None and len(samples)
                row[f"{name}_{end}"] = float(averages(samples, name).mean()) if known else None
        rows.append(row | (difference(b[cell], a[cell], drawn) if cell in a and cell in b else {"n": 0}))
    return rows


def state_of(name: str, root: Path) -> State:
    """Return the state of a commit, branch or tag, else of a run of MLflow."""
    commit = git_says(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if commit:
        return _committed(name, commit, root)
    has_store = os.environ.get("MLFLOW_TRACKING_URI") or (root / "mlflow.db").is_file()  # else asking would make one
    if has_store and (state := _tracked(name)):
        return state
    raise DataError(
        expected="a git revision or the id of an MLflow run with a finished make_report",
        got=f"{name!r}, which is neither",
        fix="`git log --oneline -- metrics/summary.json` and `make serve` list what there is",
    )


def _committed(name: str, commit: str, root: Path) -> State:
    """Read results/scores of the commit from the checkout's DVC cache, or from a remote."""
    from dvc.api import DVCFileSystem

    try:
        files = DVCFileSystem(repo=str(root), rev=commit)
        with TemporaryDirectory() as work:
            for path in (path for path in files.find(SCORES) if path.endswith(".parquet")):
                files.get_file(path, str(Path(work) / Path(path).name))
            samples = read_samples(Path(work))
        if not samples:
            raise FileNotFoundError("none in that commit")
    except Exception as error:  # DVC lets errors of three packages through
        raise DataError(
            expected=f"{SCORES} of {name} in DVC's cache or a remote",
            got=str(error).splitlines()[0],
            fix=f"run `git checkout {name} && dvc repro score_plans`",
        ) from error
    date, subject = (git_says(root, "show", "-s", f"--format={form}", commit) for form in ("%cI", "%s"))
    return {"name": name, "commit": commit[:12], "date": date, "subject": subject}, samples


def _tracked(name: str) -> State | None:
    """Download the scores that make_report recorded in a pipeline run: `name` is the run of any of its stages.

    None for a run that is not there or has no scores.
    """
    uri = tracking.store_uri()
    client: Any = tracking.client(uri)
    with suppress(DataError), tracking.answering(uri, f"the commit or MLflow run {name!r}"):
        run = client.get_run(name)
        parent = run.data.tags.get("mlflow.parentRunId", run.info.run_id)
        parts = [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
        for stage in client.search_runs(*parts, max_results=1000, order_by=["attributes.start_time DESC"]):
            if "scores" in {file.path for file in client.list_artifacts(stage.info.run_id)}:
                with TemporaryDirectory() as work:
                    samples = read_samples(Path(client.download_artifacts(stage.info.run_id, "scores", work)))
                commit = stage.data.tags.get("git.commit", "")
                return {"name": name, "MLflow run": parent, "commit": commit[:12]}, samples
    return None


def read_samples(folder: Path) -> Samples:
    """Return per-sample scores by method and prune ratio from files as score_plans writes them."""
    found: Samples = {}
    for path in sorted(folder.glob("*.parquet")):
        for percent, rows in pd.read_parquet(path).groupby("pruned_percent"):
            found[path.stem, int(str(percent))] = rows
    return found
