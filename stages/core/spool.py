"""What a run recorded, as lines of JSON in `runs/spool`: sent by stages/core/tracking.py."""

import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import md5
from itertools import groupby
from pathlib import Path
from typing import Any

from stages.core.errors import MachineError
from stages.core.io import MANIFEST
from stages.core.progress import note
from stages.core.secrets import masked

KEY = re.compile(r"[\w\-. :/]{1,250}")  # what MLflow takes as a name


class Run:
    """What a stage may record. Nothing here waits for a server."""

    def __init__(self, spool: Path, header: dict[str, Any]) -> None:
        spool.parent.mkdir(parents=True, exist_ok=True)
        self._copies = spool.with_suffix(".files")
        self._file = open(spool.with_suffix(".new"), "a", encoding="utf-8")  # noqa: SIM115 (closed by end)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # held while the run lives: a sender tells a killed run by it
        try:
            self._append("start", header)
        except MachineError:
            with suppress(OSError):  # the words that found no room are still to be written
                self._file.close()
            spool.with_suffix(".new").unlink()
            raise
        os.rename(spool.with_suffix(".new"), spool)  # a sender never meets it unlocked or empty

    def metrics(self, values: Mapping[str, float | int], step: int | None = None) -> None:
        """Numbers, of a training step where `step` is given; some stand beside its progress.

        Raises ValueError for a name that MLflow refuses.
        """
        self._append("metrics", {_checked(key): float(value) for key, value in values.items()}, step=step or 0)
        note(values)

    def tags(self, values: Mapping[str, str]) -> None:
        """Words about the run."""
        self._append("tags", {_checked(key): str(value)[:5000] for key, value in values.items()})

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table under `<name>.json`, once per run and name; `rows` have equal keys."""
        columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}
        self._append("table", {"file": f"{_checked(name)}.json", "columns": columns})

    def artifact(self, path: Path, folder: str = "") -> None:
        """A file or a folder, as it is now: later changes are not seen."""
        copy = self._copies / uuid.uuid4().hex[:8] / path.name
        copy.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, copy, copy_function=_link)
        else:
            _link(path, copy)
        self._append("artifact", {"path": str(copy), "folder": folder})

    def figure(self, path: Path) -> None:
        """A picture, under `figures/`."""
        self.artifact(path, "figures")

    def dataset(self, name: str, path: Path, context: str) -> None:
        """A data set that went in, by the md5 of its manifest (or of the file); `context`: training, evaluation."""
        proof = path / MANIFEST if path.is_dir() else path
        digest = md5(proof.read_bytes(), usedforsecurity=False).hexdigest()
        self._append("dataset", {"name": name, "path": str(path), "digest": digest, "context": context})

    def end(self, status: str) -> None:
        """The last event: FINISHED, FAILED or KILLED."""
        self._append("end", {"status": status})
        fcntl.flock(self._file, fcntl.LOCK_UN)  # explicit: a forked worker may still hold the descriptor
        self._file.close()

    def _append(self, kind: str, body: Mapping[str, Any], step: int = 0) -> None:
        event = {"kind": kind, "ms": time.time_ns() // 1_000_000, "step": step, "body": masked(body)}
        try:
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()
        except OSError as error:
            raise MachineError(
                expected=f"room to write {self._file.name}", got=str(error), fix="free some space and run again"
            ) from error


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no name MLflow takes: letters, digits, and _ - . : / blank")
    return key


def _link(source: str | Path, copy: str | Path) -> None:
    """A second name for the same bytes: our writers replace files and never write into one."""
    try:
        os.link(source, copy)
    except OSError:
        shutil.copyfile(source, copy)


def is_live(spool: Path) -> bool:
    """Whether the process that writes `spool` still runs."""
    try:
        with open(spool, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # sent meanwhile
        return False
    return False


def events(spool: Path) -> list[dict[str, Any]]:
    """The events so far; a last line cut short by a kill is left out."""
    lines = spool.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def batches(rest: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Neighbouring metrics together, at most 1,000 numbers (MLflow's bound); everything else alone."""
    for kind, group in groupby(rest, key=lambda event: event["kind"]):
        batch: list[dict[str, Any]] = []
        for event in group:
            size = sum(len(other["body"]) for other in batch)
            if batch and (kind != "metrics" or size + len(event["body"]) > 1000):
                yield batch
                batch = []
            batch.append(event)
        yield batch


def refusal(spool: Path) -> Path:
    """The file that says why `spool` could not be sent."""
    return spool.with_suffix(".refused")


def sidecar(spool: Path) -> Path:
    """The file that says how much of `spool` is sent."""
    return spool.with_suffix(".sent.json")


def drop(spool: Path) -> None:
    """Remove a spool that is sent, its copies first and the events last."""
    shutil.rmtree(spool.with_suffix(".files"), ignore_errors=True)
    for path in (spool, sidecar(spool), refusal(spool)):
        path.unlink(missing_ok=True)
