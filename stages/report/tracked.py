"""The results of a pipeline run of MLflow: scores, params, commit and hashes of its stages."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.core import tracking
from stages.core.errors import DataError
from stages.core.provenance import locked_outs
from stages.report.made import Made, made_in
from stages.report.revisions import cached_samples
from stages.report.states import Cell, Row, State

TABLE = "scores.json"  # as score_plans records it


def tracked(name: str, root: Path) -> State:
    """The state of a run: of the pipeline, or of any stage of it.

    Raises DataError when the store has no such run or none of its stages scored anything; MachineError when the store
    does not answer.
    """
    uri = tracking.store_uri()
    client = tracking.client(uri)
    with tracking.answering(uri, f"the commit or MLflow run {name!r}"):
        run = client.get_run(name)
        parent = run.data.tags.get("mlflow.parentRunId", run.info.run_id)
        stages = client.search_runs(
            [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=1000
        )
        ended = [
            each for each in sorted(stages, key=lambda each: each.info.start_time) if each.info.status == "FINISHED"
        ]
        made = _made(client, [each.info.run_id for each in ended])
        tables = [row for each in ended for row in _scores(client, each.info.run_id)]
    if not tables:
        raise DataError(
            expected=f"scores in the pipeline run {parent} of MLflow",
            got=f"{len(ended)} finished stages, none with a table {TABLE}",
            fix=f"pick a run with stages `score_*`: `mlflow ui --backend-store-uri {uri}` lists them",
        )
    tags = {key: value for each in ended for key, value in each.data.tags.items()}
    rows: dict[Cell, Row] = {(row["method"], row["pruned_percent"]): row for row in tables}
    values = {key: value for each in ended for key, value in each.data.params.items()}
    commit = tags.get("git.commit", "")
    hashes = locked_outs(root, commit=commit) if commit else {}
    about = {"kind": "MLflow pipeline run", "run": parent, "commit": commit[:12], "hardware": tags.get("hardware", "")}
    about = {key: value for key, value in about.items() if value}
    return State(name, about, rows, values, hashes, commit, samples=cached_samples(hashes, root), made=made)


def _scores(client: Any, run_id: str) -> list[Row]:
    if TABLE not in {file.path for file in client.list_artifacts(run_id)}:
        return []
    with TemporaryDirectory() as folder:
        table = json.loads(Path(client.download_artifacts(run_id, TABLE, folder)).read_text(encoding="utf-8"))
    return [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]


def _made(client: Any, run_ids: list[str]) -> Made:
    """What the last finished make_report recorded."""
    for run_id in reversed(run_ids):
        kept = {file.path for file in client.list_artifacts(run_id)} & {"index.html", "tables", "figures"}
        if "tables" in kept:
            with TemporaryDirectory() as folder:
                for path in sorted(kept):
                    client.download_artifacts(run_id, path, folder)
                return made_in(Path(folder))
    return Made(absent="its run has no tables; `dvc repro make_report` records some")
