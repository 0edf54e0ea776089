"""Record a stage's run in MLflow: one store for all, the checkout's `mlflow.db` unless MLFLOW_TRACKING_URI is set.

A stage appends to `runs/unsent/<time>-<stage>.jsonl` and sends that file itself: every few seconds in training, else at
its end. A short stage of `dvc repro` leaves it to a later one: importing MLflow takes seconds. What the store did not
take goes with the next stage or `fastdrive doctor --fix`. Sending twice changes nothing. Start at `stage_run`.
"""

import fcntl
import json
import logging
import os
import re
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import md5
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, MachineError, masked
from stages.core.io import MANIFEST, lock, write_text
from stages.core.params import Params, flat
from stages.core.progress import note
from stages.core.provenance import describe, lineage, user

log = logging.getLogger(__name__)

UNSENT = Path("runs/unsent")
PATIENCE_S = 5  # how long a store may take to answer
SEND_EVERY_S = 5  # in training
RETRY_AFTER_S = 600  # in training, after the store did not answer
SHORT_S = 60  # a stage of DVC that ended well within this time lets a later one send
LAST = "make_report"  # after all others in dvc.yaml
SQLITE = "sqlite:///"
FILES = "mlartifacts"  # beside the SQLite file
PLACES = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)
NOTE = "mlflow.note.content"  # shown by MLflow's pages as description
KEY = re.compile(r"[\w\-. :/]{1,250}")  # names that MLflow takes


def checkout_root() -> Path:
    """Return the working directory, or the checkout that a workspace of `dvc exp run --temp` belongs to."""
    cwd = Path.cwd()
    return next((folder.parent for folder in cwd.parents if folder.name == ".dvc"), cwd)


def store_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite file of the checkout, which is made when it is missing."""
    return os.environ.get("MLFLOW_TRACKING_URI", "") or f"{SQLITE}{database(checkout_root())}"


def database(root: Path) -> Path:
    """Return the SQLite file of a checkout, made under another name: MLflow cannot repair one that is half made."""
    path, unfinished = root / "mlflow.db", root / f"mlflow.db.{os.getpid()}.tmp"
    if path.exists():
        _adopt(path)
    else:
        client(f"{SQLITE}{unfinished}").search_experiments(max_results=1)
        unfinished.replace(path)
    return path


def _adopt(path: Path) -> None:
    """Point a store that was copied or moved with its checkout to the files beside it, not to the first one's."""
    here = (path.absolute().parent / FILES).as_uri()
    with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as store, store:
        for (place,) in store.execute(
            f"SELECT artifact_location FROM experiments WHERE artifact_location LIKE '%/{FILES}'"
        ):
            for table, column in PLACES if place != here else ():
                store.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (place, here))


def local_aliases(name: str) -> dict[str, str] | None:
    """Return alias -> version of a registered model from the checkout's SQLite file, without MLflow; None elsewhere."""
    path = checkout_root() / "mlflow.db"
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as store:
        return dict(store.execute("SELECT alias, version FROM registered_model_aliases WHERE name = ?", (name,)))


def client(uri: str) -> Any:
    """Return MLflow's client of the store at `uri`: short waits, no telemetry, no pickle. The import takes seconds."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # 7 by default: 245 s on a closed port
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE_S))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"  # loading a pickled model runs any code in it
    from mlflow import MlflowClient

    return MlflowClient(uri)


def experiment_id(client: Any, name: str) -> str:
    """Return the id of the experiment. A new one keeps its files beside the SQLite file, or where a server decides."""
    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    uri = store_uri()
    beside = (Path(uri.removeprefix(SQLITE)).absolute().parent / FILES).as_uri() if SQLITE in uri else None
    return str(client.create_experiment(name, beside))


@contextmanager
def answering(uri: str, purpose: str) -> Iterator[None]:
    """Turn MLflow's refusals into DataError and a store that is away into MachineError, both naming `purpose`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        got, expected = masked(_first_line(error)), f"{purpose} in {masked(uri)}"
        code = getattr(error, "error_code", "INTERNAL_ERROR")
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            fix = "export MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD as that server has them"
            raise MachineError(expected=f"permission for {expected}", got=got, fix=fix) from error
        if code == "INTERNAL_ERROR":
            fix = "start the server, or set MLFLOW_TRACKING_URI, and run the same command again"
            raise MachineError(expected=expected, got=got, fix=fix) from error
        fix = f"look it up: `mlflow ui --backend-store-uri {masked(uri)}`; or set MLFLOW_TRACKING_URI"
        raise DataError(expected=expected, got=got, fix=fix) from error


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0][:300]


@contextmanager
def stage_run(stage: str, params: Params, cell: str = "") -> Iterator["Run"]:
    """Record a run of `stage`, child of the pipeline's run, with the stage's params and its provenance.

    Ends FINISHED, FAILED on an exception, KILLED on Ctrl-C or a kill. FASTDRIVE_TRACKING=later sends nothing now.
    """
    path = checkout_root() / UNSENT / f"{time.time_ns()}-{stage}-{uuid.uuid4().hex[:8]}.jsonl"
    tree = params.model_dump(mode="json")
    values = flat(stage, tree[stage])
    for section in ("pruners", "trained"):
        values |= flat(f"{section}.{cell}", tree[section].get(cell, {}))
    cells = f"{stage}@{cell}" if cell else stage
    made_by = os.environ.get("DVC_STAGE") or cells
    name = made_by if made_by.endswith(f"@{cell}") else cells
    tags = lineage(Path.cwd(), made_by) | ({"cell": cell} if cell else {})
    tags |= {"mlflow.source.name": f"dvc repro {made_by}", "mlflow.source.type": "LOCAL", "mlflow.user": user()}
    if "seed" in tree[stage]:
        tags["seed"] = str(tree[stage]["seed"])
    run = Run(path, {"experiment": params.tracking.experiment, "name": name, "params": values, "tags": tags})
    began_s, status = time.monotonic(), "FINISHED"
    try:
        yield run
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        run.tags({"error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        short = "DVC_STAGE" in os.environ and time.monotonic() - began_s < SHORT_S
        run.end(status, send=status != "FINISHED" or stage == LAST or not short)


class Run:
    """The recorder of one stage. What it takes is on disk at once; a training's numbers are in the store in seconds.

    The file stays locked while the run lives, so that nobody else sends it or takes it for killed.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self._copies = path, path.with_suffix(".files")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sender: _Sender | None = None
        self._warned = False
        self._send_at_s = time.monotonic() + SEND_EVERY_S
        new = path.with_suffix(".new")
        write_text(new, self._line("start", header))
        self._file = open(new, "a", encoding="utf-8")  # noqa: SIM115 (closed by end)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.rename(new, path)  # nobody meets it unlocked or empty

    def metrics(self, values: Mapping[str, float | int], step: int | None = None) -> None:
        """Record numbers, of a training step if `step` is given. Raises ValueError for a name that MLflow refuses."""
        self._append("metrics", {_checked(key): float(value) for key, value in values.items()}, step=step or 0)
        note(values)
        if step is not None and time.monotonic() >= self._send_at_s:
            self._send()

    def tags(self, values: Mapping[str, str]) -> None:
        """Record text about the run."""
        self._append("tags", {_checked(key): str(value)[:5000] for key, value in values.items()})

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record a table as `<name>.json`, once per run and name; `rows` have equal keys."""
        columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}
        self._append("table", {"file": f"{_checked(name)}.json", "columns": columns})

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file or a folder as it is now: later changes are not seen."""
        copy = self._copies / uuid.uuid4().hex[:8] / path.name
        copy.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, copy, copy_function=_link_or_copy)
        else:
            _link_or_copy(path, copy)
        self._append("artifact", {"path": str(copy.parent), "folder": folder})

    def dataset(self, name: str, path: Path, context: str) -> None:
        """Record a data set as input, by the md5 of its manifest (or of the file); `context`: training, evaluation."""
        manifest = path / MANIFEST if path.is_dir() else path
        digest = md5(manifest.read_bytes(), usedforsecurity=False).hexdigest()
        self._append("dataset", {"name": name, "path": str(path), "digest": digest, "context": context})

    def end(self, status: str, send: bool = True) -> None:
        """Record FINISHED, FAILED or KILLED; with `send`, or where some is sent already, send all that waits."""
        self._append("end", {"status": status})
        again = not self._warned or time.monotonic() >= self._send_at_s
        if (send or self._sender) and again and self._send():
            _drop(self.path)
            send_unsent()
        fcntl.flock(self._file, fcntl.LOCK_UN)  # explicit: a forked worker may still hold the descriptor
        self._file.close()

    def _send(self) -> bool:
        """Send what is new and return True; where that fails, warn once and keep the file for the next stage."""
        if os.environ.get("FASTDRIVE_TRACKING") == "later":
            return False
        try:
            self._sender = self._sender or _Sender(self.path)
            self._sender.send()
        except Exception as error:  # a store that is away, full or of another version must not fail the stage
            if not self._warned:
                text = "tracking: %s; kept in %s, next: `fastdrive doctor --fix`"
                log.warning(text, masked(_first_line(error)), self.path.parent)
            self._sender, self._warned = None, True
        self._send_at_s = time.monotonic() + (SEND_EVERY_S if self._sender else RETRY_AFTER_S)
        return self._sender is not None

    def _append(self, kind: str, body: Mapping[str, Any], step: int = 0) -> None:
        try:
            self._file.write(self._line(kind, body, step))
            self._file.flush()
        except OSError as error:
            expected = f"room to write {self._file.name}"
            raise MachineError(expected=expected, got=str(error), fix="free some space and run again") from error

    @staticmethod
    def _line(kind: str, body: Mapping[str, Any], step: int = 0) -> str:
        event = {"kind": kind, "ms": time.time_ns() // 1_000_000, "step": step, "body": masked(body)}
        return json.dumps(event) + "\n"


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no name MLflow takes: letters, digits, and _ - . : / blank")
    return key


def _link_or_copy(source: str | Path, copy: str | Path) -> None:
    """Give the same bytes a second name: our writers replace files and never write into one."""
    try:
        os.link(source, copy)
    except OSError:
        shutil.copyfile(source, copy)


def unsent(root: Path) -> list[Path]:
    """Return the files of ended or killed runs that the store does not have yet, oldest first."""
    waiting = []
    for path in sorted((root / UNSENT).glob("*.jsonl")):
        with suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
            waiting += [path] * lock(file, path)
    return waiting


def send_unsent(root: Path | None = None) -> int:
    """Send the runs that wait, unended ones as KILLED; return how many are left, after one warning for all of these."""
    root, error = root or checkout_root(), None
    for path in unsent(root):
        try:
            with open(path, encoding="utf-8") as file:
                if lock(file, path):  # not another process that sends it
                    _Sender(path).send(killed=True)
                    _drop(path)
        except FileNotFoundError:  # another process has sent it
            continue
        except Exception as reason:  # a damaged file, or one of another version, is kept and blocks no other
            error = reason
            if getattr(reason, "error_code", "") == "INTERNAL_ERROR":
                break  # the store is away
    left = len(unsent(root))
    if error is not None:
        log.warning("tracking: %d runs not sent (%s); kept in %s", left, _first_line(error), root / UNSENT)
    return left


def _drop(path: Path) -> None:
    """Remove the file of a run that is sent, its copies first."""
    shutil.rmtree(path.with_suffix(".files"), ignore_errors=True)
    path.unlink(missing_ok=True)


class _Sender:
    """Brings a run's file into MLflow. Repeating changes nothing: runs are found by tag, equal metrics are one row."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, 0
        self.client = client(store_uri())
        self.run_id = self.parent_id = ""
        self._headline = False  # its numbers are those of the whole pipeline

    def send(self, killed: bool = False) -> None:
        """Send the events since the last call; `killed`: nobody will add the end of a run without one."""
        from mlflow.entities import Metric

        with open(self.path, "rb") as file:
            file.seek(self.offset)
            lines = [line for line in file if line.endswith(b"\n")]  # a kill may cut the last one short
        events = [json.loads(line) for line in lines]
        if killed and events[-1]["kind"] != "end":
            events.append({"kind": "end", "ms": events[-1]["ms"], "body": {"status": "KILLED"}})
        for event in events:
            self._log(event["kind"], event["body"], event["ms"])
        rows = [event for event in events if event["kind"] == "metrics"]
        numbers = [Metric(key, value, row["ms"], row["step"]) for row in rows for key, value in row["body"].items()]
        for at in range(0, len(numbers), 1000):  # MLflow's bound
            for run_id in (self.run_id, self.parent_id)[: 1 + self._headline]:
                self.client.log_batch(run_id, metrics=numbers[at : at + 1000])
        for end in (event for event in events if event["kind"] == "end"):
            for run_id in (self.run_id, self.parent_id):  # the pipeline's run shows how its latest stage ended
                self.client.set_terminated(run_id, end["body"]["status"], end["ms"])
        self.offset += sum(map(len, lines))

    def _log(self, kind: str, body: dict[str, Any], ms: int) -> None:
        """Log one event that is neither numbers nor the end."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, RunTag

        run_id = self.run_id
        if kind == "start":
            self._start(body, ms)
        elif kind == "tags":
            self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in body.items()])
        elif kind == "table" and body["file"] not in {file.path for file in self.client.list_artifacts(run_id)}:
            self.client.log_table(run_id, body["columns"], body["file"])  # a second call would append the rows
        elif kind == "artifact" and Path(body["path"]).is_dir():
            self.client.log_artifacts(run_id, body["path"], body["folder"] or None)
        elif kind == "dataset":
            data = Dataset(body["name"], body["digest"], "local", json.dumps({"uri": body["path"]}))
            tag = InputTag("mlflow.data.context", body["context"])
            self.client.log_inputs(run_id, [DatasetInput(data, [tag])])

    def _start(self, body: dict[str, Any], ms: int) -> None:
        from mlflow.entities import Param

        where, tags = experiment_id(self.client, body["experiment"]), body["tags"]
        prefixes = ("git.", "params.", "env.", "pipeline.", "prefect.")
        shared = {key: value for key, value in tags.items() if key.startswith(prefixes)}
        shared[NOTE] = describe(shared)
        pipeline = tags["pipeline.fingerprint"]
        self.parent_id = self._find(where, "pipeline.parent", pipeline, shared, shared["pipeline.name"], ms)
        self._headline = body["name"] == LAST
        own = tags | {"mlflow.parentRunId": self.parent_id, NOTE: describe(tags)}
        self.run_id = self._find(where, "file.id", self.path.stem, own, body["name"], ms)
        self.client.update_run(self.parent_id, status="RUNNING")
        params = [Param(key, value) for key, value in body["params"].items()]
        for run_id in (self.run_id, self.parent_id):
            for at in range(0, len(params), 100):  # MLflow's bound
                self.client.log_batch(run_id, params=params[at : at + 100])

    def _find(self, experiment: str, key: str, value: str, tags: dict[str, str], name: str, ms: int) -> str:
        found = self.client.search_runs([experiment], f"tags.`{key}` = '{value}'", max_results=1)
        run = found[0] if found else self.client.create_run(experiment, ms, tags | {key: value}, name)
        return str(run.info.run_id)
