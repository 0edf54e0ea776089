"""The record of a stage's run in MLflow.

Every event is appended to `runs/spool` first; a second process sends it, in batches every ten seconds and when a run
ends, so that a stage feels neither MLflow's import nor a server that is down. That process stays a while for the next
stage. What could not be sent stays too, and goes with a later stage or with

    python -m stages.core.tracking
"""

import fcntl
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.core import sender
from stages.core.io import read_json, write_json
from stages.core.params import Params
from stages.core.provenance import flat, lineage, note, outputs
from stages.core.spool import Run, batches, drop, events, is_live, refusal, sidecar
from stages.core.store import NOTE, address, artifacts, client

SPOOL = Path("runs/spool")


@contextmanager
def stage_run(stage: str, params: Params, cell: str = "") -> Iterator[Run]:
    """A run of `stage`, child of the pipeline's run, with the stage's section of params and where it all came from.

    Ends FINISHED, FAILED on an exception, KILLED on Ctrl-C or a kill. FASTDRIVE_TRACKING=spool sends nothing now.
    """
    spool = SPOOL.absolute() / f"{time.time_ns()}-{stage}-{uuid.uuid4().hex[:8]}.jsonl"
    run = Run(spool, _header(stage, params, cell))
    now = os.environ.get("FASTDRIVE_TRACKING") != "spool"
    if now:
        sender.start(spool.parent)
    status = "FINISHED"
    try:
        yield run
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        run.tags({"error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        refusal(spool).unlink(missing_ok=True)
        run.end(status)
        if now:
            sender.wait_until_sent(spool)


def _header(stage: str, params: Params, cell: str) -> dict[str, Any]:
    tree = params.model_dump(mode="json")
    values = flat(stage, tree[stage]) | _of_cell(tree, cell)
    name = os.environ.get("DVC_STAGE") or (f"{stage}@{cell}" if cell else stage)
    tags = lineage(Path.cwd(), name) | ({"cell": cell} if cell else {})
    if "seed" in tree[stage]:
        tags["seed"] = str(tree[stage]["seed"])
    under_dvc = "DVC_STAGE" in os.environ
    return {
        "experiment": params.tracking.experiment,
        "name": name,
        "under_dvc": under_dvc,
        "params": values,
        "tags": tags,
    }


def _of_cell(tree: dict[str, Any], cell: str) -> dict[str, str]:
    parts = (flat(f"{section}.{cell}", tree[section].get(cell, {})) for section in ("pruners", "trained"))
    return {key: value for part in parts for key, value in part.items()}


def send_spooled() -> int:
    """Send now what still waits in the spool; returns how many runs are left."""
    return send_all(_Store(), SPOOL) if any(SPOOL.glob("*.jsonl")) else 0


def send_all(store: "_Store", folder: Path) -> int:
    """Send what every spool of `folder` still holds; returns how many are left. One sender at a time."""
    from mlflow.exceptions import MlflowException

    unsent: list[Path] = []
    said, answers = "", True
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for spool in sorted(folder.glob("*.jsonl")):
            try:
                if answers:
                    _send(store, spool)
                    continue
            except (MlflowException, OSError) as error:
                said = str(error).splitlines()[0][:300]
                # A server that refuses one run may take the next; one that is away makes each wait as long.
                answers = getattr(error, "error_code", "INTERNAL_ERROR") != "INTERNAL_ERROR"
            except (KeyError, IndexError, TypeError, ValueError) as error:
                # A damaged spool, or one of another version, is kept and holds up no other.
                said = f"not readable as a spool: {error!r}"[:300]
            print(f"{spool.name}: {said}", file=sys.stderr)
            unsent.append(spool)
            refusal(spool).write_text(said, encoding="utf-8")
    return len(unsent)


def _send(store: "_Store", spool: Path) -> None:
    """Send the unsent events of one run, noting after each batch how far it got. A batch sent again changes nothing."""
    live = is_live(spool)
    done: dict[str, Any] = {"sent": 0}
    if sidecar(spool).is_file():
        done = read_json(sidecar(spool), "python -m stages.core.tracking")
    if "ended" in done:
        return _tag_outputs(store, spool, done)
    header, *rest = events(spool)
    body = header["body"]
    run_id = done["run"] = done.get("run") or store.child(spool.stem, header)
    for batch in batches(rest[done["sent"] :]):
        store.log(run_id, batch)
        done["sent"] += len(batch)
        write_json(sidecar(spool), done)
    ends = [event for event in rest if event["kind"] == "end"]
    if live and not ends:
        return None
    status = ends[0]["body"]["status"] if ends else "KILLED"
    store.end(run_id, status, rest[-1]["ms"] if rest else header["ms"])
    if status != "FINISHED" or not body["under_dvc"]:
        return drop(spool)
    done |= {"ended": ends[0]["ms"] / 1000, "stage": body["name"]}
    write_json(sidecar(spool), done)
    return _tag_outputs(store, spool, done)  # sent late, the lock may long be there


def _tag_outputs(store: "_Store", spool: Path, done: dict[str, Any]) -> None:
    """DVC hashes the outputs after the stage has ended: the hashes are added when its lock is newer than that."""
    if sender.lock_newer_than(done["ended"]):
        store.log(done["run"], [{"kind": "tags", "ms": 0, "step": 0, "body": outputs(Path.cwd(), done["stage"])}])
        drop(spool)


class _Store:
    """The MLflow side. Every call may be repeated: runs are found by tag, equal metrics are one row, files replaced."""

    def __init__(self) -> None:
        self.artifacts = artifacts()
        self.client: Any = client(address())

    def child(self, spool_id: str, header: dict[str, Any]) -> str:
        """The run of a spool and its parent, found or made."""
        from mlflow.entities import Param

        body, tags = header["body"], header["body"]["tags"]
        experiment = self._experiment(body["experiment"])
        shared = {
            key: tags[key] for key in tags if key.startswith(("git.", "params.", "env.", "pipeline.", "prefect."))
        }
        pipeline = shared["pipeline.fingerprint"]
        mark = {"pipeline.parent": pipeline}
        about = {NOTE: note(shared)}
        parent = self._run(experiment, mark, shared | about, f"pipeline {pipeline[:8]}", header["ms"])
        own = tags | {"mlflow.parentRunId": parent, NOTE: note(tags, report=tags["dvc.stage"] == "make_report")}
        run_id = self._run(experiment, {"spool.id": spool_id}, own, body["name"], header["ms"])
        self.client.update_run(parent, status="RUNNING")
        params = [Param(key, value) for key, value in body["params"].items()]
        for at in range(0, len(params), 100):  # MLflow's bound
            self.client.log_batch(run_id, params=params[at : at + 100])
        return run_id

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        return found.experiment_id if found else self.client.create_experiment(name, self.artifacts)

    def _run(self, experiment: str, mark: dict[str, str], tags: dict[str, str], name: str, ms: int) -> str:
        ((key, value),) = mark.items()
        found = self.client.search_runs([experiment], f"tags.`{key}` = '{value}'", max_results=1)
        if found:
            return found[0].info.run_id
        return self.client.create_run(experiment, ms, tags | mark, name).info.run_id

    def log(self, run_id: str, batch: list[dict[str, Any]]) -> None:
        """One batch of events of one kind."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag

        kind, body = batch[0]["kind"], batch[0]["body"]
        if kind == "metrics":
            numbers = [Metric(k, v, e["ms"], e["step"]) for e in batch for k, v in e["body"].items()]
            for at in range(0, len(numbers), 1000):
                self.client.log_batch(run_id, metrics=numbers[at : at + 1000])
        elif kind == "tags":
            self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in body.items()])
        elif kind == "table" and body["file"] not in {file.path for file in self.client.list_artifacts(run_id)}:
            self.client.log_table(run_id, body["columns"], body["file"])  # a second call would append the rows
        elif kind == "artifact" and Path(body["path"]).is_dir():
            self.client.log_artifacts(run_id, body["path"], os.path.join(body["folder"], Path(body["path"]).name))
        elif kind == "artifact" and Path(body["path"]).is_file():
            self.client.log_artifact(run_id, body["path"], body["folder"] or None)
        elif kind == "dataset":
            source = json.dumps({"uri": body["path"]})
            data = Dataset(body["name"], body["digest"], source_type="local", source=source)
            tag = InputTag("mlflow.data.context", body["context"])
            self.client.log_inputs(run_id, [DatasetInput(data, [tag])])

    def end(self, run_id: str, status: str, ms: int) -> None:
        """Close the run; the pipeline's run shows how its latest stage ended."""
        parent = self.client.get_run(run_id).data.tags["mlflow.parentRunId"]
        for closed in (run_id, parent):
            self.client.set_terminated(closed, status, ms)


if __name__ == "__main__":
    SPOOL.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:] == ["follow"]:
        mlflow = _Store()
        sender.follow(SPOOL, lambda: send_all(mlflow, SPOOL))
    else:
        sys.exit(send_spooled() > 0)
